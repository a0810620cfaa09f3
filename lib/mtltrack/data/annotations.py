"""Reading the text files that hold boxes and flags of a sequence."""

from __future__ import annotations

import math
import re

import numpy as np

from mtltrack.core.errors import DataError

_SEPARATOR = re.compile(r"[,;\s]+")
_ABSENT = "nan,nan,nan,nan"


def decode_text(data: bytes, name: str) -> str:
    """Decode a text file (UTF-8, with or without byte-order mark)."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: isn't a UTF-8 text file ({error.reason}). Save it as UTF-8.") from error


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def parse_boxes(text: str, name: str, zero_is_absent: bool = False) -> tuple[np.ndarray, dict[int, str]]:
    """Read one box x,y,w,h a line; separators are commas, semicolons, tabs or spaces.

    Args:
        text: content of the file.
        name: how to call the file in a message.
        zero_is_absent: a box without area says that the target isn't in the frame (LaSOT, GOT-10k,
            TrackingNet), instead of being a fault.

    Returns:
        Boxes (F, 4) float64 as written, NaN for an absent target or a faulty line; and the faults, frame ->
        message. Four NaN are always read as an absent target.
    """
    lines = _lines(text)
    boxes = np.full((len(lines), 4), np.nan)
    faults: dict[int, str] = {}
    for i, line in enumerate(lines):
        where = f"{name}, line {i + 1}"
        try:
            values = [float(part) for part in _SEPARATOR.split(line.strip(",; \t"))]
        except ValueError:
            faults[i] = f"{where}: wanted four numbers x,y,w,h; found {line!r}. Correct the line."
            continue
        if len(values) != 4:
            faults[i] = (
                f"{where}: wanted four numbers x,y,w,h; found {len(values)} in {line!r}. Correct the line."
            )
        elif all(math.isnan(value) for value in values):
            continue
        elif not all(math.isfinite(value) for value in values):
            faults[i] = f"{where}: the box {line!r} isn't finite. Correct it, or write {_ABSENT} if absent."
        elif values[2] > 0 and values[3] > 0:
            boxes[i] = values
        elif not zero_is_absent or min(values[2:]) < 0:
            faults[i] = (
                f"{where}: the box {line!r} has no area (w and h must be above 0). "
                f"Correct it, or write {_ABSENT} for an absent target."
            )
    return boxes, faults


def parse_flags(text: str, name: str, frames: int, boxes_name: str, highest: int | None = None) -> np.ndarray:
    """Read integers, on one line or one a line, separated by commas or spaces.

    Args:
        text: content of the file.
        name: how to call the file in a message.
        frames: how many integers are wanted.
        boxes_name: the file that says so.
        highest: of the integers, which begin at 0; None: any will do.

    Returns:
        (F,) int64.

    Raises:
        DataError: something is no integer or out of range, or the count differs; names the file.
    """
    words = [word for word in _SEPARATOR.split(text.strip()) if word]
    try:
        flags = np.array([int(float(word)) for word in words], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{name}: wanted one number a frame, {error}. Correct the file.") from error
    same_count(name, len(flags), boxes_name, frames)
    wrong = np.flatnonzero((flags < 0) | (flags > highest)) if highest is not None else ()
    if len(wrong):
        raise DataError(
            f"{name}: number {wrong[0] + 1} is {flags[wrong[0]]}; allowed: 0 to {highest}. Correct the file."
        )
    return flags


def same_count(name: str, found: int, other: str, wanted: int) -> None:
    """Raise DataError unless two files of a sequence speak of the same number of frames."""
    if found != wanted:
        raise DataError(
            f"{name}: has {found} entries, but {other} has {wanted}. "
            "One of them is incomplete: restore it, or remove the sequence."
        )
