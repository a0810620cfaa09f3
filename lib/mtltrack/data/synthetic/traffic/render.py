"""The pixels of a frame of the traffic world, and the mask of its target."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.textures import sensor_noise
from mtltrack.data.synthetic.traffic.background import Background, draw_background
from mtltrack.data.synthetic.traffic.camera import Camera
from mtltrack.data.synthetic.traffic.drawing import Air, Lamps, Model, Patch, Scenery
from mtltrack.data.synthetic.traffic.effects import Effect
from mtltrack.data.synthetic.traffic.figures import figure_outlines, seen_shapes
from mtltrack.data.synthetic.traffic.lamplight import add_glare, light_road
from mtltrack.data.synthetic.traffic.ordering import far_to_near, footprint_at
from mtltrack.data.synthetic.traffic.picture import blend, coarsened, relit, shifted, smeared
from mtltrack.data.synthetic.traffic.scene import Actor, Plan
from mtltrack.data.synthetic.traffic.shading import GAMMA
from mtltrack.data.synthetic.traffic.shadows import cast_shadows

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
MARGIN = 6  # pixels of the canvas around the frame
NOISE_SHIFTS = 32
LAMPS_LEFT_ON = 4.0  # seconds that a vehicle's lamps stay on after it has halted


@dataclass(frozen=True)
class Looks:
    """What of a sequence is drawn once.

    Attributes:
        camera: of the canvas, which is MARGIN larger than the frame at each side.
        background: the scene without vehicles.
        target: the target, ready to be drawn.
        others: the other vehicles.
        still: pictures of those that never move; None for the others.
        noise: of the sensor.
        haze: pixel values of the air far away.
    """

    camera: Camera
    background: Background
    target: Model
    others: tuple[Model, ...]
    still: tuple[Patch | None, ...]
    noise: NDArray[np.int16]
    haze: tuple[float, float, float]


def make_looks(plan: Plan) -> Looks:
    """Draw what stays the same in all frames of a sequence."""
    rng = np.random.default_rng([*plan.key, 3])
    camera = plan.camera.moved(MARGIN)
    size = (plan.size[0] + 2 * MARGIN, plan.size[1] + 2 * MARGIN)
    background = draw_background(rng, plan, camera, size)
    others = tuple(Model(actor.vehicle) for actor in plan.others)
    still = tuple(
        _still(plan, actor, model, camera, background)
        for actor, model in zip(plan.others, others, strict=True)
    )
    width, height = plan.size
    grain = sensor_noise(rng, width + NOISE_SHIFTS, height + NOISE_SHIFTS, 5.0 if plan.light.night else 2.5)
    level = plan.light.horizon if not plan.light.night else 3 * plan.light.ambient
    haze = tuple(float(v) for v in np.minimum(255 * level ** (1 / 2.2), 225))
    return Looks(camera, background, Model(plan.target.vehicle), others, still, grain, haze)


def _still(plan: Plan, actor: Actor, model: Model, camera: Camera, background: Background) -> Patch | None:
    if actor.travel.v.any() or actor.travel.a.any():
        return None
    pose = actor.poses(np.zeros(1))[0]
    scenery = Scenery(plan.light, _lit(background, camera, pose))
    return model.draw(camera, pose, scenery, background.image.shape[1::-1])


def _lit(background: Background, camera: Camera, pose: Array) -> float:
    """Return the share of the direct light on the ground where a vehicle stands."""
    x, y = camera.project_ground(pose[:2])
    height, width = background.lit.shape
    return float(background.lit[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))]) / 255


@dataclass(frozen=True)
class _Item:
    """One thing to draw: number -1 is the target, 0 ... the others, then the figures."""

    number: int
    pose: Array | None


def render(plan: Plan, looks: Looks, effect: Effect, frame: int) -> Image:
    """Return frame number `frame` (0-based) as uint8 RGB (height, width, 3)."""
    canvas = looks.background.image.copy()
    time = plan.story.times[frame : frame + 1]
    items = _items(plan, looks.camera, time)
    clear_at = _clearing(plan, effect, time)
    cast_shadows(canvas, plan, looks.camera, looks.background.lit, [_shadow(plan, item) for item in items])
    lamps = {item.number: _lamps_of(plan, looks, item, time) for item in items}
    _light_roads(canvas, plan, looks.camera, items, lamps)
    if effect.clear < 1:
        _haze_over(canvas, looks, clear_at)
    for item in items:
        patch = _patch(plan, looks, item, lamps[item.number], clear_at, time)
        if patch is None:
            continue
        if item.number < 0 and np.hypot(*effect.smear) >= 1 and not effect.whole:
            patch = _smear_patch(patch, effect.smear, canvas.shape[1::-1])
        blend(canvas, patch.rgba, patch.origin)
        if plan.light.night and item.pose is not None:
            model = looks.target if item.number < 0 else looks.others[item.number]
            add_glare(canvas, looks.camera, model, item.pose, lamps[item.number])
    if effect.whole and np.hypot(*effect.smear) >= 1:
        canvas = smeared(canvas, effect.smear)
    image = shifted(canvas, MARGIN, plan.size, plan.shake[frame])
    image = coarsened(relit(image, effect.light), effect.coarseness)
    x, y = np.random.default_rng([*plan.key, 4, frame]).integers(0, NOISE_SHIFTS, 2)
    grain = looks.noise[y : y + image.shape[0], x : x + image.shape[1]]
    return cv2.add(image, grain, dtype=cv2.CV_8U)


def render_mask(plan: Plan, looks: Looks, frame: int) -> Image:
    """Return (height, width) uint8, 1 where the target is seen in the frame, smears left out."""
    time = plan.story.times[frame : frame + 1]
    items = _items(plan, looks.camera, time)
    place = next(k for k, item in enumerate(items) if item.number < 0)
    bounds = looks.background.image.shape[1::-1]
    alpha = np.zeros(bounds[::-1], np.uint8)
    own = looks.target.draw(looks.camera, items[place].pose, None, bounds)
    if own is None:
        return np.zeros(plan.size[::-1], np.uint8)
    _region(alpha, own)[:] = own.rgba
    for item in items[place + 1 :]:
        shape = _shape(plan, looks, item, time, bounds)
        if shape is not None:
            region = _region(alpha, shape)
            cv2.multiply(region, cv2.bitwise_not(shape.rgba), dst=region, scale=1 / 255)
    return (shifted(alpha, MARGIN, plan.size, plan.shake[frame]) >= 128).astype(np.uint8)


def _region(image: Image, patch: Patch) -> Image:
    (x, y), (height, width) = patch.origin, patch.rgba.shape[:2]
    return image[y : y + height, x : x + width]


def _items(plan: Plan, camera: Camera, time: Array) -> list[_Item]:
    """Return all things of a moment in the order in which they are drawn, the farthest first."""
    poses = [plan.target.poses(time)[0], *(actor.poses(time)[0] for actor in plan.others)]
    vehicles = [plan.target.vehicle, *(actor.vehicle for actor in plan.others)]
    items, footprints, boxes = [], [], []
    for number, (pose, vehicle) in enumerate(zip(poses, vehicles, strict=True), start=-1):
        box = _rough_box(camera, vehicle.extent, pose)
        if box is not None:
            items.append(_Item(number, pose))
            footprints.append(footprint_at(vehicle.footprint(), pose))
            boxes.append(box)
    for number, figure in enumerate(plan.figures, start=len(plan.others)):
        points = figure_outlines(figure, camera, time)[0]
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        if points[:, 2].min() > 0.5 and (high > 0).all() and (low < 2 * camera.centre).all():
            items.append(_Item(number, None))
            footprints.append(figure.footprint(figure.places(time)[0]))
            boxes.append(np.concatenate([low, high]))
    order = far_to_near(footprints, np.array(boxes), camera.position[:2])
    return [items[k] for k in order]


def _rough_box(camera: Camera, extent: Array, pose: Array) -> Array | None:
    """Return (4,) xyxy around the cuboid of a vehicle, or None where it is out of sight."""
    length, width, height = extent / 2 * [1, 1.15, 2]
    corners = np.array([[x, y, z] for x in (-length, length) for y in (-width, width) for z in (0, height)])
    cosine, sine = np.cos(pose[2]), np.sin(pose[2])
    world = corners @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]]) + [pose[0], pose[1], 0]
    seen = camera.project(world)
    if seen[:, 2].max() < 1:
        return None
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    if (high < 0).any() or (low > 2 * camera.centre).any():
        return None
    return np.concatenate([low, high])


def _clearing(plan: Plan, effect: Effect, time: Array) -> float:
    """Return how much light a metre of air lets through."""
    pose = plan.target.poses(time)[0]
    distance = float(np.linalg.norm(plan.camera.position - [pose[0], pose[1], 0.5]))
    return float(effect.clear ** (1 / distance))


def _haze_over(canvas: Image, looks: Looks, clear_at: float) -> None:
    """Lay haze over the background: the farther the ground of a row, the more."""
    depth = looks.camera.ground_depth(np.arange(canvas.shape[0]) + 0.5)
    share = clear_at ** np.minimum(depth, 200.0)
    rest = np.round(255 * share).astype(np.uint8)
    weights = cv2.merge([np.repeat(rest[:, None], canvas.shape[1], axis=1)] * 3)
    cv2.multiply(canvas, weights, dst=canvas, scale=1 / 255)
    veil = (np.array(looks.haze) * (1 - share)[:, None]).astype(np.uint8)
    cv2.add(canvas, np.repeat(veil[:, None], canvas.shape[1], axis=1), dst=canvas)


def _light_roads(
    canvas: Image, plan: Plan, camera: Camera, items: list[_Item], lamps: dict[int, Lamps]
) -> None:
    for item in items:
        if item.pose is not None and lamps[item.number].head:
            light_road(canvas, camera, _actor(plan, item).vehicle.extent, item.pose)


def _actor(plan: Plan, item: _Item) -> Actor:
    return plan.target if item.number < 0 else plan.others[item.number]


def _lamps_of(plan: Plan, looks: Looks, item: _Item, time: Array) -> Lamps:
    """Return which lamps of a thing are on; those of parked vehicles aren't."""
    parked = item.number >= 0 and (item.pose is None or looks.still[item.number] is not None)
    return Lamps() if parked else _lamps(plan, _actor(plan, item), time)


def _patch(plan: Plan, looks: Looks, item: _Item, lamps: Lamps, clear_at: float, time: Array) -> Patch | None:
    bounds = looks.background.image.shape[1::-1]
    if item.pose is None:
        return _figure_patch(plan, looks, item.number, time, clear_at)
    distance = float(np.linalg.norm(looks.camera.position - [item.pose[0], item.pose[1], 0.5]))
    air = Air(clear_at**distance, looks.haze)
    still = looks.still[item.number] if item.number >= 0 else None
    if still is not None and clear_at == 1:
        return still
    model = looks.target if item.number < 0 else looks.others[item.number]
    scenery = Scenery(plan.light, _lit(looks.background, looks.camera, item.pose), lamps, air)
    return model.draw(looks.camera, item.pose, scenery, bounds)


def _lamps(plan: Plan, actor: Actor, time: Array) -> Lamps:
    """Return which lamps are on: at night while it drives, the brakes' while it slows down or just stopped."""
    k = int(np.clip(np.searchsorted(actor.travel.starts, time[0], side="right") - 1, 0, None))
    stood = float(actor.travel.standing(time)[0])
    brakes = bool(actor.travel.a[k] < 0) or 0 < stood < LAMPS_LEFT_ON
    on = plan.light.night and stood < LAMPS_LEFT_ON
    return Lamps(head=on, tail=on, brakes=brakes)


def _figure_patch(plan: Plan, looks: Looks, number: int, time: Array, clear_at: float) -> Patch | None:
    figure = plan.figures[number - len(plan.others)]
    bounds = looks.background.image.shape[1::-1]
    shapes = seen_shapes(figure, looks.camera, float(time[0]))
    points = np.concatenate([outline for outline, _ in shapes])
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, bounds)
    if (high <= low).any():
        return None
    place = figure.places(time)[0]
    lit = _lit(looks.background, looks.camera, place)
    gain = (plan.light.ambient + 0.6 * lit * plan.light.direct) ** (1 / GAMMA)
    clear = clear_at ** float(np.hypot(*(place - looks.camera.position[:2])))
    rgba = np.zeros((2 * (high[1] - low[1]), 2 * (high[0] - low[0]), 4), np.uint8)
    for outline, colour in shapes:
        seen = np.minimum(np.array(colour) * gain, 255) * clear + np.array(looks.haze) * (1 - clear)
        fixed = np.clip(np.round(((outline - low) * 2 - 0.5) * 16), -60000, 60000).astype(np.int32)
        cv2.fillConvexPoly(rgba, fixed, [*seen.tolist(), 255.0], cv2.LINE_8, 4)
    return Patch(
        (int(low[0]), int(low[1])), cv2.resize(rgba, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    )


def _shape(plan: Plan, looks: Looks, item: _Item, time: Array, bounds: tuple[int, int]) -> Patch | None:
    """Return the coverage of a thing, (h, w) uint8, the same as in the drawn frame."""
    if item.pose is None:
        patch = _figure_patch(plan, looks, item.number, time, 1.0)
        return None if patch is None else Patch(patch.origin, patch.rgba[..., 3])
    still = looks.still[item.number]
    if still is not None:
        return Patch(still.origin, still.rgba[..., 3])
    return looks.others[item.number].draw(looks.camera, item.pose, None, bounds)


def _smear_patch(patch: Patch, way: tuple[float, float], bounds: tuple[int, int]) -> Patch:
    reach = int(np.ceil(max(abs(way[0]), abs(way[1])) / 2)) + 1
    wide = smeared(cv2.copyMakeBorder(patch.rgba, *[reach] * 4, cv2.BORDER_CONSTANT), way)
    x, y = patch.origin[0] - reach, patch.origin[1] - reach
    left, top = max(-x, 0), max(-y, 0)
    right, bottom = min(wide.shape[1], bounds[0] - x), min(wide.shape[0], bounds[1] - y)
    return Patch((x + left, y + top), wide[top:bottom, left:right])


def _shadow(plan: Plan, item: _Item) -> tuple[Array, Array] | None:
    """Return extent (3,) and pose (3,) of what casts a shadow; None for figures."""
    if item.pose is None:
        return None
    return _actor(plan, item).vehicle.extent, item.pose
