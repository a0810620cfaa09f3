"""What is to be seen at a moment, from far to near: the target, the other vehicles, people and posts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import NEAREST
from mtltrack.data.synthetic.traffic.drawing import Air, Lamps, Patch, Scenery
from mtltrack.data.synthetic.traffic.figures import Figure, figure_outlines, seen_shapes
from mtltrack.data.synthetic.traffic.looks import Looks
from mtltrack.data.synthetic.traffic.ordering import far_to_near, footprint_at
from mtltrack.data.synthetic.traffic.picture import hazed
from mtltrack.data.synthetic.traffic.scene import Actor, Plan
from mtltrack.data.synthetic.traffic.shading import GAMMA

Array = NDArray[np.float64]
DARK = Lamps()
LAMPS_LEFT_ON = 4.0  # seconds that a vehicle's lamps stay on after it has halted
FINE = 2  # pixels a figure is drawn with for one of the frame


@dataclass(frozen=True)
class Thing:
    """One thing of a moment: a vehicle or a figure.

    Attributes:
        number: of a vehicle, 0 is the target; of a figure, it counts on after the vehicles.
        place: (2,) on the ground.
        footprint: (4, 2) on the ground.
        box: (4,) xyxy pixels of the canvas, about.
        pose: (3,) of a vehicle; None for a figure.
        lamps: of a vehicle.
        still: whether it never moves.
    """

    number: int
    place: Array
    footprint: Array
    box: Array
    pose: Array | None = None
    lamps: Lamps = DARK
    still: bool = False


class Moment:
    """A sequence at one time.

    Args:
        plan: of the sequence.
        looks: of the sequence.
        time: seconds.
        clear: share of the target's light that gets through the haze.
    """

    def __init__(self, plan: Plan, looks: Looks, time: float, clear: float = 1.0) -> None:
        self.plan, self.looks, self.time = plan, looks, np.array([time])
        self.actors = (plan.target, *plan.others)
        self.canvas_size = looks.background.image.shape[1::-1]
        place = plan.target.poses(self.time)[0]
        distance = float(np.linalg.norm(plan.camera.position - [place[0], place[1], 0.5]))
        self.clear_at = float(clear ** (1 / distance))  # what one metre of air lets through

    def things(self) -> list[Thing]:
        """Return what may be seen, in the order in which it is drawn, the farthest first."""
        vehicles = [self._vehicle(number, actor) for number, actor in enumerate(self.actors)]
        figures = [self._figure(number, figure) for number, figure in enumerate(self.plan.figures)]
        things = [thing for thing in (*vehicles, *figures) if thing is not None]
        if not things:
            return []
        boxes = np.array([thing.box for thing in things])
        order = far_to_near([thing.footprint for thing in things], boxes, self.plan.camera.position[:2])
        return [things[k] for k in order]

    def _vehicle(self, number: int, actor: Actor) -> Thing | None:
        pose = actor.poses(self.time)[0]
        length, width, height = actor.vehicle.extent / 2 * [1, 1.15, 2]
        corners = np.array(
            [[x, y, z] for x in (-length, length) for y in (-width, width) for z in (0, height)]
        )
        cosine, sine = np.cos(pose[2]), np.sin(pose[2])
        turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]])
        box = self._box(self.looks.camera.project(corners @ turn + [pose[0], pose[1], 0]))
        if box is None:
            return None
        still = self.looks.still[number] is not None
        lamps = DARK if still else self._lamps(actor)
        footprint = footprint_at(actor.vehicle.footprint(), pose)
        return Thing(number, pose[:2], footprint, box, pose, lamps, still)

    def _figure(self, number: int, figure: Figure) -> Thing | None:
        place = figure.places(self.time)[0]
        points = figure_outlines(figure, self.looks.camera, self.time)[0]
        box = self._box(points) if points[:, 2].min() > NEAREST else None
        if box is None:
            return None
        return Thing(len(self.actors) + number, place, figure.footprint(place), box)

    def _box(self, seen: Array) -> Array | None:
        """Return (4,) xyxy around points (N, 3), or None where they are out of sight."""
        low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
        if seen[:, 2].max() < 1 or (high < 0).any() or (low > self.canvas_size).any():
            return None
        return np.concatenate([low, high])

    def _lamps(self, actor: Actor) -> Lamps:
        """Return which lamps are on: at night while it drives; the brakes' while it slows or has stopped."""
        travel = actor.travel
        k = int(np.clip(np.searchsorted(travel.starts, self.time[0], side="right") - 1, 0, None))
        stood = float(travel.standing(self.time)[0])
        on = self.plan.light.night and stood < LAMPS_LEFT_ON
        return Lamps(head=on, tail=on, brakes=bool(travel.a[k] < 0) or 0 < stood < LAMPS_LEFT_ON)

    def patch(self, thing: Thing) -> Patch | None:
        """Return the picture of a thing; None where it is out of sight."""
        clear = self.clear_at ** float(np.linalg.norm(self.plan.camera.position - [*thing.place, 0.5]))
        if thing.pose is None:
            return self._draw_figure(thing, clear)
        still = self.looks.still[thing.number]
        if still is not None:
            return still if clear == 1 else Patch(still.origin, hazed(still.rgba, clear, self.looks.haze))
        key = (thing.number, *thing.pose.tolist(), thing.lamps, clear)
        return self.looks.patches.get(key, lambda: self._draw_vehicle(thing, clear))

    def _draw_vehicle(self, thing: Thing, clear: float) -> Patch | None:
        scenery = Scenery(
            self.plan.light, self.looks.lit(thing.place), thing.lamps, Air(clear, self.looks.haze)
        )
        assert thing.pose is not None
        return self.looks.models[thing.number].draw(self.looks.camera, thing.pose, scenery, self.canvas_size)

    def shape(self, thing: Thing) -> Patch | None:
        """Return the coverage of a thing, (h, w) uint8 instead of RGBA, the same as in its picture."""
        if thing.pose is None or thing.still:
            patch = self.patch(thing)
            return None if patch is None else Patch(patch.origin, patch.rgba[..., 3])
        return self.looks.models[thing.number].draw(self.looks.camera, thing.pose, None, self.canvas_size)

    def _draw_figure(self, thing: Thing, clear: float) -> Patch | None:
        figure = self.plan.figures[thing.number - len(self.actors)]
        shapes = seen_shapes(figure, self.looks.camera, float(self.time[0]))
        if not shapes:
            return None
        points = np.concatenate([outline for outline, _ in shapes])
        low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, self.canvas_size)
        if (high <= low).any():
            return None
        light = self.plan.light
        gain = (light.ambient + 0.6 * self.looks.lit(thing.place) * light.direct) ** (1 / GAMMA)
        rgba = np.zeros((FINE * (high[1] - low[1]), FINE * (high[0] - low[0]), 4), np.uint8)
        for outline, colour in shapes:
            fixed = np.clip(np.round(((outline - low) * FINE - 0.5) * 16), -60000, 60000).astype(np.int32)
            pixels = np.minimum(np.array(colour) * gain, 255).tolist()
            cv2.fillConvexPoly(rgba, fixed, [*pixels, 255.0], cv2.LINE_8, 4)
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        small = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
        return Patch((int(low[0]), int(low[1])), hazed(small, clear, self.looks.haze) if clear < 1 else small)
