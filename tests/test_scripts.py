"""The shell scripts: syntax, help, messages; nothing is installed or trained here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [*sorted((ROOT / "tools").glob("*.sh")), ROOT / ".ci" / "run"]


def bash(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", *arguments], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses(script: Path) -> None:
    done = bash("-n", str(script))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["demo.sh", "test.sh"])
def test_help_tells_the_usage(name: str) -> None:
    done = bash(f"tools/{name}", "--help")
    assert done.returncode == 0
    assert f"bash tools/{name}" in done.stdout
    assert "set -" not in done.stdout, "the help ends where the script begins"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "x"], "--seed needs a number of at least 0; found 'x'"),
        (["--out"], "--out needs a folder"),
        (["--config"], "--config needs the name of a configuration"),
        (["--fast"], "unknown option '--fast'; see bash tools/demo.sh --help"),
    ],
)
def test_demo_refuses_wrong_options(arguments: list[str], message: str) -> None:
    done = bash("tools/demo.sh", *arguments)
    assert done.returncode != 0
    assert message in done.stderr


def test_a_python_that_does_not_fit_is_named() -> None:
    done = bash("-c", "source tools/setup_env.sh; _find_python", PYTHON="/bin/false")
    assert done.returncode != 0
    assert "PYTHON=/bin/false" in done.stderr and "Python 3.10, 3.11 or 3.12 is needed" in done.stderr


def test_a_machine_without_python_gets_a_hint() -> None:
    done = bash("-c", "source tools/setup_env.sh; PATH=/nonexistent; _find_python", PYTHON="")
    assert done.returncode != 0
    assert "Python 3.10, 3.11 or 3.12 is needed" in done.stderr
    assert "PYTHON=/path/to/python3.11" in done.stderr


def test_data_folders_have_defaults_that_the_environment_overrides() -> None:
    tell = "source tools/setup_env.sh; echo $MTLTRACK_DATA; echo $MTLTRACK_REFERENCES"
    given = bash("-c", tell, MTLTRACK_DATA="/a", MTLTRACK_REFERENCES="/b").stdout.split()
    assert given == ["/a", "/b"]
    default = bash("-c", tell, MTLTRACK_DATA="", MTLTRACK_REFERENCES="").stdout.split()
    wanted = [ROOT.parent / "shared" / "data", ROOT.parent / "shared" / "parity"]
    assert [Path(path).resolve() for path in default] == [path.resolve() for path in wanted]


def test_ci_runs_the_same_command_as_people() -> None:
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "tools/" in line]
    assert commands == ["exec bash tools/test.sh"]
