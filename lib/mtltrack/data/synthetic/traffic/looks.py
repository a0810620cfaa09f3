"""What of a sequence is drawn once, and remembered while its frames are drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.textures import sensor_noise
from mtltrack.data.synthetic.traffic.background import Background, draw_background
from mtltrack.data.synthetic.traffic.camera import Camera
from mtltrack.data.synthetic.traffic.drawing import Model, Patch, Scenery
from mtltrack.data.synthetic.traffic.scene import Actor, Plan
from mtltrack.data.synthetic.traffic.shading import GAMMA
from mtltrack.data.synthetic.traffic.shadows import cast_shadow

Array = NDArray[np.float64]
MARGIN = 6  # pixels of the canvas around the frame
NOISE_SHIFTS = 32
DAY_NOISE, NIGHT_NOISE = 2.5, 5.0  # standard deviation, pixel values
HAZE = 225.0  # brightest pixel value of haze
REMEMBERED = 6  # pictures of vehicles


class Patches:
    """Remembers the last pictures: what stands still looks the same in the next frame."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Patch | None] = OrderedDict()

    def get(self, key: Hashable, draw: Callable[[], Patch | None]) -> Patch | None:
        """Return the picture of a key, drawn unless it is remembered."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = self._kept[key] = draw()
        if len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)
        return made


@dataclass(frozen=True)
class Looks:
    """The textures and models of a sequence.

    Attributes:
        camera: of the canvas, which is MARGIN larger than the frame at each side.
        background: the scene without vehicles.
        models: the target and then the other vehicles, ready to be drawn.
        still: pictures of those that never move, in the same order; None for those that do.
        noise: of the sensor.
        haze: pixel values of the air far away.
        patches: pictures of the last frames.
    """

    camera: Camera
    background: Background
    models: tuple[Model, ...]
    still: tuple[Patch | None, ...]
    noise: NDArray[np.int16]
    haze: tuple[float, float, float]
    patches: Patches

    def lit(self, place: Array) -> float:
        """Return the share of the direct light that arrives on the ground at `place` (2,)."""
        x, y = self.camera.project_ground(place)
        height, width = self.background.lit.shape
        return float(self.background.lit[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))]) / 255


def make_looks(plan: Plan) -> Looks:
    """Draw what stays the same in all frames of a sequence."""
    rng = np.random.default_rng([*plan.key, 3])
    width, height = plan.size
    camera = plan.camera.moved(MARGIN)
    background = draw_background(rng, plan, camera, (width + 2 * MARGIN, height + 2 * MARGIN))
    actors = (plan.target, *plan.others)
    models = tuple(Model(actor.vehicle) for actor in actors)
    noise = _grain(width, height, NIGHT_NOISE if plan.light.night else DAY_NOISE)
    air = 3 * plan.light.ambient if plan.light.night else plan.light.horizon
    r, g, b = np.minimum(255 * air ** (1 / GAMMA), HAZE)
    looks = Looks(camera, background, models, (), noise, (float(r), float(g), float(b)), Patches())
    still = tuple(_still(plan, looks, actor, model) for actor, model in zip(actors, models, strict=True))
    return Looks(camera, background, models, still, noise, looks.haze, looks.patches)


@cache
def _grain(width: int, height: int, deviation: float) -> NDArray[np.int16]:
    """Return the noise of the sensor, the same for all sequences; each frame takes another part of it."""
    return sensor_noise(np.random.default_rng(0), width + NOISE_SHIFTS, height + NOISE_SHIFTS, deviation)


def _still(plan: Plan, looks: Looks, actor: Actor, model: Model) -> Patch | None:
    """Return the picture of a vehicle that never moves, its shadow put on the background; else None."""
    if actor.travel.v.any() or actor.travel.a.any():
        return None
    pose = actor.poses(np.zeros(1))[0]
    lit = looks.lit(pose[:2])
    cast_shadow(looks.background.image, plan.light, looks.camera, actor.vehicle.extent, pose, lit)
    return model.draw(looks.camera, pose, Scenery(plan.light, lit), looks.background.image.shape[1::-1])
