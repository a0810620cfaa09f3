"""Zones: named polygons in frame pixels, where a vehicle must not stand; reading and checking them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError

Zones = Mapping[str, NDArray[np.float64]]
FLAT = 1e-9  # a polygon thinner than this share of its length has no area
_EXAMPLE = '{"no parking": [[10, 20], [200, 20], [200, 90], [10, 90]]}'


def read_zones(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """Read a zones.json: {name: [[x, y], ...]} in 0-based frame pixels.

    Args:
        path: the file.

    Returns:
        name -> (V, 2) corners, V >= 3, in the file's order.

    Raises:
        DataError: no such file, no JSON, or a zone that is no simple polygon; names file, line and zone.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: the zones can't be read ({error}). Give a JSON file like {_EXAMPLE}"
        ) from error
    return parse_zones(text, str(path))


def parse_zones(text: str, name: str) -> dict[str, NDArray[np.float64]]:
    """Read the text of a zones.json; `name` is what messages call the file. See `read_zones`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                where = f"{name}:{line_of_zone(text, key)}"
                raise DataError(f"{where}: the zone '{key}' stands in the file twice. Rename one of them.")
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise DataError(f"{name}:{error.lineno}: no JSON ({error.msg}). Write {_EXAMPLE}") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{name}:1: zones must be an object of named polygons, found {type(content).__name__}. "
            f"Write {_EXAMPLE}"
        )
    return {
        zone: check_polygon(points, f"{name}:{line_of_zone(text, zone)}: zone '{zone}'")
        for zone, points in content.items()
    }


def line_of_zone(text: str, zone: str) -> int:
    """Return the line, from 1, on which a zone's name stands as a key."""
    spellings = {json.dumps(zone), json.dumps(zone, ensure_ascii=False)}
    pattern = "|".join(re.escape(spelling) for spelling in sorted(spellings))
    found = re.search(rf"(?:{pattern})\s*:", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def check_polygon(points: Any, where: str) -> NDArray[np.float64]:
    """Return a simple polygon's corners, those that repeat the one before (or close the ring) left out.

    Args:
        points: (V, 2) x, y in frame pixels: nested lists or an array.
        where: file, line and zone, the start of every message.

    Returns:
        (V, 2) float64, V >= 3, in the given order.

    Raises:
        DataError: not pairs of finite numbers, fewer than three corners, no area, or it crosses itself.
    """
    corners = _without_repeats(_as_pairs(points, where))
    if len(corners) < 3:
        raise DataError(
            f"{where} has {len(corners)} different corner{'s' * (len(corners) != 1)}; "
            "a polygon needs at least three. Add corners, or take the zone out."
        )
    if _is_flat(corners):
        raise DataError(f"{where} has zero area: its corners lie on one line. Move a corner off the line.")
    crossing = _crossing(corners)
    if crossing is not None:
        first, second = (_edge_name(corners, i) for i in crossing)
        raise DataError(
            f"{where} crosses or touches itself: the edge {first} meets the edge {second}. "
            "List the corners in the order in which one walks around the zone."
        )
    return corners


def _as_pairs(points: Any, where: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(points)
    except ValueError:  # lists of different lengths
        array = np.empty(0, dtype=object)
    if array.size == 0 and isinstance(points, (list, tuple)) and not len(points):
        return np.empty((0, 2))
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[1] != 2:
        raise DataError(f"{where} must be a list of [x, y] pairs of numbers, found {_shortened(points)}.")
    corners = array.astype(np.float64)
    for i, corner in enumerate(corners):
        if not np.isfinite(corner).all():
            raise DataError(
                f"{where} has a corner that isn't finite: number {i + 1} is {corner.tolist()}. Correct it."
            )
    return corners


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _without_repeats(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(corners):
        return corners
    differs = np.any(corners != np.roll(corners, 1, axis=0), axis=1)
    return corners[differs] if differs.any() else corners[:1]


def _is_flat(corners: NDArray[np.float64]) -> bool:
    centred = corners - corners.mean(axis=0)
    longest, thinnest = np.linalg.svd(centred, compute_uv=False)
    return bool(thinnest <= FLAT * longest)


def _crossing(corners: NDArray[np.float64]) -> tuple[int, int] | None:
    """Return the numbers of two edges that share more than the corner between them, or None."""
    count = len(corners)
    ends = np.roll(corners, -1, axis=0)
    for i in range(count):
        for j in range(i + 1, count):
            if j == i + 1 or (i == 0 and j == count - 1):
                before, after = (i, j) if j == i + 1 else (j, i)
                if _folds_back(corners[before], corners[after], ends[after]):
                    return i, j
            elif _meet(corners[i], ends[i], corners[j], ends[j]):
                return i, j
    return None


def _turn(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> float:
    """Return a number whose sign says on which side of the line a-b the point c lies; 0 on it."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _folds_back(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> bool:
    """Say whether the edge b-c runs back along the edge a-b."""
    return _turn(a, b, c) == 0 and float(np.dot(a - b, c - b)) > 0


def _meet(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]
) -> bool:
    """Say whether the segments a-b and c-d have a point in common."""
    turns = np.sign([_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)])
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    touching = zip(turns, ((a, b, c), (a, b, d), (c, d, a), (c, d, b)), strict=True)
    return any(turn == 0 and _between(*points) for turn, points in touching)


def _between(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> bool:
    """Say whether c, on the line through a and b, lies between them."""
    return bool(np.all(np.minimum(a, b) <= c) and np.all(c <= np.maximum(a, b)))


def _edge_name(corners: NDArray[np.float64], i: int) -> str:
    start, end = corners[i], corners[(i + 1) % len(corners)]
    return f"({start[0]:g}, {start[1]:g})-({end[0]:g}, {end[1]:g})"


def polygon_area(polygon: NDArray[np.float64]) -> float:
    """Return the area (pixels^2) of a simple polygon (V, 2), whichever way round it is listed."""
    x, y = (polygon - polygon[0]).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def box_polygon_area(box_xyxy: NDArray[np.float64], polygon: NDArray[np.float64]) -> float:
    """Return the exact area (pixels^2) that a box and a simple polygon, convex or not, have in common.

    The polygon is clipped by the four sides of the box, one after the other (Sutherland & Hodgman,
    "Reentrant polygon clipping", 1974). Where that leaves pieces of a concave polygon joined along a side,
    the joints have no area, so that the area is exact.

    Args:
        box_xyxy: (4,) frame pixels.
        polygon: (V, 2) frame pixels.
    """
    left, top, right, bottom = (float(value) for value in box_xyxy)
    if not (left < right and top < bottom):
        return 0.0
    points = [(float(x), float(y)) for x, y in polygon]
    for axis, limit, sign in ((0, left, 1), (0, right, -1), (1, top, 1), (1, bottom, -1)):
        points = _clip(points, axis, limit, sign)
        if len(points) < 3:
            return 0.0
    return polygon_area(np.array(points))


def _clip(points: list[tuple[float, float]], axis: int, limit: float, sign: int) -> list[tuple[float, float]]:
    """Keep the part of a polygon where sign * (coordinate - limit) >= 0."""
    kept: list[tuple[float, float]] = []
    before = points[-1]
    depth_before = sign * (before[axis] - limit)
    for point in points:
        depth = sign * (point[axis] - limit)
        if (depth >= 0) != (depth_before >= 0):
            share = depth_before / (depth_before - depth)
            other = before[1 - axis] + share * (point[1 - axis] - before[1 - axis])
            kept.append((limit, other) if axis == 0 else (other, limit))
        if depth >= 0:
            kept.append(point)
        before, depth_before = point, depth
    return kept
