"""local.yaml: written once, read back, every data set named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mtltrack.cli.create_default_local_file import local_file_text, main, write_local_file
from mtltrack.core import paths
from mtltrack.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MTLTRACK_LOCAL", raising=False)
    monkeypatch.setattr("mtltrack.cli.create_default_local_file.checkout_root", lambda: None)
    return tmp_path


def test_written_file_is_read_back(elsewhere: Path) -> None:
    path = write_local_file("work", "/sets with space", "~/out")
    assert path == elsewhere / "local.yaml"
    settings = paths.local_settings()
    assert settings.file == path
    assert settings.workspace_dir == elsewhere / "work"
    assert settings.data_dir == Path("/sets with space")
    assert settings.save_dir == Path.home() / "out"
    assert settings.pretrained_dir == elsewhere / "work" / "pretrained_models"


def test_every_commented_root_is_valid_once_uncommented() -> None:
    text = local_file_text(".", "./data", "./output")
    active = re.sub(r"^  # (\w+: )", r"  \1", text, flags=re.M)
    roots = yaml.safe_load(active)["roots"]
    assert roots["lasot_lmdb"] == "./data/lasot_lmdb"
    assert roots["got10k_test"] == "./data/got10k"
    assert set(roots) == {key for group in paths.known_roots().values() for key in group}


def test_existing_file_is_kept_without_force(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_local_file(".", "./data", "./output")
    with pytest.raises(
        ConfigError, match=r"local\.yaml exists already; edit it, or overwrite it with --force"
    ):
        write_local_file(".", "./other", "./output")
    assert main(["--data_dir", "./other"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert "./other" not in path.read_text()
    assert main(["--data_dir", "./other", "--force"]) == 0
    assert paths.local_settings().data_dir == elsewhere / "other"


def test_folder_that_does_not_exist(elsewhere: Path) -> None:
    with pytest.raises(ConfigError, match="can't be written"):
        write_local_file(".", "./data", "./output", path=elsewhere / "none" / "local.yaml")


def test_script_accepts_the_published_flags() -> None:
    command = [sys.executable, str(ROOT / "tracking" / "create_default_local_file.py"), "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for flag in ("--workspace_dir", "--data_dir", "--save_dir"):
        assert flag in text
