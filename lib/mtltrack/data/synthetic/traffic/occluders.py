"""Who makes an episode's Occlusion or Background Clutter: a passing vehicle, people, or a post."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.plates import Plate
from mtltrack.data.synthetic.traffic.episodes import Episode
from mtltrack.data.synthetic.traffic.figures import Figure, draw_person, draw_post, figure_outlines
from mtltrack.data.synthetic.traffic.motion import Path, Travel, lane_path
from mtltrack.data.synthetic.traffic.ordering import footprint_at, hull, is_nearer, shares
from mtltrack.data.synthetic.traffic.placement import Stage
from mtltrack.data.synthetic.traffic.scene import CYCLE, START, Actor, bounds, silhouettes
from mtltrack.data.synthetic.traffic.story import STANDING, Story
from mtltrack.data.synthetic.traffic.vehicles import TALL, Vehicle, double, draw_vehicle

Array = NDArray[np.float64]
REACH = np.arange(-15.0, 15.1, 1.5)  # metres along the lane where a vehicle could pass the target
BETWEEN = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # shares of the way from the camera to the target
COVER = (0.22, 0.8)  # least and most share of the target that is to be hidden
WALK = 1.4  # m/s
LONG = 6.0  # seconds; in longer episodes who comes waits for a while
CROWD = 6  # people at the most


@dataclass(frozen=True)
class Moment:
    """An episode in the scene: the target's poses (3, 3) at its begin, middle and end, and these times."""

    poses: Array
    begin: float
    middle: float
    end: float

    @property
    def moved(self) -> float:
        """Metres between the target's first and last place."""
        return float(np.hypot(*(self.poses[2, :2] - self.poses[0, :2])))

    @property
    def waits(self) -> bool:
        """Whether there is time, and a standing target, to halt before."""
        return self.end - self.begin > LONG and self.moved < 0.5


def called_for(
    rng: np.random.Generator, stage: Stage, target: Actor, story: Story, episode: Episode, plate: Plate
) -> tuple[list[Actor], list[Figure]]:
    """Return the vehicles and the figures that an episode brings in."""
    hides = "Occlusion" in episode.conditions
    if not hides and "Background Clutter" not in episode.conditions:
        return [], []
    last = min(episode.last, len(story.times)) - 1
    times = np.array([story.times[frame] for frame in (episode.first, min(episode.middle, last), last)])
    moment = Moment(target.poses(times), *(float(time) for time in times))
    vehicles = [draw_vehicle(rng, plate, (*TALL, "suv"))] if hides else [double(rng, target.vehicle, plate)]
    if hides:
        vehicles.append(draw_vehicle(rng, plate, ("bus", "truck")))
    for vehicle in vehicles:
        place = _meeting_place(stage, target.vehicle, moment, vehicle, hides)
        if place is not None:
            return [_passing(vehicle, place, moment)], []
    return [], _figures(rng, stage, target, moment, story.kind not in STANDING) if hides else []


def _meeting_place(
    stage: Stage, target: Vehicle, moment: Moment, vehicle: Vehicle, hides: bool
) -> tuple[float, int, float] | None:
    """Return lane x, direction and y where a vehicle hides the target in part, or is close by; or None."""
    here = moment.poses[1]
    outline = hull(silhouettes(stage.camera, target, moment.poses[1:2])[0])
    if not len(outline):
        return None
    own_foot = footprint_at(target.footprint(), here)
    across = float(np.ptp(outline[:, 0]))
    best, choice = 0.0, None
    for x, direction in stage.road.lanes:
        if np.abs(moment.poses[:, 0] - x).min() < 2.35 or stage.too_near(x):
            continue
        poses = np.array([[x, here[1] + step, direction * np.pi / 2] for step in REACH])
        seen = silhouettes(stage.camera, vehicle, poses)
        for k in np.flatnonzero(_worth_a_look(seen, outline, 0.0 if hides else 1.6 * across)):
            other, pose = hull(seen[k]), poses[k]
            nearer = is_nearer(footprint_at(vehicle.footprint(), pose), own_foot, stage.camera.position[:2])
            covered = shares([outline], [other], stage.size)[1] if nearer else 0.0
            if hides:
                worth = 1 - abs(covered - 0.5) if COVER[0] < covered < COVER[1] else 0.0
            else:
                apart = float(np.hypot(*(other.mean(axis=0) - outline.mean(axis=0)))) / across
                worth = 1 / (1 + apart) if covered < 0.12 and apart < 1.4 else 0.0
            if worth > best:
                best, choice = worth, (x, direction, float(pose[1]))
    return choice


def _worth_a_look(seen: Array, outline: Array, reach: float) -> NDArray[np.bool_]:
    """Return (N,) which silhouettes (N, S, 3) may come within `reach` pixels of an outline (M, 2)."""
    boxes = bounds(seen)  # NaN where it isn't before the camera
    low, high = outline.min(axis=0) - reach, outline.max(axis=0) + reach
    meets = ((boxes[:, :2] < high) & (boxes[:, 2:] > low)).all(axis=1)
    return meets & (seen[..., 2].min(axis=1) > 1.5)


def _passing(vehicle: Vehicle, place: tuple[float, int, float], moment: Moment) -> Actor:
    """Return a vehicle at `place` in the middle of an episode: it passes, or waits there if there is time."""
    x, direction, y = place
    path = lane_path(x, direction, START, CYCLE + START)
    along = path.nearest(x, y)
    if moment.waits:
        return Actor(vehicle, path, _halting(along, 7.0, min(3.0, 0.2 * (moment.end - moment.begin)), moment))
    duration = max(moment.end - moment.begin, 0.5)
    own = direction * float(moment.poses[2, 1] - moment.poses[0, 1]) / duration  # the target's speed this way
    speed = max(own + 12.0 / duration, 1.5)
    return Actor(vehicle, path, Travel.steady(along - speed * (moment.begin + moment.end) / 2, speed))


def _halting(along: float, speed: float, ramp: float, moment: Moment) -> Travel:
    """Return a travel that halts at `along` metres, but not in an episode's first and last `ramp` seconds."""
    earlier, stand = 60.0, moment.end - moment.begin - 2 * ramp
    stretches = [(earlier, speed, speed), (ramp, speed, 0.0), (stand, 0.0, 0.0), (ramp, 0.0, speed)]
    return Travel.through(along - speed * (earlier + ramp / 2), stretches, moment.begin - earlier)


def _figures(
    rng: np.random.Generator, stage: Stage, target: Actor, moment: Moment, passes: bool
) -> list[Figure]:
    """Return people who walk before the target, or else a post if it passes; nothing where neither can be."""
    camera, place = stage.camera.position[:2], moment.poses[1, :2]
    outline = hull(silhouettes(stage.camera, target.vehicle, moment.poses[1:2])[0])
    gaze = place - camera
    across = np.array([-gaze[1], gaze[0]]) / np.hypot(*gaze)
    clear = 0.5 * float(np.hypot(*target.vehicle.extent[:2])) + 0.5
    for share in BETWEEN:
        spot = camera + share * gaze
        if not len(outline) or np.hypot(*(moment.poses[:, :2] - spot).T).min() < clear:
            continue
        people = _crowd(rng, spot, across * float(rng.choice([-1, 1])), share, target.vehicle.extent, moment)
        middle = np.array([moment.middle])
        seen = [hull(figure_outlines(person, stage.camera, middle)[0]) for person in people]
        if COVER[0] < shares([outline], seen, stage.size)[1] < COVER[1]:
            return people
    if moment.moved < 3 or not passes:
        return []
    for share in rng.permutation(np.linspace(0.35, 0.8, 10)):
        x, y = camera + share * gaze
        if x < stage.road.left - 0.4 or x > stage.road.right + 0.4:
            return [draw_post(rng, float(x), float(y))]
    return []


def _crowd(
    rng: np.random.Generator, spot: Array, across: Array, share: float, extent: Array, moment: Moment
) -> list[Figure]:
    """Return people around `spot` in the middle of the episode, who walk in the direction `across`."""
    heading = float(np.arctan2(across[1], across[0]))
    length = np.hypot(
        *(extent[:2] * [np.cos(moment.poses[1, 2] - heading), np.sin(moment.poses[1, 2] - heading)])
    )
    wanted = int(np.clip(np.ceil(0.75 * share * length / 0.6), 2, CROWD))
    people = []
    for k in range(wanted):
        offset = (k - (wanted - 1) / 2) * 0.62 + float(rng.uniform(-0.12, 0.12))
        depth = float(rng.uniform(-0.25, 0.25)) * np.array([-across[1], across[0]])
        steps = np.arange(-90.0, 90.5, 1.0)[:, None]
        path = Path.through(spot + depth + steps * across)
        along = 90.0 + offset
        if moment.waits:
            travel = _halting(along, WALK, 1.0, moment)
        else:
            travel = Travel.steady(along - WALK * moment.middle, WALK)
        people.append(draw_person(rng, path, travel))
    return people
