"""Result files: where they lie, how they are written and read.

Layout: `<results>/<tracker_name>/<tracker_param>[_%03d]/[got10k/|trackingnet/]<seq>.txt`, with
`<seq>_time.txt` (seconds a frame) and, where the tracker answers more than a box, `<seq>.tasks.jsonl` beside
it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError

Array = NDArray[np.float64]

SUBFOLDERS = {
    "got10k_test": "got10k",
    "got10k_val": "got10k",
    "got10k_ltrval": "got10k",
    "trackingnet": "trackingnet",
}
_SEPARATORS = re.compile(r"[,;\s]+")
_TO_BLANKS = str.maketrans(",;\t", "   ")


@dataclass(frozen=True)
class ResultFolder:
    """The folder of one tracker's results on one benchmark.

    Attributes:
        path: holds `<seq>.txt`.
    """

    path: Path

    @classmethod
    def of(
        cls,
        results: Path,
        tracker_name: str,
        tracker_param: str,
        run_id: int | None = None,
        benchmark: str = "",
    ) -> ResultFolder:
        """Return the folder that users of the published trackers expect."""
        run = tracker_param if run_id is None else f"{tracker_param}_{run_id:03d}"
        return cls(results / tracker_name / run / SUBFOLDERS.get(benchmark, ""))

    def boxes(self, sequence: str) -> Path:
        """File of the boxes."""
        return self.path / f"{sequence}.txt"

    def times(self, sequence: str) -> Path:
        """File of the seconds a frame."""
        return self.path / f"{sequence}_time.txt"

    def tasks(self, sequence: str) -> Path:
        """File of what the other heads said, a JSON object a line."""
        return self.path / f"{sequence}.tasks.jsonl"

    def has(self, sequence: str) -> bool:
        """Whether there are boxes of a sequence."""
        return self.boxes(sequence).is_file()

    def read(self, sequence: str) -> Array:
        """Return the boxes (N, 4) x, y, w, h of a sequence."""
        return read_boxes(self.boxes(sequence))

    def where(self, sequence: str) -> Path:
        """File of a sequence's boxes."""
        return self.boxes(sequence)

    def fps(self, sequence: str) -> float | None:
        """Return frames a second of a sequence, None where nobody noted it."""
        path = self.times(sequence)
        return speed_of(path) if path.is_file() else None

    def sequences(self) -> list[str]:
        """Names of the sequences that have boxes here."""
        names = (path.stem for path in self.path.glob("*.txt"))
        return sorted(name for name in names if not name.endswith("_time"))


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole: readers see the old one or the new one, never a part."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as a whole, see `write_text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def format_boxes(boxes_xywh: Array, decimals: int = 0) -> str:
    """Return tab-separated lines x, y, w, h.

    Args:
        boxes_xywh: (N, 4) pixels.
        decimals: 0 truncates towards zero to integers, as the published trackers' files are; more are
            rounded.
    """
    if decimals < 0:
        raise DataError(f"decimals must be 0 or more; found {decimals}")
    if not np.isfinite(boxes_xywh).all():
        row = int(np.argmax(~np.isfinite(boxes_xywh).all(axis=1)))
        raise DataError(
            f"box {row + 1} to be written is {boxes_xywh[row].tolist()}: a tracker must answer numbers"
        )
    if decimals == 0:
        rows = [[str(int(value)) for value in row] for row in boxes_xywh]
    else:
        rows = [[f"{value:.{decimals}f}" for value in row] for row in boxes_xywh]
    return "".join("\t".join(row) + "\n" for row in rows)


def parse_numbers(path: Path, columns: int) -> Array:
    """Read a text file of numbers separated by tabs, commas, semicolons or spaces; empty lines at the end
    don't count.

    Args:
        path: the file.
        columns: numbers a line.

    Returns:
        (N, columns) float64.

    Raises:
        DataError: no such file, or a line that doesn't hold so many numbers; it names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"can't read '{path}': {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not a text file of numbers: {error}") from error
    return parse_lines(text, path, columns)


def parse_lines(text: str, path: Path, columns: int) -> Array:
    """Return the numbers (N, columns) of a text, see `parse_numbers`; `path` is for messages."""
    text = text.rstrip()
    if (values := _load_at_once(text, columns)) is not None:
        return values
    lines = text.splitlines()
    values = np.empty((len(lines), columns))
    for number, line in enumerate(lines):
        words = _SEPARATORS.split(line.strip(" \t,;\r"))
        try:
            values[number] = [float(word) for word in words]
        except ValueError as error:
            wanted = "4 numbers x, y, w, h" if columns == 4 else f"{columns} number(s)"
            raise DataError(f"'{path}', line {number + 1}: wanted {wanted}, found '{line[:80]}'") from error
    return values


def _load_at_once(text: str, columns: int) -> Array | None:
    """Return the numbers of a text whose lines are as wanted, in a third of the time; None for others."""
    plain = text.translate(_TO_BLANKS)
    if {len(line.split()) for line in plain.splitlines()} - {columns}:
        return None
    try:
        return np.array(plain.split(), dtype=np.float64).reshape(-1, columns)
    except ValueError:
        return None


def read_boxes(path: Path) -> Array:
    """Return the boxes (N, 4) x, y, w, h of a result or annotation file, see `parse_numbers`."""
    return _not_empty(parse_numbers(path, 4), path)


def parse_boxes(text: str, path: Path) -> Array:
    """Return the boxes (N, 4) x, y, w, h of a text, see `parse_numbers`; `path` is for messages."""
    return _not_empty(parse_lines(text, path, 4), path)


def _not_empty(boxes: Array, path: Path) -> Array:
    if len(boxes) == 0:
        raise DataError(f"'{path}' is empty; wanted a line x, y, w, h for each frame")
    return boxes


def speed_of(path: Path) -> float | None:
    """Return frames a second from a file of the seconds a frame, None where it says nothing.

    The first frame, which only starts the tracker, doesn't count. The GOT-10k toolkit writes a column for
    each repetition, of which the first is taken.
    """
    try:
        words = [line.replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
        seconds = np.array([float(line[0]) for line in words if line][1:])
    except ValueError as error:
        raise DataError(f"'{path}' holds no seconds, one a line: {error}") from error
    return float(len(seconds) / seconds.sum()) if seconds.sum() > 0 else None


def write_results(
    folder: ResultFolder,
    sequence: str,
    boxes_xywh: Array,
    seconds: Sequence[float],
    tasks: Iterable[dict[str, Any]] | None = None,
    decimals: int = 0,
) -> None:
    """Write one sequence's files; the boxes last, so that their file says that the others are complete.

    Args:
        folder: where to.
        sequence: its name.
        boxes_xywh: (N, 4) pixels, the first is the box that the tracker was started with.
        seconds: N.
        tasks: one JSON object a frame with "frame", counted from 1, or None when there is nothing but boxes.
        decimals: see `format_boxes`.
    """
    text = format_boxes(boxes_xywh, decimals)
    if tasks is None:
        folder.tasks(sequence).unlink(missing_ok=True)
    else:
        write_text(folder.tasks(sequence), "".join(_json_line(item) + "\n" for item in tasks))
    write_text(folder.times(sequence), "".join(f"{value:.6f}\n" for value in seconds))
    write_text(folder.boxes(sequence), text)


def _json_line(item: dict[str, Any]) -> str:
    """Return a frame's object as a line of JSON; `DataError` names the task whose answer JSON can't hold."""
    plain = _plain(item)
    try:
        return json.dumps(plain, allow_nan=False)
    except ValueError as error:
        for task, answer in plain.items():
            if not _is_finite(answer):
                raise DataError(
                    f"frame {item['frame']}: what the task '{task}' answers holds a number that isn't finite "
                    f"({str(answer)[:120]}), which JSON has no word for. Mend its decode or session"
                ) from error
        raise


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _plain(value: Any) -> Any:
    """Turn arrays and tensors into what JSON knows; numbers keep the six digits that single precision has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return float(f"{value:.6g}") if isinstance(value, float) else value


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a `.tasks.jsonl` file; `DataError` names a line that doesn't parse."""
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"'{path}', line {number}: not JSON ({error.msg})") from error
        if not isinstance(item, dict) or not isinstance(item.get("frame"), int):
            raise DataError(f"'{path}', line {number}: wanted an object with 'frame', found '{line[:80]}'")
        items.append(item)
    return items
