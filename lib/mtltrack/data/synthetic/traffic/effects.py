"""How strongly each frame shows the conditions of the whole picture: blur, light, haze, resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.episodes import Episode, episode_at
from mtltrack.data.synthetic.traffic.scene import Plan

Array = NDArray[np.float64]
DARKEST, BRIGHTEST = 1.7, 0.8  # log2 of the gain
SMEAR = 0.35  # share of the target's side
COARSE = 13.0  # measured pixels that are left of the target's side
HAZE = 0.72  # share of the target's own light that is lost


@dataclass(frozen=True)
class Effect:
    """What is done to one frame.

    Attributes:
        light: log2 of the gain.
        smear: (2,) pixels, the way that what is smeared moves while the shutter is open.
        whole: whether the whole frame is smeared; else the target alone.
        coarseness: pixels of the frame that share one measured value, a side.
        clear: share of the target's light that gets through the haze, in (0, 1].
    """

    light: float = 0.0
    smear: tuple[float, float] = (0.0, 0.0)
    whole: bool = False
    coarseness: float = 1.0
    clear: float = 1.0


def effects_of(plan: Plan, sides: Array) -> list[Effect]:
    """Return the effects of all frames; `sides` (F,) are the square roots of the target's box areas."""
    ways = _ways(plan)
    return [_effect(plan, frame, float(sides[frame]), ways[frame]) for frame in range(len(sides))]


def _ways(plan: Plan) -> Array:
    """Return (F, 2) unit vectors along the target's way in the picture; 0 where it stands still."""
    times, step = plan.story.times, 0.05
    here, there = (plan.camera.project_ground(plan.target.poses(t)[:, :2]) for t in (times, times + step))
    moved = there - here
    length = np.hypot(moved[:, 0], moved[:, 1])
    return np.where(length[:, None] > 0.02, moved / np.maximum(length, 1e-9)[:, None], 0.0)


def _effect(plan: Plan, frame: int, side: float, way: Array) -> Effect:
    episode = episode_at(plan.episodes, frame)
    if episode is None:
        return Effect()
    grown = episode.strength(frame)
    names = episode.conditions
    light, coarseness, clear = 0.0, 1.0, 1.0
    if "Illumination Change" in names:
        light = episode.sign * (DARKEST if episode.sign < 0 else BRIGHTEST) * episode.amount * grown
    if "Low Resolution" in names:
        coarseness = 1 + grown * (max(side / COARSE / episode.amount, 1.0) - 1)
    if "Low Contrast Object" in names:
        clear = 1 - HAZE * episode.amount * grown
    smear, whole = _smear(episode, grown, side, way) if "Motion Blur" in names else ((0.0, 0.0), False)
    return Effect(light, smear, whole, coarseness, clear)


def _smear(episode: Episode, grown: float, side: float, way: Array) -> tuple[tuple[float, float], bool]:
    """Return the smear along the target's way; of the whole frame if it stands or the camera shook."""
    whole = episode.whole or not way.any()
    if whole:
        way = np.array([np.cos(episode.angle), np.sin(episode.angle)])
    length = SMEAR * episode.amount * grown * side
    return (float(length * way[0]), float(length * way[1])), whole
