"""Where everything in a rendered sequence is at a given frame: pure functions of (plan, frame).

A sequence starts with a few plain frames; then episodes of EPISODE frames follow, each of which brings in one
condition, sometimes two, and lets it go again. Nothing is integrated over time: any frame stands on its own.
Units: pixels of the frame, 0-based, continuous (pixel i covers [i, i + 1)); radians; frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.textures import outline

Array = NDArray[np.float64]

LEAD = 6  # plain frames at the start
EPISODE = 24  # frames of an episode
RAMP = 0.25  # share of an episode in which its condition grows, and in which it fades
SECOND = 0.25  # chance that an episode has a second condition


@dataclass(frozen=True)
class Plan:
    """What is fixed for a sequence.

    Attributes:
        key: (seed, sequence), the root of all its random numbers.
        size: width and height of the frames.
        conditions: names to bring in, in this sequence's order.
        extent: (2,) width and height of the target at scale 1 and angle 0.
        outline: (V, 2) of the target in [-0.5, 0.5].
        interior: (P, 2) points spread evenly inside the outline; they measure how much of it can be seen.
        path_x, path_y, scale, angle: (K, 3) sums of waves: amplitude, cycles a frame, phase in cycles.
        pan_x, pan_y: the same for the camera.
        bystanders: path_x, path_y and extent of other, different objects.
    """

    key: tuple[int, int]
    size: tuple[int, int]
    conditions: tuple[str, ...]
    extent: Array
    outline: Array
    interior: Array
    path_x: Array
    path_y: Array
    scale: Array
    angle: Array
    pan_x: Array
    pan_y: Array
    bystanders: tuple[tuple[Array, Array, Array], ...]


@dataclass(frozen=True)
class Episode:
    """One stretch of a sequence: its conditions and the random choices of their form."""

    conditions: frozenset[str] = frozenset()
    direction: float = 0.0  # radians
    sign: float = 1.0
    amount: float = 1.0  # strength of the condition at its height, [0.8, 1]
    variant: bool = False  # blur of the whole frame; another texture instead of a turn
    middle: float = 0.0  # frame at which it is at its height


@dataclass(frozen=True)
class Strip:
    """An occluding bar: all points p with |(p - point) . normal| <= half_width."""

    point: Array
    normal: Array
    half_width: float


@dataclass(frozen=True)
class Pose:
    """A sprite's place: centre (2,), width and height (2,) before the turn by `angle`, opacity in [0, 1]."""

    centre: Array
    extent: Array
    angle: float
    opacity: float = 1.0

    def place(self, points: Array) -> Array:
        """Map (N, 2) points of the unit sprite, [-0.5, 0.5], to the frame."""
        return points @ self.matrix().T + self.centre

    def matrix(self) -> Array:
        """Return the (2, 2) map of the unit sprite onto the frame, without the shift."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cosine, -sine], [sine, cosine]]) * self.extent


@dataclass(frozen=True)
class State:
    """A frame's scene: the target and what the conditions do to it."""

    target: Pose
    episode: Episode = field(default_factory=Episode)
    scale: float = 1.0  # of the target
    blur: float = 0.0  # pixels, along episode.direction
    light: float = 0.0  # log2 of the gain
    coarseness: float = 1.0  # pixels of the frame that share one measured value, a side
    disguise: float = 0.0  # share of the second texture
    strip: Strip | None = None
    doubles: tuple[Pose, ...] = ()


def make_plan(seed: int, sequence: int, size: tuple[int, int], conditions: tuple[str, ...]) -> Plan:
    """Draw what is fixed for a sequence from (seed, sequence)."""
    rng = np.random.default_rng([seed, sequence, 0])
    order = np.random.default_rng([seed, 1]).permutation(len(conditions))
    start = 2 * sequence  # few sequences of two episodes each bring in all conditions
    ordered = tuple(conditions[order[(start + k) % len(order)]] for k in range(len(order)))
    shape = outline(rng)
    side = rng.uniform(0.14, 0.26) * min(size)
    aspect = np.exp(rng.uniform(-0.5, 0.5))
    extent = np.array([side * aspect, side / aspect])
    path_x, path_y = _path(rng, size[0], extent.max()), _path(rng, size[1], extent.max())
    return Plan(
        key=(seed, sequence),
        size=size,
        conditions=ordered,
        extent=extent,
        outline=shape,
        interior=_interior(shape),
        path_x=path_x,
        path_y=path_y,
        scale=_waves(rng, [0.06], (60, 140)),
        angle=_waves(rng, [0.12], (50, 120)),
        pan_x=_waves(rng, [0.06 * size[0]], (150, 400)),
        pan_y=_waves(rng, [0.06 * size[1]], (150, 400)),
        bystanders=tuple(_bystander(rng, size, side) for _ in range(int(rng.integers(1, 4)))),
    )


def _waves(rng: np.random.Generator, amplitudes: list[float], period: tuple[float, float]) -> Array:
    return np.array([[a, 1 / rng.uniform(*period), rng.random()] for a in amplitudes])


def _path(rng: np.random.Generator, length: int, side: float) -> Array:
    """Return waves for one coordinate; the target stays inside the frame unless a condition moves it."""
    room = max(length / 2 - 0.65 * side, 0.0)
    slow = _waves(rng, [0.8 * room], (90, 200))
    return np.concatenate([slow, _waves(rng, [0.2 * room], (30, 60))])


def _bystander(rng: np.random.Generator, size: tuple[int, int], side: float) -> tuple[Array, Array, Array]:
    extent = side * np.exp(rng.uniform(-0.4, 0.2, 2))
    return _path(rng, size[0], 0.0), _path(rng, size[1], 0.0), extent


def _interior(shape: Array) -> Array:
    """Return the points of a 15 x 15 grid that lie inside the outline."""
    ticks = (np.arange(15) + 0.5) / 15 - 0.5
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    after = np.roll(shape, -1, axis=0)
    crosses = (shape[None, :, 1] > grid[:, None, 1]) != (after[None, :, 1] > grid[:, None, 1])
    rise = np.where(after[:, 1] == shape[:, 1], 1.0, after[:, 1] - shape[:, 1])
    at = shape[None, :, 0] + (grid[:, None, 1] - shape[None, :, 1]) / rise * (after[:, 0] - shape[:, 0])
    inside = (crosses & (grid[:, None, 0] < at)).sum(axis=1) % 2 == 1
    return grid[inside]


def wave(waves: Array, frame: float) -> float:
    """Return the sum of (K, 3) waves at a frame."""
    return float((waves[:, 0] * np.sin(2 * np.pi * (waves[:, 1] * frame + waves[:, 2]))).sum())


def episode_of(plan: Plan, frame: int) -> tuple[Episode, float]:
    """Return the episode of a frame and its progress in [0, 1]; the plain start has no condition."""
    if frame < LEAD or not plan.conditions:
        return Episode(), 0.0
    number, step = divmod(frame - LEAD, EPISODE)
    rng = np.random.default_rng([*plan.key, 2, number])
    names = {plan.conditions[number % len(plan.conditions)]}
    if rng.random() < SECOND:
        names.add(plan.conditions[int(rng.integers(len(plan.conditions)))])
    made = Episode(
        conditions=frozenset(names),
        direction=float(rng.uniform(0, 2 * np.pi)),
        sign=float(rng.choice([-1.0, 1.0])),
        amount=float(rng.uniform(0.8, 1.0)),
        variant=bool(rng.random() < 0.5),
        middle=LEAD + EPISODE * (number + 0.5),
    )
    return made, step / (EPISODE - 1)


def strength(progress: float, ramp: float = RAMP) -> float:
    """Return how far a condition has grown: 0 at both ends of an episode, 1 in its middle, smooth between."""
    ramp = min(progress, 1 - progress) / ramp
    ramp = min(max(ramp, 0.0), 1.0)
    return ramp * ramp * (3 - 2 * ramp)


def plain_state(plan: Plan, frame: float) -> State:
    """Return the scene without any condition."""
    width, height = plan.size
    scale = float(np.exp(wave(plan.scale, frame)))
    centre = np.array([width / 2 + wave(plan.path_x, frame), height / 2 + wave(plan.path_y, frame)])
    return State(Pose(centre, plan.extent * scale, wave(plan.angle, frame)), scale=scale)


def bystander_poses(plan: Plan, frame: int) -> list[Pose]:
    """Return the places of the other objects."""
    width, height = plan.size
    return [
        Pose(np.array([width / 2 + wave(x, frame), height / 2 + wave(y, frame)]), extent, 0.0)
        for x, y, extent in plan.bystanders
    ]


def moved(state: State, **changes: object) -> State:
    """Return the state with fields of its target changed."""
    return replace(state, target=replace(state.target, **changes))  # type: ignore[arg-type]
