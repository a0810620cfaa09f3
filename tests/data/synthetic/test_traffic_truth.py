"""The labels of rendered traffic against its pixels, and against rules worked out anew."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mtltrack.core.conditions import condition_names
from mtltrack.core.stopping import StopRule, largest_overlap, stopped_seconds
from mtltrack.data.synthetic.traffic.effects import Effect
from mtltrack.data.synthetic.traffic.looks import make_looks
from mtltrack.data.synthetic.traffic.render import render, render_mask
from mtltrack.data.synthetic.traffic.scene import Plan
from mtltrack.data.synthetic.traffic.sequences import TrafficSequences

SIZE = (320, 180)
Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def world() -> TrafficSequences:
    return TrafficSequences(num_sequences=12, num_frames=60, size=SIZE, seed=1)


@pytest.fixture(scope="module")
def near() -> TrafficSequences:
    """Vehicles that come close, in frames large enough to read their plates."""
    return TrafficSequences(num_sequences=5, num_frames=60, seed=1, kinds=["approach"])


def corners(world: TrafficSequences, i: int) -> NDArray[np.float64]:
    boxes = world.truth(i).boxes_xywh
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def flagged(world: TrafficSequences, name: str, least: int = 1) -> list[tuple[int, int]]:
    """Return (sequence, frame) in the middle of the frames that show a condition, for sequences that do."""
    number, found = condition_names().index(name), []
    for i in range(world.num_sequences):
        frames = np.flatnonzero(world.truth(i).flags[:, number])
        if len(frames) >= least:
            found.append((i, int(frames[len(frames) // 2])))
    assert found, f"no sequence shows {name}"
    return found


def alone(plan: Plan) -> Plan:
    return replace(plan, others=(), figures=())


def extents(mask: Image) -> NDArray[np.float64]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def test_the_box_is_tight_around_the_mask_of_a_target_that_nothing_hides(world: TrafficSequences) -> None:
    worst = []
    for i in range(world.num_sequences):
        truth, boxes = world.truth(i), corners(world, i)
        for frame in range(3, 60, 28):
            if truth.covered[frame] == 0:
                worst.append(np.abs(extents(world.mask(i, frame)) - boxes[frame]).max())
    assert len(worst) > 15
    assert max(worst) < 2.5 and np.median(worst) < 1.2


def test_a_target_cut_by_the_frame_has_the_box_of_what_is_inside(world: TrafficSequences) -> None:
    for i, frame in flagged(world, "Partial Visibility")[:4]:
        truth = world.truth(i)
        assert truth.inside[frame] < 0.85
        mask = render_mask(alone(world.plan(i)), make_looks(alone(world.plan(i))), frame)
        assert np.abs(extents(mask) - corners(world, i)[frame]).max() < 2.5
        left, top, right, bottom = corners(world, i)[frame]
        assert left == 0 or top == 0 or right == SIZE[0] or bottom == SIZE[1]


def test_the_mask_is_where_the_target_s_paint_shows(world: TrafficSequences) -> None:
    """Only the target's own pixels change with its paint, but for the haze of the lamps."""
    for i in (1, 3, 8):
        plan = world.plan(i)
        other = tuple(255.0 - value for value in plan.target.vehicle.paint)
        vehicle = replace(plan.target.vehicle, paint=other, accent=other)
        painted = replace(plan, target=replace(plan.target, vehicle=vehicle))
        frame = 12
        one, two = (render(p, make_looks(p), Effect(), frame).astype(int) for p in (plan, painted))
        changed = (np.abs(one - two).max(axis=2) > 12).astype(np.uint8)
        mask = world.mask(i, frame)
        assert changed[cv2.dilate(mask, np.ones((3, 3), np.uint8)) == 0].sum() == 0
        assert changed[mask > 0].mean() > 0.3  # windows, tyres and lamps stay as they are


def test_what_hides_the_target_is_not_in_its_mask_and_is_measured(world: TrafficSequences) -> None:
    found = flagged(world, "Occlusion")[:4]
    for i, frame in found:
        plan = alone(world.plan(i))
        whole, seen = render_mask(plan, make_looks(plan), frame), world.mask(i, frame)
        assert not (seen & ~whole & 1).any()
        hidden = 1 - seen.sum() / whole.sum()
        assert hidden > 0.05
        assert abs(hidden - world.truth(i).covered[frame] / world.truth(i).inside[frame]) < 0.25
    assert len(found) >= 3


def sharpness(image: Image) -> float:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(np.diff(grey, axis=1)).mean() + np.abs(np.diff(grey, axis=0)).mean())


def around(image: Image, box: NDArray[np.float64]) -> Image:
    left, top, right, bottom = np.round(box).astype(int)
    return image[top:bottom, left:right]


@pytest.mark.parametrize(
    "name", ["Illumination Change", "Motion Blur", "Low Resolution", "Low Contrast Object"]
)
def test_a_flagged_frame_looks_different_from_the_same_frame_without(name: str) -> None:
    world = TrafficSequences(3, 30, SIZE, seed=2, conditions=[name])
    seen = 0
    for i, frame in flagged(world, name):
        plan, box = world.plan(i), corners(world, i)[frame]
        plain = around(render(plan, make_looks(plan), Effect(), frame), box)
        shown = around(world.image(i, frame), box)
        if name == "Illumination Change":
            ratio = float(shown.mean() / plain.mean())
            assert ratio < 0.85 or ratio > 1.1
        elif name == "Low Contrast Object":
            assert shown.std() < 0.75 * plain.std()
        else:
            assert sharpness(shown) < 0.8 * sharpness(plain)
        seen += 1
    assert seen >= 3


def test_scale_and_turning_are_measured_against_the_first_frame(world: TrafficSequences) -> None:
    names = condition_names()
    for i in range(world.num_sequences):
        truth, plan = world.truth(i), world.plan(i)
        whole = (truth.inside == 1) & (truth.inside[0] == 1)
        area = truth.boxes_xywh[:, 2:].prod(axis=1)
        grown = np.abs(np.log(area / area[0])) > np.log(2)
        assert np.array_equal(truth.flags[whole, names.index("Scale Variation")], grown[whole])
        poses = plan.target.poses(plan.story.times)
        to_camera = np.arctan2(plan.camera.position[1] - poses[:, 1], plan.camera.position[0] - poses[:, 0])
        seen_from = np.unwrap(poses[:, 2] - to_camera)
        turned = np.abs(seen_from - seen_from[0]) > np.radians(30)
        assert np.array_equal(truth.flags[:, names.index("Variance in Appearance")], turned)


def test_clutter_means_a_vehicle_of_the_same_kind_close_by(world: TrafficSequences) -> None:
    for i, frame in flagged(world, "Background Clutter"):
        plan, time = world.plan(i), world.plan(i).story.times[frame : frame + 1]
        place = plan.target.poses(time)[0, :2]
        doubles = [a for a in plan.others if a.vehicle.body == plan.target.vehicle.body]
        apart = [float(np.hypot(*(a.poses(time)[0, :2] - place))) for a in doubles]
        assert min(apart) < 40  # metres


def test_a_plate_lies_on_the_target_and_reads_as_it_is_labelled(near: TrafficSequences) -> None:
    world, seen, read = near, 0, 0
    for i in range(world.num_sequences):
        boxes, info = corners(world, i), world.sequence(i)
        text = world.plan(i).target.vehicle.plate.text
        for frame, plate in info.plates.items():
            if plate.box_xyxy is None:
                assert plate.text is None
                continue
            left, top, right, bottom = plate.box_xyxy
            assert left < right and top < bottom
            x1, y1, x2, y2 = boxes[frame] + [-1, -1, 1, 1]
            assert x1 <= left and y1 <= top and right <= x2 and bottom <= y2
            assert plate.text in (None, text)
            seen += 1
            if plate.text is not None:
                assert (right - left) / len(text) >= 4.5 and bottom - top >= 7
                assert world.truth(i).covered[frame] < 0.9
                read += 1
        assert info.has_text == any(plate.text for plate in info.plates.values())
    assert seen > 200 and read > 40


def test_a_readable_plate_shows_the_plate_s_picture(near: TrafficSequences) -> None:
    """The drawn plate, warped back to its front, is like the picture it was drawn from."""
    world, likeness = near, []
    for i in range(world.num_sequences):
        plates = world.truth(i).plates
        readable = [frame for frame, plate in enumerate(plates) if plate.readable]
        if not readable or world.truth(i).effects[readable[-1]].clear < 1:
            continue
        own = plates[readable[-1]].corners
        assert own is not None
        picture = world.plan(i).target.vehicle.plate.image
        height, width = picture.shape[:2]
        goal = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        matrix = cv2.getPerspectiveTransform(own.astype(np.float32) - 0.5, goal - 0.5)
        back = cv2.warpPerspective(world.image(i, readable[-1]), matrix, (width, height))
        grey, truth = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(float).ravel() for p in (back, picture))
        likeness.append(float(np.corrcoef(grey, truth)[0, 1]))
    assert len(likeness) >= 3 and np.median(likeness) > 0.7


@pytest.mark.parametrize("kind", ["park", "leave", "stop", "outside", "pass", "approach"])
def test_alerts_are_those_of_the_hard_rule(kind: str) -> None:
    """Worked out anew from boxes and time stamps, which know the speed only from frame to frame."""
    world = TrafficSequences(3, 80, SIZE, seed=4, kinds=[kind], conditions=["Normal"])
    rule = StopRule()
    for i in range(3):
        info, boxes = world.sequence(i), corners(world, i)
        times, alerts = info.times(), np.array([info.alerts[frame] for frame in range(80)])
        seconds = stopped_seconds(boxes, info.visible, times, rule)
        red = np.array(
            [rule.is_red(s, largest_overlap(b, info.zones)[0]) for s, b in zip(seconds, boxes, strict=True)]
        )
        assert alerts.any() == red.any() == (kind in ("park", "leave"))
        if alerts.any():
            assert abs(times[alerts.argmax()] - times[red.argmax()]) <= np.diff(times).max() + 1
            assert alerts[-1] == (kind == "park")
            assert np.abs(np.diff(alerts.astype(int))).sum() == (1 if kind == "park" else 2)


def test_the_real_standing_time_grows_with_the_clock(world: TrafficSequences) -> None:
    for i in range(world.num_sequences):
        info, plan = world.sequence(i), world.plan(i)
        assert info.stopped is not None
        for (t1, s1), (t2, s2) in pairwise(zip(info.times(), info.stopped, strict=True)):
            if s2 > 0:
                assert s2 <= t2 and (s2 == pytest.approx(s1 + t2 - t1) or s1 == 0)
        speed = plan.target.travel.speed(info.times())
        assert (speed[info.stopped > 0] == 0).all() and (speed >= -1e-9).all()
