"""When `tools/check_parity.py` fails; the comparisons themselves are the parity check's."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import check_parity
from parity import runs
from parity.models import parse_case
from parity.report import Report

from mtltrack.core.kernels import DEFAULT, ONEDNN, using


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def check(folder: Path) -> int:
    return check_parity.main(["--reference", str(folder), "--threads", "1"])


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of a known form that is found equal."""

    def compare(content: dict[str, object], report: Report) -> None:
        report.value("one", 1.0, 1.0)

    monkeypatch.setattr(check_parity.configs, "compare_config", compare)
    sections = {name: {} for name in ("MODEL", "TRAIN", "DATA", "TEST")}
    (tmp_path / "config.json").write_text(json.dumps(sections))
    return tmp_path


def test_a_folder_of_equal_files_passes(known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(known) == 0
    assert "files found 1, compared 1, damaged 0, not understood 0; 1 values" in capsys.readouterr().out


def test_evaluation_alone(
    known: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (known / "eval").mkdir()
    monkeypatch.setattr(
        check_parity.evaluation, "compare", lambda folder, report: report.value("two", 1.0, 1.0)
    )
    for only, compared in (("eval", "eval"), ("config.json", "config.json")):
        assert check_parity.main(["--reference", str(known), "--threads", "1", "--only", only]) == 0
        said = capsys.readouterr().out
        assert f"{compared}: equal" in said and "compared 1, damaged 0" in said


def test_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path) == 1
    assert "no reference file of a known form was compared" in capsys.readouterr().out
    assert check(tmp_path / "nowhere") == 1
    assert "no folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["new.json", "new.pt"])
def test_a_file_of_no_known_form(known: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name.endswith(".json"):
        (known / name).write_text('{"what": 1}')
    else:
        torch.save({"what": torch.zeros(2)}, known / name)
    assert check(known) == 1
    assert f"compared 1, damaged 0, not understood 1 ({name})" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.json", b"{"),
        ("bad.json", b"\xff\xfe\x00"),
        ("bad.pt", b""),
        ("bad.pt", b"no tensors"),
        ("bad.pt", b"PK\x03\x04 cut off"),
    ],
)
def test_a_damaged_file(known: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (known / name).write_bytes(content)
    assert check(known) == 1
    out, err = capsys.readouterr()
    assert f"{name}: can't be read: " in out and "damaged 1, not understood 0" in out
    assert "compared 1" in out and "Traceback" not in out + err


def test_a_difference_and_a_comparison_that_breaks(
    known: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        check_parity.configs, "compare_config", lambda content, report: report.value("one[/red]", 1.0, 2.0)
    )
    assert check(known) == 1
    assert "one[/red]: difference 1, allowed 0.0002" in capsys.readouterr().out
    monkeypatch.setattr(check_parity.configs, "compare_config", lambda content, report: content["missing"])
    assert check(known) == 1
    assert "KeyError: 'missing'" in capsys.readouterr().out


@pytest.mark.parametrize("kernel", [DEFAULT, ONEDNN])
def test_whole_trackers_take_the_kernel_of_the_comparison(kernel: str) -> None:
    case = parse_case("hip_d4")
    assert case is not None
    with using(kernel):
        assert runs._settings(case).TEST.MATMUL == kernel
