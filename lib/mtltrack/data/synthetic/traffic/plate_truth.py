"""When the target's plate can be seen, and when it can be read."""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class PlateViews:
    """Where the target's plate is seen: corners (F, 4, 2) pixels with shake, top left first for a reader.

    `facing` (F,) is the cosine of the angle between plate and line of sight; 0 where none can be seen.
    """

    corners: Array
    facing: Array


def view_plates(plan: Plan, poses: Array) -> PlateViews:
    """Return where the plate is seen, the front one or the rear one, for the target's poses (F, 3)."""
    corners, best = np.zeros((len(poses), 4, 2)), np.zeros(len(poses))
    for front in (True, False):
        own = plan.target.vehicle.plate_corners(front)
        if own is None:
            continue
        world = placed(own, poses)  # (F, 4, 3)
        way = np.column_stack([np.cos(poses[:, 2]), np.sin(poses[:, 2])]) * (1 if front else -1)
        gaze = plan.camera.position - world.mean(axis=1)
        facing = (way * gaze[:, :2]).sum(axis=1) / np.linalg.norm(gaze, axis=1)
        seen = plan.camera.project(world)
        better = (facing > best) & (seen[..., 2].min(axis=1) > 1.0)
        corners[better], best[better] = ((seen[..., :2] + plan.shake[:, None])[better], facing[better])
    return PlateViews(corners, best)


def plate_truth(plan: Plan, corners: Array, facing: float, covers: list[Array], effect: Effect) -> PlateTruth:
    """Return what can be seen of the target's plate in one frame.

    Args:
        plan: of the sequence.
        corners: (4, 2) pixels, see `PlateViews`.
        facing: cosine of the angle between the plate and the line of sight.
        covers: outlines (N, 2) of what stands before the target.
        effect: what is done to the frame.
    """
    if facing < SEEN_FACING:
        return PlateTruth(None, False)
    edges = np.hypot(*(corners[[1, 2, 3, 0]] - corners).T).tolist()
    width, height = (edges[0] + edges[2]) / 2, (edges[1] + edges[3]) / 2
    inside, covered = shares([corners], covers, plan.size)
    if width < SEEN_SIZE[0] or height < SEEN_SIZE[1] or inside - covered < SEEN_SHARE:
        return PlateTruth(None, False, corners, width, height)
    left, top = np.maximum(corners.min(axis=0), 0).tolist()
    right, bottom = np.minimum(corners.max(axis=0), plan.size).tolist()
    character = width / len(plan.target.vehicle.plate.text)
    readable = (
        character / effect.coarseness >= READ_CHARACTER
        and height / effect.coarseness >= READ_HEIGHT
        and facing >= READ_FACING
        and inside > 0.99
        and covered < 0.01
        and math.hypot(*effect.smear) <= READ_SMEAR * character
        and effect.clear >= READ_CLEAR
        and READ_LIGHT[0] <= effect.light <= READ_LIGHT[1]
    )
    return PlateTruth((left, top, right, bottom), bool(readable), corners, width, height)
