"""What each scene condition does to a rendered scene, and when a frame truly shows it.

`EFFECTS` changes the state of a frame; `truth` measures the result. A flag is measured, not copied from the
plan: a bar that hasn't reached the target yet is no occlusion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.conditions import condition_names, normal_index
from mtltrack.data.synthetic.motion import (
    Plan,
    Pose,
    State,
    Strip,
    episode_of,
    moved,
    plain_state,
    strength,
)

Array = NDArray[np.float64]

DOUBLES = 3  # look-alikes of Background Clutter


@dataclass(frozen=True)
class Truth:
    """What is true of a frame.

    Attributes:
        box_xywh: (4,) float64 pixels, 0-based: the bounding box of the target's part inside the image.
        visible: whether at least a tenth of the target can be seen.
        flags: (10,) bool in the order of `condition_names()`; Normal exactly when no other is set.
    """

    box_xywh: Array
    visible: bool
    flags: NDArray[np.bool_]


Effect = Callable[[Plan, State, float, float], State]  # plan, state, strength in [0, 1], progress in [0, 1]


def _side(state: State) -> float:
    return float(np.sqrt(state.target.extent.prod()))


def occlude(plan: Plan, state: State, grown: float, progress: float) -> State:  # noqa: ARG001
    """Drive a bar across the target, from one side to the other during the episode."""
    normal = np.array([np.cos(state.episode.direction), np.sin(state.episode.direction)])
    reach = float(np.linalg.norm(normal * state.target.extent))  # the target's width on the bar's way
    point = state.target.centre + normal * reach * 0.95 * (2 * progress - 1) * state.episode.sign
    return replace(state, strip=Strip(point, normal, 0.36 * state.episode.amount * reach))


def change_light(plan: Plan, state: State, grown: float, progress: float) -> State:  # noqa: ARG001
    """Darken the frame to about a third, or brighten it by half and more."""
    height = 1.6 if state.episode.sign < 0 else 0.75
    return replace(state, light=state.episode.sign * height * state.episode.amount * grown)


def change_scale(plan: Plan, state: State, grown: float, progress: float) -> State:  # noqa: ARG001
    """Let the target grow to, or shrink from, about 1.8 times its size."""
    factor = float(np.exp(state.episode.sign * 0.65 * state.episode.amount * grown))
    return moved(replace(state, scale=state.scale * factor), extent=state.target.extent * factor)


def blur(plan: Plan, state: State, grown: float, progress: float) -> State:  # noqa: ARG001
    """Smear the target, or the whole frame, along one direction."""
    return replace(state, blur=0.5 * state.episode.amount * grown * _side(state))


def change_appearance(plan: Plan, state: State, grown: float, progress: float) -> State:  # noqa: ARG001
    """Turn the target by up to 75 degrees, or let another texture come through."""
    if state.episode.variant:
        return replace(state, disguise=0.85 * state.episode.amount * grown)
    turn = state.episode.sign * np.deg2rad(75) * state.episode.amount * grown
    return moved(state, angle=state.target.angle + float(turn))


def leave_the_frame(plan: Plan, state: State, grown: float, progress: float) -> State:  # noqa: ARG001
    """Pull the target over the edge that is nearest in the episode's middle, until half of it is outside."""
    middle = plain_state(plan, state.episode.middle).target.centre
    distances = np.concatenate([middle, plan.size - middle])  # left, top, right, bottom
    axis, far = int(distances.argmin()) % 2, distances.argmin() >= 2
    goal = state.target.centre.copy()
    outside = 0.1 * state.episode.amount * state.target.extent[axis]
    goal[axis] = plan.size[axis] + outside if far else -outside
    slowly = strength(progress, ramp=0.5)
    return moved(state, centre=state.target.centre + slowly * (goal - state.target.centre))


def coarsen(plan: Plan, state: State, grown: float, progress: float) -> State:  # noqa: ARG001
    """Let the camera measure fewer pixels: about 12 x 12 of the target at the most."""
    most = max(_side(state) / 12 / state.episode.amount, 1.0)
    return replace(state, coarseness=1 + grown * (most - 1))


def add_doubles(plan: Plan, state: State, grown: float, progress: float) -> State:  # noqa: ARG001
    """Bring in look-alikes that circle the target."""
    poses = []
    for k in range(DOUBLES):
        angle = state.episode.direction + 2 * np.pi * k / DOUBLES + state.episode.sign * 1.5 * progress
        distance = (2.6 - 1.2 * grown + 0.25 * k) * float(state.target.extent.max())
        centre = state.target.centre + distance * np.array([np.cos(angle), np.sin(angle)])
        poses.append(replace(state.target, centre=centre, opacity=min(1.0, 3 * grown)))
    return replace(state, doubles=tuple(poses))


def fade(plan: Plan, state: State, grown: float, progress: float) -> State:  # noqa: ARG001
    """Let the background shine through the target: it differs less and less from what is around it."""
    return moved(state, opacity=1 - 0.75 * state.episode.amount * grown)


# in the order in which they are applied: what depends on the target's size and place comes last
EFFECTS: dict[str, Effect] = {
    "Scale Variation": change_scale,
    "Partial Visibility": leave_the_frame,
    "Variance in Appearance": change_appearance,
    "Motion Blur": blur,
    "Illumination Change": change_light,
    "Low Resolution": coarsen,
    "Low Contrast Object": fade,
    "Background Clutter": add_doubles,
    "Occlusion": occlude,
}


def state_at(plan: Plan, frame: int) -> State:
    """Return the scene of a frame with its episode's conditions applied."""
    state = plain_state(plan, frame)
    episode, progress = episode_of(plan, frame)
    state = replace(state, episode=episode)
    for name, effect in EFFECTS.items():
        if name in episode.conditions:
            state = effect(plan, state, strength(progress), progress)
    return state


def truth(plan: Plan, frame: int) -> Truth:
    """Return box, visibility and flags of a frame, without drawing it."""
    state = state_at(plan, frame)
    inside, covered = seen(plan, state)
    first = plain_state(plan, 0)
    area = float(state.target.extent.prod())
    ratio = (state.scale / first.scale) ** 2
    turned = abs(state.target.angle - first.target.angle)
    near = [pose for pose in state.doubles if pose.opacity > 0.5]
    rules = {
        "Occlusion": covered > 0.15,
        "Illumination Change": abs(state.light) > 0.5,
        "Scale Variation": not 0.5 <= ratio <= 2,
        "Motion Blur": state.blur > 0.2 * _side(state),
        "Variance in Appearance": state.disguise > 0.4 or turned > np.deg2rad(30),
        "Partial Visibility": inside < 0.85,
        "Low Resolution": area / state.coarseness**2 < 400,
        "Background Clutter": bool(near),
        "Low Contrast Object": state.target.opacity < 0.6,
    }
    flags = np.array([rules.get(name, False) for name in condition_names()])
    flags[normal_index()] = not flags.any()
    return Truth(_box(plan, state.target), inside - covered > 0.1, flags)


def seen(plan: Plan, state: State) -> tuple[float, float]:
    """Return which share of the target is inside the frame, and which share is inside but behind the bar."""
    points = state.target.place(plan.interior)
    inside = ((points >= 0) & (points < plan.size)).all(axis=1)
    if state.strip is None:
        return float(inside.mean()), 0.0
    behind = np.abs((points - state.strip.point) @ state.strip.normal) <= state.strip.half_width
    return float(inside.mean()), float((inside & behind).mean())


def _box(plan: Plan, target: Pose) -> Array:
    corners = target.place(plan.outline)
    low = np.clip(corners.min(axis=0), 0, plan.size)
    high = np.clip(corners.max(axis=0), 0, plan.size)
    return np.concatenate([low, high - low])
