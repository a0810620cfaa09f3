"""The other vehicles: traffic on the lanes and parked ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.plates import Plate
from mtltrack.data.synthetic.traffic.motion import Travel, lane_path
from mtltrack.data.synthetic.traffic.placement import Stage
from mtltrack.data.synthetic.traffic.road import FAR, Road
from mtltrack.data.synthetic.traffic.scene import CYCLE, START, Actor, silhouettes
from mtltrack.data.synthetic.traffic.story import Story
from mtltrack.data.synthetic.traffic.vehicles import draw_vehicle

Array = NDArray[np.float64]
CLEAR = 8.5  # metres along the strip that stay free around the target's place
SMALL = ("sedan", "hatchback", "suv", "pickup", "van", "minibus")


def flowing(rng: np.random.Generator, stage: Stage, taken: set[float], plate: Plate) -> list[Actor]:
    """Return traffic on the lanes whose x isn't in `taken`."""
    actors = []
    for x, direction in stage.road.lanes:
        if x in taken or stage.too_near(x):
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
