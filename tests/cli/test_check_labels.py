"""The command that checks label folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtltrack.cli.check_labels import build_parser, main


def write(folder: Path, name: str, *lines: dict[str, object]) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def test_a_good_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plate = {"bbox": [1, 2, 30, 12], "text": "AB12"}
    write(
        tmp_path,
        "lane[1]",
        {"frame_id": 1, "timestamp": 0.0, "plate": plate},
        {"frame_id": 2, "timestamp": 2.5, "plate": {"bbox": None}, "alert": 0},
    )
    assert main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    row = next(line for line in told.splitlines() if "lane[1]" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        "lane[1]",
        "2",
        "",
        "",
        "1 of 2",
        "1",
        "0 of 1",
        "",
        "2.5 s",
    ]
    assert told.endswith("sequences: 1; faults: 0, in 0 of them\n")


def test_a_faulty_folder_ends_with_status_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "lane", {"frame_id": 1, "alert": 7}, {"frame_id": 0})
    write(tmp_path, "road", {"frame_id": 1, "plate": {"bbox": [1, 2, 30, 12], "text": "京A1"}})
    assert main([str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert f"{tmp_path}/lane/lane.jsonl:1: alert: wanted 0 or 1, found 7. Correct the line" in told
    assert f"{tmp_path}/lane/lane.jsonl:2: frame_id: wanted a whole number" in told
    assert "the plate's text '京A1' has '京'" in told and "sequences: 2; faults: 3, in 2 of them" in told
    assert main([str(tmp_path), "--alphabet", "chinese"]) == 1
    assert "sequences: 2; faults: 2, in 1 of them" in capsys.readouterr().out


def test_wrong_arguments_are_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("error: the folder")
    assert main([str(tmp_path), "--alphabet", "latyn"]) == 1
    assert "Did you mean 'latin'?" in capsys.readouterr().err


def test_help_shows_examples() -> None:
    assert "python tools/check_labels.py data/labels --images data/got10k" in build_parser().format_help()
