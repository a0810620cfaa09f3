"""Everything that is fixed for a sequence of the traffic world, and where each vehicle is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import NEAREST, Camera, placed
from mtltrack.data.synthetic.traffic.episodes import Episode
from mtltrack.data.synthetic.traffic.figures import Figure
from mtltrack.data.synthetic.traffic.motion import Path, Travel
from mtltrack.data.synthetic.traffic.road import Road
from mtltrack.data.synthetic.traffic.shading import Light
from mtltrack.data.synthetic.traffic.story import Story
from mtltrack.data.synthetic.traffic.vehicles import Vehicle

Array = NDArray[np.float64]
START = -25.0  # metres; where lanes begin, behind the camera
CYCLE = 150.0  # metres after which the traffic of a lane begins again


@dataclass(frozen=True)
class Actor:
    """A vehicle and its way through the scene."""

    vehicle: Vehicle
    path: Path
    travel: Travel

    def poses(self, times: Array) -> Array:
        """Return (F, 3) x, y and heading at `times` (F,) seconds."""
        return self.path.poses(self.travel.at(times))


@dataclass(frozen=True)
class Zone:
    """A rectangle on the ground, from `low` to `high` (2,) metres, and its polygon (V, 2) in frame pixels."""

    low: Array
    high: Array
    polygon: Array


@dataclass(frozen=True)
class Plan:
    """What is fixed for a sequence.

    Attributes:
        key: (seed, sequence), the root of all its random numbers.
        size: width and height of the frames.
        view: of road.VIEWS.
        road, camera, light: the place.
        story: its kind and times.
        target: the vehicle that the sequence is about.
        others: all other vehicles.
        figures: posts and people.
        episodes: the conditions that are brought in, by frame.
        zones: by name.
        shake: (F, 2) pixels by which each frame is shifted.
    """

    key: tuple[int, int]
    size: tuple[int, int]
    view: str
    road: Road
    camera: Camera
    light: Light
    story: Story
    target: Actor
    others: tuple[Actor, ...]
    figures: tuple[Figure, ...]
    episodes: tuple[Episode, ...]
    zones: dict[str, Zone]
    shake: Array

    @property
    def polygons(self) -> dict[str, Array]:
        """Name -> (V, 2) frame pixels of the zones."""
        return {name: zone.polygon for name, zone in self.zones.items()}


def silhouettes(camera: Camera, vehicle: Vehicle, poses: Array) -> Array:
    """Return (F, S, 3) where the points that stand out are seen, pixels, and how far away; poses (F, 3)."""
    return camera.project(placed(vehicle.support(), poses))


def bounds(points: Array) -> Array:
    """Return (F, 4) the xyxy boxes around points (F, S, 3); NaN where some point isn't before the camera."""
    x, y, depth = np.ascontiguousarray(np.moveaxis(points, -1, 0))
    boxes = np.stack([x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)], axis=1)
    boxes[depth.min(axis=1) <= NEAREST] = np.nan
    return boxes


def share_inside(boxes: Array, size: tuple[int, int]) -> Array:
    """Return (F,) which share of each box (F, 4) xyxy lies inside a frame of `size`; 0 for NaN."""
    low = np.clip(boxes[:, :2], 0, size)
    high = np.clip(boxes[:, 2:], 0, size)
    with np.errstate(invalid="ignore"):
        share = (high - low).prod(axis=1) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.nan_to_num(share)


def boxes_meet(points: Array, boxes: Array) -> NDArray[np.bool_]:
    """Return (F,) whether the box around points (F, S, 3) before the camera meets another (F, 4)."""
    x, y, depth = np.ascontiguousarray(np.moveaxis(points, -1, 0))
    beside = (x.max(axis=1) > boxes[:, 0]) & (x.min(axis=1) < boxes[:, 2])
    level = (y.max(axis=1) > boxes[:, 1]) & (y.min(axis=1) < boxes[:, 3])
    return beside & level & (depth.max(axis=1) > NEAREST)
