"""Formats of result files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.core.rle import decode_mask, encode_mask
from mtltrack.evaluation import results
from mtltrack.evaluation.results import ResultFolder

BOXES = np.array([[1.0, 2.0, 3.0, 4.0], [10.99, -0.99, 5.5, 6.456]])


def test_folders() -> None:
    root = Path("results")
    assert ResultFolder.of(root, "hiptrack", "base").path == root / "hiptrack" / "base"
    assert ResultFolder.of(root, "hiptrack", "base", 7).path == root / "hiptrack" / "base_007"
    assert (
        ResultFolder.of(root, "a", "b", None, "got10k_test").boxes("x")
        == root / "a" / "b" / "got10k" / "x.txt"
    )
    assert ResultFolder.of(root, "a", "b", None, "trackingnet").path.name == "trackingnet"


def test_integers_are_truncated_and_decimals_rounded() -> None:
    assert results.format_boxes(BOXES) == "1\t2\t3\t4\n10\t0\t5\t6\n"
    assert results.format_boxes(BOXES, 2) == "1.00\t2.00\t3.00\t4.00\n10.99\t-0.99\t5.50\t6.46\n"
    with pytest.raises(DataError, match=r"box 2 to be written is \[nan, 1.0, 1.0, 1.0\]"):
        results.format_boxes(np.array([[1.0, 1, 1, 1], [np.nan, 1, 1, 1]]))
    with pytest.raises(DataError, match="decimals must be 0 or more; found -1"):
        results.format_boxes(BOXES, -1)


@pytest.mark.parametrize(
    "text", ["1\t2\t3\t4\n5\t6\t7\t8\n", "1,2,3,4\n5, 6, 7, 8", "1 2  3 4\r\n5 6 7 8\r\n\r\n"]
)
def test_separators(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    assert results.read_boxes(path).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_byte_order_mark_and_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff1.5,2,3e1,4\nNaN,NaN,NaN,NaN\n".encode())
    boxes = results.read_boxes(path)
    assert boxes[0].tolist() == [1.5, 2, 30, 4] and np.isnan(boxes[1]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n1,2,3\n", "line 2: wanted 4 numbers x, y, w, h, found '1,2,3'"),
        ("1,2,3,4\n\n1,2,3,4\n", "line 2: wanted 4 numbers"),
        ("a,b,c,d\n", "line 1: wanted 4 numbers"),
        ("", "is empty; wanted a line x, y, w, h"),
    ],
)
def test_bad_files_name_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        results.read_boxes(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't read '.*a\.txt': No such file"):
        results.read_boxes(tmp_path / "a.txt")


def test_writing_replaces_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    results.write_text(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(results.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        results.write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_task_lines(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    said = [{"frame": 1}, {"frame": 2, "cls": {"probabilities": np.array([0.25, 0.75])}}]
    results.write_results(folder, "a", BOXES, [0.1, 0.2], said)
    assert results.read_tasks(folder.tasks("a"))[1]["cls"] == {"probabilities": [0.25, 0.75]}
    folder.tasks("a").write_text('{"frame": 1}\n{"frame"\n')
    with pytest.raises(DataError, match=r"a\.tasks\.jsonl', line 2: not JSON"):
        results.read_tasks(folder.tasks("a"))
    folder.tasks("a").write_text("[1]\n")
    with pytest.raises(DataError, match="line 1: wanted an object with 'frame'"):
        results.read_tasks(folder.tasks("a"))


def test_answers_of_every_task_come_back_as_they_were(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[5:20, 10:31] = 1
    line = {
        "frame": 2,
        "score": 0.5,
        "cls": {"name": "Normal", "index": 9, "confidence": 0.25},
        "seg": {"mask": encode_mask(mask), "area": 315.0, "confidence": 0.75},
        "plate": {"present": True, "confidence": 0.5, "bbox": [1.5, 2.25, 30.0, 9.0]},
        "ocr": {
            "text": "\u4eacA1",
            "confidence": 0.5,
            "characters": [0.5, 1.0, 0.25],
            "fused": {"text": "\u4eacA12", "confidence": 0.75, "frames": 2},
        },
        "alert": {"alert": False, "stopped": 12.5, "overlap": 0.5, "zone": None, "speed": 0.125},
    }
    folder = ResultFolder(tmp_path)
    results.write_results(folder, "a", BOXES, [0.1, 0.2], [{"frame": 1}, line])
    first, second = results.read_tasks(folder.tasks("a"))
    assert first == {"frame": 1} and second == line
    np.testing.assert_array_equal(decode_mask(second["seg"]["mask"], "here"), mask)


def test_an_answer_that_is_no_number_names_its_task(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    said = [{"frame": 1}, {"frame": 2, "cls": {"a": [1.0]}, "alert": {"speed": [np.float64("nan")]}}]
    with pytest.raises(DataError, match=r"frame 2: what the task 'alert' answers .* isn't finite"):
        results.write_results(folder, "a", BOXES, [0.1, 0.2], said)
    assert not folder.boxes("a").exists()
