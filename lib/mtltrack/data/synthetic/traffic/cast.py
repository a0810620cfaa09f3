"""The other vehicles: traffic on the lanes, parked ones, and those that an episode calls for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.plates import Plate
from mtltrack.data.synthetic.traffic.episodes import Episode
from mtltrack.data.synthetic.traffic.motion import Travel, lane_path
from mtltrack.data.synthetic.traffic.ordering import footprint_at, hull, is_nearer, shares
from mtltrack.data.synthetic.traffic.placement import Stage
from mtltrack.data.synthetic.traffic.road import FAR, Road
from mtltrack.data.synthetic.traffic.scene import Actor, Pole, silhouettes
from mtltrack.data.synthetic.traffic.story import Story
from mtltrack.data.synthetic.traffic.vehicles import TALL, Vehicle, double, draw_vehicle

Array = NDArray[np.float64]
START = -25.0  # metres; where lanes begin, behind the camera
CYCLE = 150.0  # metres after which the traffic of a lane begins again
CLEAR = 8.5  # metres along the strip that stay free around the target's place
SMALL = ("sedan", "hatchback", "suv", "pickup", "van", "minibus")
REACH = np.arange(-16.0, 16.1, 1.0)  # metres along the lane where a vehicle could pass the target


def flowing(rng: np.random.Generator, road: Road, taken: set[float], plate: Plate) -> list[Actor]:
    """Return traffic on the lanes whose x isn't in `taken`."""
    actors = []
    for x, direction in road.lanes:
        if x in taken:
            continue
        speed, offset = float(rng.uniform(4, 11)), float(rng.uniform(0, CYCLE))
        path = lane_path(x, direction, START, CYCLE + START)
        count = int(rng.integers(1, 4))
        for k in range(count):
            place = offset + (k + float(rng.uniform(-0.25, 0.25))) * CYCLE / count
            actors.append(Actor(draw_vehicle(rng, plate), path, Travel.steady(place, speed, CYCLE)))
    return actors


def parked(rng: np.random.Generator, stage: Stage, target: Actor, story: Story, plate: Plate) -> list[Actor]:
    """Return vehicles that stand in the parking strips, away from the target's way."""
    way = target.poses(np.linspace(0, float(story.times[-1]), 60))[:, :2]
    actors = []
    for strip in stage.road.strips:
        direction = next(d for x, d in stage.road.lanes if x * strip > 0)
        y = float(rng.uniform(5, 10))
        while y < 0.6 * FAR and len(actors) < 6:
            near = (np.abs(way[:, 0] - strip) < 2.2) & (np.abs(way[:, 1] - y) < CLEAR)
            if rng.random() < 0.4 and not near.any() and not _at_corner(stage.road, strip, y):
                path = lane_path(strip + float(rng.uniform(-0.15, 0.15)), direction, y - 1, y + 1)
                actors.append(Actor(draw_vehicle(rng, plate, SMALL), path, Travel.steady(1.0, 0.0)))
            y += float(rng.uniform(6.0, 9.0))
    return [actor for actor in actors if _in_sight(stage, actor)]


def _at_corner(road: Road, strip: float, y: float) -> bool:
    return road.corner is not None and road.corner[1] * strip > 0 and abs(y - road.corner[0]) < 9


def _in_sight(stage: Stage, actor: Actor) -> bool:
    """Say whether a standing vehicle is before the camera and at least partly in the frame."""
    points = silhouettes(stage.camera, actor.vehicle, actor.poses(np.zeros(1)))[0]
    if points[:, 2].min() < 1.0:
        return False
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    return bool((high > 0).all() and (low < stage.size).all())


def called_for(
    rng: np.random.Generator, stage: Stage, target: Actor, story: Story, episode: Episode, plate: Plate
) -> tuple[Actor | None, Pole | None]:
    """Return the vehicle, or else the post, that makes an episode's Occlusion or Background Clutter."""
    hides = "Occlusion" in episode.conditions
    if not hides and "Background Clutter" not in episode.conditions:
        return None, None
    bodies = (*TALL, "suv")
    vehicle = draw_vehicle(rng, plate, bodies) if hides else double(rng, target.vehicle, plate)
    last = min(episode.last, len(story.times)) - 1
    middle = float(story.times[min(episode.middle, last)])
    begin, end = (float(story.times[frame]) for frame in (episode.first, last))
    here = target.poses(np.array([begin, middle, end]))
    place = _meeting_place(stage, target.vehicle, here, vehicle, hides)
    if place is not None:
        return _passing(vehicle, place, here, begin, end), None
    return None, _post(rng, stage, here[1]) if hides else None


def _meeting_place(
    stage: Stage, target: Vehicle, here: Array, vehicle: Vehicle, hides: bool
) -> tuple[float, int, float] | None:
    """Return lane x, direction and y where a vehicle hides the target in part, or is close by; or None."""
    own = silhouettes(stage.camera, target, here[1:2])[0]
    outline = hull(own)
    if not len(outline):
        return None
    own_foot = footprint_at(target.footprint(), here[1])
    camera = stage.camera.position[:2]
    across = float(np.ptp(outline[:, 0]))
    best, choice = 0.0, None
    for x, direction in stage.road.lanes:
        if np.abs(here[:, 0] - x).min() < 2.35:
            continue
        poses = np.array([[x, here[1, 1] + step, direction * np.pi / 2] for step in REACH])
        seen = silhouettes(stage.camera, vehicle, poses)
        for pose, points in zip(poses, seen, strict=True):
            other = hull(points)
            if not len(other) or points[:, 2].min() < 1.5:
                continue
            nearer = is_nearer(footprint_at(vehicle.footprint(), pose), own_foot, camera)
            covered = shares(outline, [other], stage.size)[1] if nearer else 0.0
            if hides:
                worth = 1 - abs(covered - 0.5) if 0.25 < covered < 0.8 else 0.0
            else:
                apart = float(np.hypot(*(other.mean(axis=0) - outline.mean(axis=0)))) / across
                worth = 1 / (1 + apart) if covered < 0.12 and apart < 1.6 else 0.0
            if worth > best:
                best, choice = worth, (x, direction, float(pose[1]))
    return choice


def _passing(
    vehicle: Vehicle, place: tuple[float, int, float], here: Array, begin: float, end: float
) -> Actor:
    """Return a vehicle at `place` in the middle of an episode: it passes, or waits there if there is time."""
    x, direction, y = place
    path = lane_path(x, direction, START, CYCLE + START)
    along = path.nearest(x, y)
    duration = end - begin
    if duration > 6 and np.hypot(*(here[2, :2] - here[0, :2])) < 0.5:
        ramp, speed, earlier = min(3.0, 0.2 * duration), 7.0, 60.0
        first = along - speed * (earlier + ramp / 2)
        stretches = [(earlier, speed, speed), (ramp, speed, 0), (duration - 2 * ramp, 0, 0), (ramp, 0, speed)]
        return Actor(vehicle, path, Travel.through(first, stretches, begin - earlier))
    own = direction * float(here[2, 1] - here[0, 1]) / max(duration, 0.1)  # the target's speed this way
    speed = max(own + 12.0 / max(duration, 0.5), 1.5)
    return Actor(vehicle, path, Travel.steady(along - speed * (begin + end) / 2, speed))


def _post(rng: np.random.Generator, stage: Stage, pose: Array) -> Pole | None:
    """Return a post on the pavement between camera and target, or None where none can stand."""
    camera = stage.camera.position[:2]
    for share in rng.permutation(np.linspace(0.35, 0.8, 10)):
        x, y = camera + share * (pose[:2] - camera)
        if x < stage.road.left - 0.4 or x > stage.road.right + 0.4:
            grey = float(rng.uniform(60, 130))
            return Pole(float(x), float(y), 7.0, float(rng.uniform(0.16, 0.3)), (grey, grey, grey * 1.02))
    return None
