"""When the target's plate can be seen, and when it can be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import placed
from mtltrack.data.synthetic.traffic.effects import Effect
from mtltrack.data.synthetic.traffic.ordering import shares
from mtltrack.data.synthetic.traffic.scene import Plan

Array = NDArray[np.float64]

SEEN_SIZE = (8.0, 3.0)  # pixels; a smaller plate can't be made out
SEEN_FACING = 0.2  # cosine of the angle between plate and line of sight
SEEN_SHARE = 0.5  # of the plate in sight
READ_CHARACTER = 5.0  # measured pixels across a character
READ_HEIGHT = 8.0  # measured pixels
READ_FACING = 0.45
READ_SMEAR = 0.2  # characters
READ_CLEAR = 0.4  # share of its light that gets through the haze
READ_LIGHT = (-1.3, 0.6)  # log2 of the gain


@dataclass(frozen=True)
class PlateTruth:
    """A plate in one frame.

    Attributes:
        box_xyxy: the part inside the frame, pixels; None when no plate can be made out.
        readable: whether its text can be read.
        corners: (4, 2) pixels, top left first as one reads it, also where it can't be made out; None when
            neither end faces the camera.
        width, height: of the plate as it is seen, pixels.
    """

    box_xyxy: tuple[float, float, float, float] | None
    readable: bool
    corners: Array | None = None
    width: float = 0.0
    height: float = 0.0


def plate_truth(plan: Plan, pose: Array, frame: int, covers: list[Array], effect: Effect) -> PlateTruth:
    """Return what can be seen of the target's plate.

    Args:
        plan: of the sequence.
        pose: (3,) of the target.
        frame: number from 0.
        covers: outlines (N, 2) of what stands before the target.
        effect: what is done to the frame.
    """
    seen = facing_plate(plan, pose)
    if seen is None:
        return PlateTruth(None, False)
    corners, facing = seen
    corners = corners + plan.shake[frame]
    edges = np.hypot(*(np.roll(corners, -1, axis=0) - corners).T)
    width, height = float(edges[[0, 2]].mean()), float(edges[[1, 3]].mean())
    inside, covered = shares(corners, covers, plan.size)
    if width < SEEN_SIZE[0] or height < SEEN_SIZE[1] or facing < SEEN_FACING or inside - covered < SEEN_SHARE:
        return PlateTruth(None, False, corners, width, height)
    low, high = (np.clip(edge, 0, plan.size) for edge in (corners.min(axis=0), corners.max(axis=0)))
    character = width / len(plan.target.vehicle.plate.text)
    readable = (
        character / effect.coarseness >= READ_CHARACTER
        and height / effect.coarseness >= READ_HEIGHT
        and facing >= READ_FACING
        and inside > 0.99
        and covered < 0.01
        and float(np.hypot(*effect.smear)) <= READ_SMEAR * character
        and effect.clear >= READ_CLEAR
        and READ_LIGHT[0] <= effect.light <= READ_LIGHT[1]
    )
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return PlateTruth(box, bool(readable), corners, width, height)


def facing_plate(plan: Plan, pose: Array) -> tuple[Array, float] | None:
    """Return the corners (4, 2), without shake, of the plate that faces the camera, and the cosine."""
    best = None
    for front in (True, False):
        corners = plan.target.vehicle.plate_corners(front)
        if corners is None:
            continue
        world = placed(corners, pose)
        way = np.array([np.cos(pose[2]), np.sin(pose[2]), 0.0]) * (1 if front else -1)
        gaze = plan.camera.position - world.mean(axis=0)
        facing = float(way @ gaze / np.linalg.norm(gaze))
        seen = plan.camera.project(world)
        if facing > 0.02 and seen[:, 2].min() > 1.0 and (best is None or facing > best[1]):
            best = (seen[:, :2], facing)
    return best
