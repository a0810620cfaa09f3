"""No-parking zones on the ground, as polygons of the frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.core.stopping import overlap_with_zone
from mtltrack.core.zones import polygon_area
from mtltrack.data.synthetic.traffic.camera import NEAREST
from mtltrack.data.synthetic.traffic.placement import Stage
from mtltrack.data.synthetic.traffic.road import LANE, STRIP
from mtltrack.data.synthetic.traffic.scene import Zone

Array = NDArray[np.float64]
AMPLE = 0.15  # by how much a standing target's overlap is above the threshold
LEAST_AREA = 0.004  # of the frame; smaller zones aren't kept


def draw_zones(
    rng: np.random.Generator, stage: Stage, box: Array, pose: Array, inside: bool, least: float, measure: str
) -> dict[str, Zone] | None:
    """Draw the zones of a sequence.

    Args:
        rng: source of everything random.
        stage: the place.
        box: (4,) xyxy of the target where it stands, or would stand.
        pose: (3,) of it there.
        inside: whether it stands in a zone, or clear of all.
        least: overlap above which it counts as standing in one.
        measure: of core.stopping.MEASURES.

    Returns:
        name -> zone, or None when no such zones fit this view.
    """
    zones = []
    if inside:
        around = _around(rng, stage, box, pose, least, measure)
        if around is None:
            return None
        zones.append(around)
    for _ in range(12):
        if len(zones) == (2 if inside else 1) or (inside and rng.random() < 0.6):
            break
        other = _elsewhere(rng, stage, pose)
        free = other is not None and overlap_with_zone(box, other.polygon, measure) < 0.5 * least
        if other is not None and free:
            zones.append(other)
    if not zones:
        return None
    return {f"zone {k + 1}": zone for k, zone in enumerate(zones)}


def _around(
    rng: np.random.Generator, stage: Stage, box: Array, pose: Array, least: float, measure: str
) -> Zone | None:
    """Return a zone around the target, wide enough for the wanted overlap, or None."""
    before, behind = rng.uniform(2.6, 4.5, 2)
    left, right = rng.uniform(1.2, 2.0, 2)
    away = pose[:2] - stage.camera.position[:2]
    for _ in range(14):
        low = [pose[0] - left, pose[1] - before]
        high = [pose[0] + right, pose[1] + behind]
        zone = _projected(stage, low, high)
        if zone is not None and overlap_with_zone(box, zone.polygon, measure) > min(least + AMPLE, 0.9):
            return zone
        if measure == "iou":  # a smaller zone overlaps more
            before, behind, left, right = (0.9 * value for value in (before, behind, left, right))
            continue
        behind += 0.7 if away[1] > 0 else 0.0  # what lies behind the target in the picture
        left, right = (left + 0.5, right) if away[0] < 0 else (left, right + 0.5)
    return None


def _elsewhere(rng: np.random.Generator, stage: Stage, pose: Array) -> Zone | None:
    """Return a zone somewhere else along one of the kerbs, or None when it can't be seen."""
    kerb = stage.road.right if rng.random() < 0.5 else stage.road.left
    sign = 1 if kerb > 0 else -1
    y, length = float(rng.uniform(4, 40)), float(rng.uniform(5, 12))
    if abs(y + length / 2 - pose[1]) < 6 and pose[0] * sign > 0:
        return None
    x = sorted((kerb, kerb - sign * float(rng.choice([STRIP, LANE]))))
    return _projected(stage, [x[0], y], [x[1], y + length])


def _projected(stage: Stage, low: list[float], high: list[float]) -> Zone | None:
    """Return the zone of a rectangle on the ground, as far as the frame shows it, or None."""
    ground = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
    seen = stage.camera.project(np.column_stack([ground, np.zeros(4)]))
    if (seen[:, 2] <= NEAREST).any():
        return None
    width, height = stage.size
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    area, common = cv2.intersectConvexConvex(seen[:, :2].astype(np.float32), frame)
    if common is None or area < LEAST_AREA * width * height:
        return None
    polygon = np.round(common.reshape(-1, 2).astype(np.float64), 1)
    keep = np.hypot(*(polygon - np.roll(polygon, 1, axis=0)).T) > 0.5
    polygon = polygon[keep]
    if len(polygon) < 3 or polygon_area(polygon) <= 1:
        return None
    return Zone(np.array(low), np.array(high), polygon)
