"""Which of two things on the ground hides the other, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import NEAREST

Array = NDArray[np.float64]
GRID = 40  # cells along the longer side of a target's box when shares of it are counted


def footprint_at(corners: Array, pose: Array) -> Array:
    """Map footprint corners (4, 2) of a body to the ground for a pose (3,)."""
    cosine, sine = np.cos(pose[2]), np.sin(pose[2])
    return corners @ np.array([[cosine, sine], [-sine, cosine]]) + pose[:2]


def is_nearer(first: Array, second: Array, camera: Array) -> bool:
    """Say whether `first` can hide `second`, seen from `camera` (2,); both are footprints (4, 2), rectangles.

    A line along a side of one rectangle that has the other rectangle beyond it decides: what lies on the
    camera's side of the line is nearer. Rectangles that overlap are compared by their middles.
    """
    for one, other, sign in ((first, second, 1), (second, first, -1)):
        sides = np.roll(one, -1, axis=0) - one
        outward = np.stack([sides[:, 1], -sides[:, 0]], axis=1)
        outward *= np.sign(((one - one.mean(axis=0)) * outward).sum(axis=1))[:, None]
        offset = (one * outward).sum(axis=1)
        beyond = (outward @ other.T).min(axis=1) >= offset - 1e-6
        if beyond.any():
            side = int(np.flatnonzero(beyond)[0])
            camera_beyond = float(outward[side] @ camera) > offset[side]
            return bool(camera_beyond != (sign > 0))
    distances = [float(np.hypot(*(shape.mean(axis=0) - camera))) for shape in (first, second)]
    return distances[0] < distances[1]


def far_to_near(footprints: list[Array], boxes: Array, camera: Array) -> list[int]:
    """Return the order in which things are drawn so that the nearer ones hide the farther ones.

    Args:
        footprints: (4, 2) each.
        boxes: (N, 4) xyxy pixels; things whose boxes don't meet need no order.
        camera: (2,) on the ground.
    """
    count = len(footprints)
    behind: list[set[int]] = [set() for _ in range(count)]  # what must be drawn before each
    for i in range(count):
        for j in range(i + 1, count):
            if (boxes[i, :2] < boxes[j, 2:]).all() and (boxes[j, :2] < boxes[i, 2:]).all():
                nearer, farther = (i, j) if is_nearer(footprints[i], footprints[j], camera) else (j, i)
                behind[nearer].add(farther)
    distance = [-float(np.hypot(*(shape.mean(axis=0) - camera))) for shape in footprints]
    waiting = sorted(range(count), key=distance.__getitem__)
    order: list[int] = []
    while waiting:
        ready = next((i for i in waiting if not behind[i] & set(waiting)), waiting[0])
        waiting.remove(ready)
        order.append(ready)
    return order


def hull(points: Array) -> Array:
    """Return the convex outline (N, 2) of points (S, 3), pixels; empty if all lie behind the camera.

    Of a thing beside the camera some points lie behind its plane: they count as just before it, which puts
    them far outside the frame, on the right side.
    """
    if points[:, 2].max() <= NEAREST:
        return np.empty((0, 2))
    return cv2.convexHull(points[:, :2].astype(np.float32))[:, 0].astype(np.float64)


def hulls(points: Array, groups: Sequence[slice]) -> list[Array]:
    """Return the convex outlines of groups of the points (S, 3): together the outline of a vehicle."""
    return [outline for outline in (hull(points[group]) for group in groups) if len(outline)]


def shares(outlines: Sequence[Array], covers: Sequence[Array], size: tuple[int, int]) -> tuple[float, float]:
    """Return which share of a thing lies inside the frame, and which is inside but covered.

    Args:
        outlines: (N, 2) pixels, convex each; the thing is all of them together.
        covers: convex outlines (M, 2) of what stands before it.
        size: of the frame.
    """
    low = np.min([outline.min(axis=0) for outline in outlines], axis=0)
    high = np.max([outline.max(axis=0) for outline in outlines], axis=0)
    if not covers and (low >= 0).all() and (high <= size).all():
        return 1.0, 0.0
    scale = GRID / max(float((high - low).max()), 1e-6)
    extent = np.maximum(np.ceil((high - low) * scale), 1).astype(int) + 1
    own = _filled(outlines, low, scale, extent)
    whole = max(int(np.count_nonzero(own)), 1)
    if (low < 0).any() or (high > size).any():
        frame = np.array([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]], np.float64)
        own &= _filled([frame], low, scale, extent)
    inside = int(np.count_nonzero(own))
    if not covers or not inside:
        return inside / whole, 0.0
    cover = _filled(covers, low, scale, extent)
    return inside / whole, int(np.count_nonzero(own & cover)) / whole


def _filled(
    outlines: Sequence[Array], low: Array, scale: float, extent: NDArray[np.int_]
) -> NDArray[np.uint8]:
    grid = np.zeros((extent[1], extent[0]), np.uint8)
    for outline in outlines:
        if len(outline):
            fixed = np.clip((outline - low) * scale - 0.5, -2000, 2000)
            cv2.fillConvexPoly(grid, np.round(fixed * 16).astype(np.int32), 1, 8, 4)
    return grid
