"""The target's way: a path that the camera sees well, and a travel along it that tells the story."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import Camera
from mtltrack.data.synthetic.traffic.motion import Path, Travel, lane_path, parking_path, turning_path
from mtltrack.data.synthetic.traffic.road import FAR, LANE, Road
from mtltrack.data.synthetic.traffic.scene import Actor, bounds, share_inside, silhouettes
from mtltrack.data.synthetic.traffic.story import STANDING, Story
from mtltrack.data.synthetic.traffic.vehicles import Vehicle

Array = NDArray[np.float64]
SMALLEST, LARGEST = (56.0, 320.0)  # pixels of the target's longer side, in frames 640 pixels wide
PLATE = (50.0, 100.0)  # pixels across of a long plate where an approach ends, in frames 640 pixels wide
LONG_PLATE = 0.52  # metres
FASTEST = 13.0  # m/s
BRAKING = (2.2, 4.0)  # m/s^2, least and most
STARTING = (1.5, 2.8)  # m/s^2
WHOLE = 0.97  # share of a target inside the frame that counts as all of it
CUT, CUT_SHARE = ((0.5, 0.83), 0.3)  # how much is inside of those that halt cut off by the frame; how many do
TURNED = np.deg2rad(27)  # a target that isn't to vary its look turns less than this, seen from the camera
GROWN = 1.8  # one that isn't to vary in scale changes its area by less than this factor


@dataclass(frozen=True)
class Stage:
    """Where a target is to be placed.

    Attributes:
        road, camera, size: the place, and the frames' size in pixels.
        side: half of the road (-1 or 1 in x).
        natural: conditions that come from the target's own way and are wanted.
    """

    road: Road
    camera: Camera
    size: tuple[int, int]
    side: int
    natural: frozenset[str]

    def too_near(self, x: float) -> bool:
        """Say whether a lane at `x` leads past a low camera so closely that nobody may drive there."""
        place = self.camera.position
        return bool(place[2] < 4 and abs(x - place[0]) < 2.8)

    @property
    def unit(self) -> float:
        """Pixels of this frame for one pixel of a frame 640 wide."""
        return self.size[0] / 640


@dataclass(frozen=True)
class Sight:
    """How a vehicle is seen at points of its path: all (N,)."""

    s: Array
    inside: Array  # share of its box inside the frame
    side: Array  # longer side of the box, pixels
    area: Array  # pixels^2
    turn: Array  # radians, of the vehicle against the line of sight
    depth: Array  # metres


def look(stage: Stage, vehicle: Vehicle, path: Path, s: Array) -> Sight:
    """Return how a vehicle would be seen at `s` (N,) metres along a path."""
    poses = path.poses(s)
    points = silhouettes(stage.camera, vehicle, poses)
    boxes = bounds(points)
    extent = np.nan_to_num(boxes[:, 2:] - boxes[:, :2])
    gaze = np.arctan2(*(poses[:, :2] - stage.camera.position[:2]).T[::-1])
    return Sight(
        s,
        share_inside(boxes, stage.size),
        extent.max(axis=1),
        extent.prod(axis=1),
        np.unwrap(poses[:, 2] - gaze),
        points[..., 2].min(axis=1),
    )


def place_target(
    rng: np.random.Generator, stage: Stage, vehicle: Vehicle, story: Story
) -> tuple[Actor, Story] | None:
    """Return the target with its way, and the story at its pace; None when such a vehicle isn't seen well."""
    if story.kind in STANDING:
        return _park(rng, stage, vehicle, story)
    place = _approach if story.kind == "approach" else _pass
    target = place(rng, stage, vehicle, story)
    return None if target is None else (target, story)


def _park(
    rng: np.random.Generator, stage: Stage, vehicle: Vehicle, story: Story
) -> tuple[Actor, Story] | None:
    lane, direction = stage.road.outer_lane(stage.side)
    strip = stage.road.beside(lane)
    place = lane + stage.side * 0.35 if strip is None else strip
    straight = lane_path(place, direction, 3.0, 45.0)
    sight = look(stage, vehicle, straight, np.arange(0, straight.length, 0.75))
    cut = "Partial Visibility" in stage.natural and rng.random() < CUT_SHARE
    least, most = CUT if cut else (0.99, 1.0)
    good = (sight.inside >= least) & (sight.inside <= most)
    good &= (sight.side >= SMALLEST * stage.unit) & (sight.side <= LARGEST * stage.unit)
    if not good.any():
        return None
    chances = np.where(good, 1 / sight.depth.clip(2) ** 2, 0)
    at = float(straight.poses(sight.s)[rng.choice(len(good), p=chances / chances.sum()), 1])
    sway = float(rng.uniform(5.5, 8.0))
    path = parking_path(lane, place, direction, at, -8.0, FAR, sway)
    stand = path.nearest(place, at)
    return _braking(rng, stage, vehicle, story, path, stand, 0.5 if cut else WHOLE)


def _braking(
    rng: np.random.Generator,
    stage: Stage,
    vehicle: Vehicle,
    story: Story,
    path: Path,
    stand: float,
    least: float,
) -> tuple[Actor, Story] | None:
    """Return the target that comes along a path, halts at `stand` metres, goes on if the story says so.

    It starts wholly inside the frame, and the share `least` of it stays there until it has halted.
    """
    before = look(stage, vehicle, path, np.arange(stand, max(stand - 30, 0), -0.5))
    ends = np.flatnonzero((before.inside < least) | ~_steady(before, 0, stage.natural))
    far = int(ends[0]) if len(ends) else len(before.s)
    most = max(0.42 * BRAKING[1] * story.halt**2, 2.5)  # metres
    starts = np.flatnonzero((before.inside[:far] >= WHOLE) & (stand - before.s[:far] <= most))
    distance = 0.5 * float(starts[-1]) if len(starts) else 0.0
    if distance < 1.5:
        return None
    duration = float(np.clip(story.halt, *np.sqrt(distance / (0.42 * np.array(BRAKING[::-1])))))
    speed = distance / (0.7 * duration)
    stretches = [(0.4 * duration, speed, speed), (0.6 * duration, speed, 0.0)]
    if not np.isfinite(story.go):
        return Actor(vehicle, path, Travel.through(stand - distance, stretches)), story.retimed(
            duration / story.halt, 1
        )
    after = look(stage, vehicle, path, np.arange(stand, min(stand + 40, path.length), 0.5))
    rest = 0.35 if "Partial Visibility" in stage.natural else 0.9
    ends = np.flatnonzero((after.inside < rest) | ~_steady(after, 0, stage.natural))
    room = 0.5 * (ends[0] if len(ends) else len(after.s)) - 0.5
    if room < 1.5:
        return None
    last = float(story.times[-1]) - story.go
    rate = float(rng.uniform(*STARTING))
    leaving = min(last, float(np.sqrt(2 * room / rate)))
    stretches += [(story.go - story.halt, 0.0, 0.0), (leaving, 0.0, rate * leaving)]
    retimed = story.retimed(duration / story.halt, leaving / last)
    return Actor(vehicle, path, Travel.through(stand - distance, stretches)), retimed


def _pass(rng: np.random.Generator, stage: Stage, vehicle: Vehicle, story: Story) -> Actor | None:
    road = stage.road
    lanes = [lane for lane in road.lanes if lane[0] * stage.side > 0]
    lane, direction = lanes[int(rng.integers(len(lanes)))]
    turns = "Variance in Appearance" in stage.natural and rng.random() < 0.7
    if turns and road.corner is not None and road.corner[1] == stage.side:
        lane, direction = road.outer_lane(stage.side)
        radius = abs((road.right if stage.side > 0 else road.left) - lane) + 2.5
        start = -4.0 if direction > 0 else FAR - 20
        corner = road.corner[0] - direction * (radius - LANE / 2)
        path = turning_path(lane, direction, corner, stage.side, radius, start)
    else:
        path = lane_path(lane, direction, 2.0, 70.0)
    sight = look(stage, vehicle, path, np.arange(0, path.length, 0.5))
    most = np.where(sight.inside < WHOLE, 1.5, 1.0) * LARGEST * stage.unit  # what leaves may be large
    usable = (sight.side >= SMALLEST * stage.unit) & (sight.side <= most) & (sight.depth > 1.5)
    window = _window(rng, sight, usable, stage.natural)
    if window is None:
        return None
    first, last = window
    duration = float(story.times[-1])
    last = min(last, first + 0.8 * FASTEST * duration)
    if last - first < 4:
        return None
    return Actor(vehicle, path, _uneven(rng, first, last - first, duration))


def _window(
    rng: np.random.Generator, sight: Sight, usable: NDArray[np.bool_], natural: frozenset[str]
) -> tuple[float, float] | None:
    """Return a stretch of the path, in metres, that begins inside the frame and varies only as wanted."""
    starts = np.flatnonzero(usable & (sight.inside >= 0.99))
    if not len(starts):
        return None
    if "Scale Variation" in natural or "Variance in Appearance" in natural:
        starts = starts[: max(1, len(starts) // 3)]
    first = int(starts[int(rng.integers(len(starts)))])
    fits = usable & (sight.inside >= (0.3 if "Partial Visibility" in natural else WHOLE))
    fits &= _steady(sight, first, natural)
    ends = np.flatnonzero(~fits[first:])
    last = first + int(ends[0]) - 1 if len(ends) else len(fits) - 1
    return float(sight.s[first]), float(sight.s[max(last, first)])


def _steady(sight: Sight, first: int, natural: frozenset[str]) -> NDArray[np.bool_]:
    """Return (N,) where the target is about as large and as turned as at point `first`, as far as wanted."""
    steady = np.ones(len(sight.s), bool)
    if "Scale Variation" not in natural:
        ratio = sight.area / max(float(sight.area[first]), 1e-9)
        steady &= (ratio < GROWN) & (ratio > 1 / GROWN)
    if "Variance in Appearance" not in natural:
        steady &= np.abs(sight.turn - sight.turn[first]) < TURNED
    return steady


def _uneven(rng: np.random.Generator, first: float, distance: float, duration: float) -> Travel:
    """Return a travel of `distance` metres in `duration` seconds whose speed rises and falls."""
    speeds = rng.uniform(0.35, 1.5, 5)
    parts = rng.uniform(0.7, 1.3, 4)
    parts *= duration / parts.sum()
    speeds *= distance / float((parts * (speeds[:-1] + speeds[1:]) / 2).sum())
    stretches = [
        (float(p), float(a), float(b)) for p, a, b in zip(parts, speeds[:-1], speeds[1:], strict=True)
    ]
    return Travel.through(first, stretches)


def _approach(rng: np.random.Generator, stage: Stage, vehicle: Vehicle, story: Story) -> Actor | None:
    """Let the target come close until its plate is large in the picture, either end towards the camera."""
    lane, direction = stage.road.outer_lane(stage.side)
    path = lane_path(lane, direction, 2.0, 60.0)
    sight = look(stage, vehicle, path, np.arange(0, path.length, 0.5))
    across = stage.camera.focal * vehicle.plate.size_m[0] / sight.depth.clip(0.5) / stage.unit
    least, most = (side * vehicle.plate.size_m[0] / LONG_PLATE for side in PLATE)
    near = (sight.inside >= 0.98) & (across >= least) & (across <= most)
    near &= np.abs(np.sin(sight.turn)) < 0.6
    if not near.any():
        return None
    chances = np.where(near, across**2, 0.0)
    close = int(rng.choice(len(near), p=chances / chances.sum()))
    duration = float(story.times[-1])
    usable = (sight.inside >= 0.98) & (sight.side >= SMALLEST * stage.unit)
    reach = float(rng.uniform(4, 13))
    if direction * stage.camera.axes[2, 1] < 0:  # it comes towards the camera and slows down
        ends = np.flatnonzero(~usable[: close + 1])
        first = max(float(sight.s[ends[-1] + 1 if len(ends) else 0]), float(sight.s[close]) - reach)
        distance = float(sight.s[close]) - first
        speed = distance / (0.475 * duration)
        stretches = [(0.3 * duration, speed, speed), (0.35 * duration, speed, 0.0)]
    else:  # it waits close by and drives away
        ends = np.flatnonzero(~usable[close:])
        last = min(
            float(sight.s[close + int(ends[0]) - 1 if len(ends) else -1]), float(sight.s[close]) + reach
        )
        first, distance = float(sight.s[close]), last - float(sight.s[close])
        speed = distance / (0.475 * duration)
        stretches = [
            (0.35 * duration, 0.0, 0.0),
            (0.35 * duration, 0.0, speed),
            (0.3 * duration, speed, speed),
        ]
    if distance < 3:
        return None
    return Actor(vehicle, path, Travel.through(first, stretches))
