"""The pixels of a frame of the traffic world, and the mask of its target."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.drawing import Patch
from mtltrack.data.synthetic.traffic.effects import Effect
from mtltrack.data.synthetic.traffic.lamplight import add_glare, light_road
from mtltrack.data.synthetic.traffic.looks import MARGIN, NOISE_SHIFTS, Looks
from mtltrack.data.synthetic.traffic.picture import blend, coarsened, relit, shifted, smeared
from mtltrack.data.synthetic.traffic.scene import Plan
from mtltrack.data.synthetic.traffic.shadows import cast_shadow
from mtltrack.data.synthetic.traffic.things import Moment, Thing

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
FARTHEST = 200.0  # metres; beyond it haze gets no thicker


def render(plan: Plan, looks: Looks, effect: Effect, frame: int) -> Image:
    """Return frame number `frame` (0-based) as uint8 RGB (height, width, 3)."""
    moment = Moment(plan, looks, float(plan.story.times[frame]), effect.clear)
    things = moment.things()
    canvas = looks.background.image.copy()
    _paint_road(canvas, moment, things)
    if effect.clear < 1:
        _haze_over(canvas, looks, moment.clear_at)
    smears = bool(np.hypot(*effect.smear) >= 1)
    for thing in things:
        patch = moment.patch(thing)
        if patch is None:
            continue
        if thing.number == 0 and smears and not effect.whole:
            patch = _smeared_patch(patch, effect.smear, canvas.shape[1::-1])
        blend(canvas, patch.rgba, patch.origin)
        if plan.light.night and thing.pose is not None:
            add_glare(canvas, looks.camera, looks.models[thing.number], thing.pose, thing.lamps)
    if smears and effect.whole:
        canvas = smeared(canvas, effect.smear)
    image = shifted(canvas, MARGIN, plan.size, plan.shake[frame])
    image = coarsened(relit(image, effect.light), effect.coarseness)
    x, y = np.random.default_rng([*plan.key, 4, frame]).integers(0, NOISE_SHIFTS, 2)
    grain = looks.noise[y : y + image.shape[0], x : x + image.shape[1]]
    return cv2.add(image, grain, dtype=cv2.CV_8U)


def render_mask(plan: Plan, looks: Looks, frame: int) -> Image:
    """Return (height, width) uint8, 1 where the target is seen in the frame, smears left out."""
    moment = Moment(plan, looks, float(plan.story.times[frame]))
    things = moment.things()
    alpha = np.zeros(looks.background.lit.shape, np.uint8)
    reached = False  # whether the target has been drawn
    for thing in things:
        reached = reached or thing.number == 0
        shape = moment.shape(thing) if reached else None
        if shape is None:
            continue
        region = _region(alpha, shape)
        if thing.number == 0:
            region[:] = shape.rgba
        else:
            cv2.multiply(region, cv2.bitwise_not(shape.rgba), dst=region, scale=1 / 255)
    return (shifted(alpha, MARGIN, plan.size, plan.shake[frame]) >= 128).astype(np.uint8)


def _region(image: Image, patch: Patch) -> Image:
    (x, y), (height, width) = patch.origin, patch.rgba.shape[:2]
    return image[y : y + height, x : x + width]


def _paint_road(canvas: Image, moment: Moment, things: list[Thing]) -> None:
    """Put the shadows of all that moves, and the light of its lamps, on the ground."""
    camera, light = moment.looks.camera, moment.plan.light
    for thing in things:
        if thing.pose is not None and not thing.still:
            extent = moment.actors[thing.number].vehicle.extent
            cast_shadow(canvas, light, camera, extent, thing.pose, moment.looks.lit(thing.place))
            if thing.lamps.head:
                light_road(canvas, camera, extent, thing.pose)


def _haze_over(canvas: Image, looks: Looks, clear_at: float) -> None:
    """Lay haze over the background: the farther the ground of a row, the more."""
    depth = looks.camera.ground_depth(np.arange(canvas.shape[0]) + 0.5)
    share = clear_at ** np.minimum(depth, FARTHEST)
    rest = np.repeat(np.round(255 * share).astype(np.uint8)[:, None], canvas.shape[1], axis=1)
    cv2.multiply(canvas, cv2.merge([rest, rest, rest]), dst=canvas, scale=1 / 255)
    veil = (np.array(looks.haze) * (1 - share)[:, None]).astype(np.uint8)
    cv2.add(canvas, np.repeat(veil[:, None], canvas.shape[1], axis=1), dst=canvas)


def _smeared_patch(patch: Patch, way: tuple[float, float], bounds: tuple[int, int]) -> Patch:
    reach = int(np.ceil(max(abs(way[0]), abs(way[1])) / 2)) + 1
    wide = smeared(cv2.copyMakeBorder(patch.rgba, *[reach] * 4, cv2.BORDER_CONSTANT), way)
    x, y = patch.origin[0] - reach, patch.origin[1] - reach
    left, top = max(-x, 0), max(-y, 0)
    right, bottom = min(wide.shape[1], bounds[0] - x), min(wide.shape[0], bounds[1] - y)
    return Patch((x + left, y + top), wide[top:bottom, left:right])
