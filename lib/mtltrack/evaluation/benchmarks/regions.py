"""Reading the ground truth of VOT: rectangles, rotated boxes and other polygons, masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError

Array = NDArray[np.float64]

_ABSENT = np.full(4, np.nan)


def read_regions(path: Path) -> Array:
    """Return the boxes (N, 4) x, y, w, h around the regions of a file, one a line; NaN without a target.

    A line is one of

    - x,y,w,h;
    - a polygon x1,y1,x2,y2,... of three corners or more: its box goes from the least to the greatest
      coordinates, which is how published trackers are run on VOT;
    - a mask m<x>,<y>,<w>,<h>,<runs>: runs of 0 and 1 in turn, row by row, in the rectangle x, y, w, h. Its
      box holds the pixels that are 1;
    - one number, a special region: there is no target.

    Raises:
        DataError: a file that can't be read, or a line of another kind; it names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't read '{path}': {error}") from error
    if not lines:
        raise DataError(f"'{path}' is empty; wanted a region for each frame")
    return np.array([_box(line.strip(), f"'{path}', line {n}") for n, line in enumerate(lines, start=1)])


def _box(line: str, where: str) -> Array:
    is_mask = line.startswith("m")
    try:
        values = np.array([float(word) for word in line.removeprefix("m").replace(",", " ").split()])
    except ValueError:
        values = np.empty(0)
    if is_mask and len(values) >= 4 and (values == np.round(values)).all():
        return _mask_box(values.astype(np.int64), where)
    if not is_mask and len(values) == 1:
        return _ABSENT
    if not is_mask and len(values) == 4:
        return values if np.isfinite(values).all() else _ABSENT
    if not is_mask and len(values) >= 6 and len(values) % 2 == 0:
        low, high = values.reshape(-1, 2).min(axis=0), values.reshape(-1, 2).max(axis=0)
        return np.concatenate([low, high - low])
    raise DataError(
        f"{where}: wanted x,y,w,h, a polygon x1,y1,x2,y2,... or a mask m<x>,<y>,<w>,<h>,<runs>; found "
        f"'{line[:80]}'"
    )


def _mask_box(values: NDArray[np.int64], where: str) -> Array:
    """Return the box of the pixels of a mask: x, y, w, h of its rectangle, then its runs."""
    x, y, width, height = values[:4].tolist()
    runs = values[4:]
    if width < 0 or height < 0 or (runs < 0).any() or runs.sum() > width * height:
        raise DataError(
            f"{where}: the runs of the mask add up to {int(runs.sum())}, but its rectangle has {width} x "
            f"{height} pixels; restore the file"
        )
    flat = np.zeros(width * height, dtype=bool)
    covered = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    flat[: len(covered)] = covered
    rows, columns = np.nonzero(flat.reshape(height, width))
    if len(rows) == 0:
        return _ABSENT
    left, top = columns.min(), rows.min()
    return np.array([x + left, y + top, columns.max() - left + 1, rows.max() - top + 1], dtype=np.float64)
