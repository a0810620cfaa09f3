"""What a file holds, whatever it is called: JSON or lines of numbers, packed by gzip or not."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError

Array = NDArray[np.float64]

_GZIP = b"\x1f\x8b"


def read_text(path: Path) -> str:
    """Return the text of a file, unpacked if gzip packed it; `DataError` says why it can't be read."""
    try:
        data = path.read_bytes()
        if data[:2] == _GZIP:
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"can't read '{path}': {reason}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is no text: {error}. Wanted lines x, y, w, h, or JSON") from error


def is_json(text: str) -> bool:
    """Return whether a text is meant as JSON: an object or a list."""
    return text.lstrip()[:1] in ("{", "[")


def parse_json(text: str, path: Path) -> Any:
    """Return what a text holds; `DataError` names file and line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"'{path}', line {error.lineno}, column {error.colno}: not JSON ({error.msg})"
        ) from error


def boxes_of(rows: Any, where: str) -> Array:
    """Return boxes (N, 4) x, y, w, h from a list of lists.

    Args:
        rows: what the JSON file holds.
        where: file and place in it, for messages.

    Raises:
        DataError: it isn't a list of four numbers a frame, or is empty.
    """
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{where}: wanted a list of boxes [x, y, w, h], one a frame; found {_short(rows)}")
    boxes = _as_array(rows)
    if boxes is not None:
        return boxes
    for number, row in enumerate(rows, start=1):
        numbers = isinstance(row, list) and all(type(value) in (int, float) for value in row)
        if not numbers or len(row) != 4:
            raise DataError(f"{where}, box {number}: wanted [x, y, w, h], found {_short(row)}{_polygon(row)}")
    return np.array(rows, dtype=np.float64)


def _as_array(rows: list[Any]) -> Array | None:
    """Return rows of four numbers as an array, None for anything else."""
    try:
        values = np.array(rows)
    except ValueError:  # rows of different lengths
        return None
    plain = values.dtype.kind in "if" and values.shape == (len(rows), 4)
    return values.astype(np.float64) if plain else None


def _polygon(row: Any) -> str:
    corners = isinstance(row, list) and len(row) == 8
    return ". Eight numbers are the corners of a polygon: score its upright box" if corners else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
