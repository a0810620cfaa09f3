"""What is true of the frames of a sequence, measured on the scene without drawing it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.conditions import condition_names, normal_index
from mtltrack.core.stopping import StopRule, largest_overlap
from mtltrack.data.synthetic.traffic.camera import NEAREST, placed
from mtltrack.data.synthetic.traffic.effects import Effect, effects_of
from mtltrack.data.synthetic.traffic.figures import figure_outlines
from mtltrack.data.synthetic.traffic.ordering import footprint_at, hull, hulls, is_nearer, shares
from mtltrack.data.synthetic.traffic.plate_truth import PlateTruth, plate_truth, view_plates
from mtltrack.data.synthetic.traffic.scene import Actor, Plan, bounds, boxes_meet, silhouettes

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

HIDDEN = 0.15  # share of the target: Occlusion
CUT = 0.85  # share of the target that must be inside: Partial Visibility
DIMMED = 0.5  # log2 of the gain: Illumination Change
SCALED = 2.0  # factor of the area: Scale Variation
SMEARED = 0.1  # share of the target's side: Motion Blur
TURNED = np.deg2rad(30)  # Variance in Appearance
MEASURED = 400  # measured pixels on the target: Low Resolution
NEAR = 1.4  # widths of the target between it and a double: Background Clutter
HAZY = 0.5  # share of the target's light that gets through: Low Contrast Object
SEEN = 0.1  # share of the target that must be in sight for it to be visible


@dataclass(frozen=True)
class Truth:
    """What is true of all frames of a sequence; F frames.

    Attributes:
        boxes_xywh: (F, 4) pixels: around the part of the target inside the frame, hidden parts included.
        inside: (F,) share of the target that is inside the frame.
        covered: (F,) share of it that is inside but behind something.
        flags: (F, 10) in the order of `condition_names()`; Normal exactly where no other is set.
        effects: what is done to each frame.
        plates: the target's plate in each frame.
        stopped: (F,) seconds that the target has been standing, by its real speed.
        alerts: (F,) whether it has stood too long in a zone.
    """

    boxes_xywh: Array
    inside: Array
    covered: Array
    flags: Bools
    effects: list[Effect]
    plates: list[PlateTruth]
    stopped: Array
    alerts: Bools

    @property
    def visible(self) -> Bools:
        """(F,) whether at least a tenth of the target can be seen."""
        return self.inside - self.covered > SEEN


@dataclass(frozen=True)
class Views:
    """Where a vehicle is seen in all frames: points (F, S, 3), boxes (F, 4) xyxy, poses (F, 3)."""

    points: Array
    boxes: Array
    poses: Array


def view_of(plan: Plan, actor: Actor) -> Views:
    """Return where an actor is seen in all frames, the camera's shake included."""
    poses = actor.poses(plan.story.times)
    points = silhouettes(plan.camera, actor.vehicle, poses)
    points[..., :2] += plan.shake[:, None]
    return Views(points, bounds(points), poses)


def measure(plan: Plan, rule: StopRule) -> Truth:
    """Return what is true of a sequence.

    Args:
        plan: of the sequence.
        rule: when standing is an alert; `speed` and `gap` aren't used, the real speed is known.
    """
    target = view_of(plan, plan.target)
    others = [view_of(plan, actor) for actor in plan.others]
    frames = len(plan.story.times)
    sides = np.sqrt((target.boxes[:, 2:] - target.boxes[:, :2]).prod(axis=1))
    effects = effects_of(plan, sides)
    seen = view_plates(plan, target.poses)
    boxes, inside, covered, plates = target.boxes.copy(), np.ones(frames), np.zeros(frames), []
    covers, groups = _covers(plan, target, others), plan.target.vehicle.groups()
    cut = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2:] > plan.size).any(axis=1)
    for frame in range(frames):
        if cut[frame] or covers[frame]:
            outlines = hulls(target.points[frame], groups)
            inside[frame], covered[frame] = shares(outlines, covers[frame], plan.size)
        corners, facing = seen.corners[frame], float(seen.facing[frame])
        plates.append(plate_truth(plan, corners, facing, covers[frame], effects[frame]))
    for frame in np.flatnonzero(cut):
        boxes[frame] = _cut_box(plan, target, frame)
    stopped = plan.target.travel.standing(plan.story.times)
    flags = _flags(plan, target, others, inside, covered, effects)
    return Truth(
        boxes_xywh=np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
        inside=inside,
        covered=covered,
        flags=flags,
        effects=effects,
        plates=plates,
        stopped=stopped,
        alerts=_alerts(plan, boxes, stopped, rule),
    )


def _covers(plan: Plan, target: Views, others: list[Views]) -> list[list[Array]]:
    """Return for each frame the outlines (N, 2) of what stands before the target."""
    covers: list[list[Array]] = [[] for _ in target.poses]
    camera, own = plan.camera.position[:2], target.boxes
    foot = plan.target.vehicle.footprint()
    for actor, view in zip(plan.others, others, strict=True):
        for frame in np.flatnonzero(boxes_meet(view.points, own)):
            there = footprint_at(actor.vehicle.footprint(), view.poses[frame])
            if is_nearer(there, footprint_at(foot, target.poses[frame]), camera):
                covers[frame] += hulls(view.points[frame], actor.vehicle.groups())
    for figure in plan.figures:
        places, points = (
            figure.places(plan.story.times),
            figure_outlines(figure, plan.camera, plan.story.times),
        )
        points[..., :2] += plan.shake[:, None]
        for frame in np.flatnonzero(boxes_meet(points, own)):
            stand = figure.footprint(places[frame])
            if is_nearer(stand, footprint_at(foot, target.poses[frame]), camera):
                covers[frame].append(hull(points[frame]))
    return covers


def _cut_box(plan: Plan, target: Views, frame: int) -> Array:
    """Return the (4,) xyxy box of the part inside the frame of a target that reaches beyond it."""
    box = target.boxes[frame]
    found = [_inside_points(plan, plan.shake[frame], part) for part in _surfaces(plan, target.poses[frame])]
    points = np.concatenate(found)
    if not len(points):
        middle = np.clip((box[:2] + box[2:]) / 2, 0, plan.size)
        return np.concatenate([middle, middle])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _surfaces(plan: Plan, pose: Array) -> list[tuple[Array, NDArray[np.int64]]]:
    """Return the projected vertices (V, 3) and the quads of the target's parts."""
    vehicle = plan.target.vehicle
    return [
        (
            plan.camera.project(placed(part.shifted(part.mesh.vertices) * vehicle.stretch, pose)),
            part.mesh.quads,
        )
        for part in vehicle.parts()
    ]


def _inside_points(plan: Plan, shake: Array, surface: tuple[Array, NDArray[np.int64]]) -> Array:
    """Return (N, 2) corners of a surface's part inside the frame: vertices, and edges cut by its border."""
    projected, quads = surface
    points = projected[:, :2] + shake
    size = np.array(plan.size, np.float64)
    inside = ((points >= 0) & (points <= size)).all(axis=1) & (projected[:, 2] > NEAREST)
    start, stop = quads.reshape(-1), np.roll(quads, -1, axis=1).reshape(-1)
    before = (projected[start, 2] > NEAREST) & (projected[stop, 2] > NEAREST)
    first, second = points[start[before]], points[stop[before]]
    found = [points[inside]]
    for axis in (0, 1):
        for limit in (0.0, size[axis]):
            with np.errstate(divide="ignore", invalid="ignore"):
                share = (limit - first[:, axis]) / (second[:, axis] - first[:, axis])
                across = first[:, 1 - axis] + share * (second[:, 1 - axis] - first[:, 1 - axis])
            cut = (share > 0) & (share < 1) & (across >= 0) & (across <= size[1 - axis])
            columns = (np.full(int(cut.sum()), limit), across[cut])
            found.append(np.column_stack(columns if axis == 0 else columns[::-1]))
    return np.concatenate(found)


def _flags(
    plan: Plan, target: Views, others: list[Views], inside: Array, covered: Array, effects: list[Effect]
) -> Bools:
    extent = target.boxes[:, 2:] - target.boxes[:, :2]
    area, side = extent.prod(axis=1), np.sqrt(extent.prod(axis=1))
    gaze = np.arctan2(*(target.poses[:, :2] - plan.camera.position[:2]).T[::-1])
    turn = np.unwrap(target.poses[:, 2] - gaze)
    smear = np.array([np.hypot(*effect.smear) for effect in effects])
    light = np.array([effect.light for effect in effects])
    coarse = np.array([effect.coarseness for effect in effects])
    clear = np.array([effect.clear for effect in effects])
    ratio = area / area[0]
    rules = {
        "Occlusion": covered > HIDDEN,
        "Illumination Change": np.abs(light) > DIMMED,
        "Scale Variation": (ratio > SCALED) | (ratio < 1 / SCALED),
        "Motion Blur": smear > SMEARED * side,
        "Variance in Appearance": np.abs(turn - turn[0]) > TURNED,
        "Partial Visibility": inside < CUT,
        "Low Resolution": area / coarse**2 < MEASURED,
        "Background Clutter": _doubles(plan, target, others),
        "Low Contrast Object": clear < HAZY,
    }
    none = np.zeros(len(area), bool)
    flags = np.stack([rules.get(name, none) for name in condition_names()], axis=1)
    flags[:, normal_index()] = ~flags.any(axis=1)
    return flags


def _doubles(plan: Plan, target: Views, others: list[Views]) -> Bools:
    """Return (F,) whether a vehicle that looks like the target is in the picture close to it."""
    near = np.zeros(len(target.poses), bool)
    middle = (target.boxes[:, :2] + target.boxes[:, 2:]) / 2
    width = target.boxes[:, 2] - target.boxes[:, 0]
    for actor, view in zip(plan.others, others, strict=True):
        if actor.vehicle.looks_like(plan.target.vehicle):
            centre = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2  # NaN where it isn't before the camera
            there = ((centre > 0) & (centre < plan.size)).all(axis=1)
            near |= there & (np.hypot(*(centre - middle).T) < NEAR * width)
    return near


def _alerts(plan: Plan, boxes: Array, stopped: Array, rule: StopRule) -> Bools:
    """Return (F,) the hard rule on the real time stood and the true box."""
    red = np.zeros(len(stopped), bool)
    for frame in np.flatnonzero(stopped > rule.seconds):
        red[frame] = largest_overlap(boxes[frame], plan.polygons, rule.measure)[0] > rule.overlap
    return red
