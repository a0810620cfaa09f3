"""The parts that rendered traffic is made of: camera, ways, order, shapes."""

from __future__ import annotations

import numpy as np
import pytest

from mtltrack.data.synthetic.plates import draw_plate
from mtltrack.data.synthetic.traffic.bodywork import Builder
from mtltrack.data.synthetic.traffic.camera import Camera, placed
from mtltrack.data.synthetic.traffic.mesh import MATERIALS
from mtltrack.data.synthetic.traffic.motion import Travel, lane_path, parking_path, turning_path
from mtltrack.data.synthetic.traffic.ordering import far_to_near, hull, is_nearer, shares
from mtltrack.data.synthetic.traffic.picture import smeared
from mtltrack.data.synthetic.traffic.story import draw_story
from mtltrack.data.synthetic.traffic.vehicles import BODIES, Vehicle, draw_vehicle


@pytest.fixture
def level() -> Camera:
    """Five metres above the ground, looking along y, 400 pixels of focal length, 640 x 360."""
    return Camera.towards(np.array([0.0, 0, 5]), np.array([0.0, 100, 5]), 400.0, (640, 360))


def test_the_camera_projects_as_a_pinhole_does(level: Camera) -> None:
    x, y, depth = level.project(np.array([2.0, 10.0, 4.0]))
    assert (x, y, depth) == pytest.approx((320 + 400 * 2 / 10, 180 + 400 * 1 / 10, 10.0))
    assert level.horizon() == pytest.approx(180)
    assert level.ground_depth(np.array([180.0 + 400 * 5 / 20])) == pytest.approx([20.0])
    assert np.isinf(level.ground_depth(np.array([100.0])))[0]


def test_a_tilted_camera_sees_its_goal_in_the_middle_and_the_horizon_above() -> None:
    camera = Camera.towards(np.array([1.0, 0, 6]), np.array([4.0, 15, 0]), 700.0, (640, 360))
    assert camera.project(np.array([4.0, 15, 0]))[:2] == pytest.approx([320, 180])
    assert camera.project(np.array([4.0, 15, 2]))[1] < 180
    far = camera.project(np.array([[1e7, 2e7, 0.0], [0, 1e7, 0.0]]))
    assert far[:, 1] == pytest.approx(camera.horizon(), abs=0.01)


def test_the_ground_s_matrix_agrees_with_the_projection() -> None:
    camera = Camera.towards(np.array([1.0, 0, 6]), np.array([4.0, 15, 0]), 700.0, (640, 360))
    x, y, w = camera.ground_matrix() @ [3.0, 20.0, 1.0]
    assert (x / w, y / w) == pytest.approx(tuple(camera.project_ground(np.array([3.0, 20.0]))))


def test_a_body_is_placed_by_its_heading() -> None:
    front_left = np.array([[2.0, 1.0, 0.5]])
    assert placed(front_left, np.array([10.0, 20.0, 0.0]))[0] == pytest.approx([12, 21, 0.5])
    assert placed(front_left, np.array([10.0, 20.0, np.pi / 2]))[0] == pytest.approx([9, 22, 0.5])


def test_a_travel_brakes_stands_and_starts() -> None:
    travel = Travel.through(5.0, [(2, 10, 10), (4, 10, 0), (30, 0, 0), (2, 0, 6)])
    times = np.array([0.0, 2, 4, 6, 20, 36, 37, 38, 40])
    assert travel.at(times) == pytest.approx([5, 25, 40, 45, 45, 45, 46.5, 51, 63])
    assert travel.speed(times) == pytest.approx([10, 10, 5, 0, 0, 0, 3, 6, 6])
    assert travel.standing(times) == pytest.approx([0, 0, 0, 0, 14, 0, 0, 0, 0])
    assert Travel.steady(140, 10, cycle=150.0).at(np.array([0.0, 2.0])) == pytest.approx([140, 10])


def test_a_turning_path_is_a_quarter_circle() -> None:
    path = turning_path(2.0, 1, corner=10.0, side=1, radius=5.0, start=0.0)
    start, after = path.poses(np.array([0.0, 10 + 5 * np.pi / 2 + 5]))
    assert start == pytest.approx([2, 0, np.pi / 2], abs=0.02)
    assert after == pytest.approx([2 + 5 + 5, 15, 0], abs=0.15)


def test_a_parking_path_halts_beside_the_lane_and_comes_back() -> None:
    path = parking_path(1.6, 4.4, -1, at=15.0, start=0.0, stop=40.0, sway=6.0)
    x, y, heading = path.poses(np.array(path.nearest(4.4, 15.0)))
    assert (x, y) == pytest.approx((4.4, 15.0), abs=0.13)
    assert heading == pytest.approx(-np.pi / 2, abs=0.02)
    assert path.points[0] == pytest.approx([1.6, 40.0], abs=0.3) and path.points[-1, 0] == pytest.approx(1.6)


def test_a_lane_leads_both_ways() -> None:
    there, back = lane_path(1.0, 1, 0, 10), lane_path(-1.0, -1, 0, 10)
    assert there.poses(np.array(3.0)) == pytest.approx([1, 3, np.pi / 2])
    assert back.poses(np.array(3.0)) == pytest.approx([-1, back.points[0, 1] - 3, -np.pi / 2])
    assert there.poses(np.array(-5.0))[1] == pytest.approx(-5), "straight on before its start"


def square(x: float, y: float, width: float = 2.0, length: float = 2.0) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + length], [x, y + length]])


def test_what_is_nearer_is_told_by_a_line_between() -> None:
    camera = np.zeros(2)
    assert is_nearer(square(0, 5), square(0, 10), camera)
    assert not is_nearer(square(0, 10), square(0, 5), camera)
    bus, car = square(2, 3, length=30), square(6, 5)  # the bus's middle is farther away than the car's
    assert is_nearer(bus, car, camera) and not is_nearer(car, bus, camera)


def test_things_are_drawn_from_far_to_near() -> None:
    boxes = np.array([[0, 0, 10, 10.0]] * 3)
    shapes = [square(0, 5), square(0, 20), square(0, 10)]
    assert far_to_near(shapes, boxes, np.zeros(2)) == [1, 2, 0]


def test_shares_of_a_shape_inside_and_covered() -> None:
    size = (100, 100)
    assert shares([square(10, 10, 40, 40)], [], size) == (1.0, 0.0)
    inside, covered = shares([square(80, 10, 40, 40)], [], size)
    assert inside == pytest.approx(0.5, abs=0.03) and covered == 0
    inside, covered = shares([square(10, 10, 40, 40)], [square(0, 0, 20, 100)], size)
    assert inside == 1 and covered == pytest.approx(0.25, abs=0.03)
    inside, covered = shares([square(80, 10, 40, 40)], [square(90, 0, 60, 100)], size)
    assert (inside, covered) == pytest.approx((0.5, 0.25), abs=0.03)


def test_what_lies_behind_the_camera_has_no_outline() -> None:
    assert len(hull(np.array([[0, 0, -1.0], [5, 5, -2], [5, 0, -3]]))) == 0


def test_a_smear_spreads_a_point_along_its_way_and_keeps_its_middle() -> None:
    image = np.zeros((41, 41), np.uint8)
    image[20, 20] = 255
    rows, columns = np.nonzero(smeared(image, (16.0, 0.0)))
    assert set(rows) == {20}
    assert columns.mean() == pytest.approx(20, abs=1) and np.ptp(columns) == pytest.approx(16, abs=3)
    total = smeared(np.full((41, 41), 100, np.uint8), (10.0, 10.0))
    assert np.abs(total.astype(int) - 100).max() <= 2


@pytest.mark.parametrize("body", list(BODIES))
def test_bodies_have_their_size_and_face_outwards(body: str) -> None:
    vehicle = Vehicle(
        body, (1, 1, 1), (200, 0, 0), (0, 0, 200), draw_plate(np.random.default_rng(0), "germany")
    )
    length, width, height = vehicle.extent
    assert 3.8 < length < 11.5 and 1.7 < width < 2.6 and 1.4 < height < 3.4
    support = vehicle.support()
    assert np.ptp(support[:, 0]) == pytest.approx(length, abs=0.2)
    assert support[:, 2].min() == pytest.approx(0, abs=0.01) and support[:, 2].max() == pytest.approx(
        height, abs=0.05
    )
    covered = sorted(k for group in vehicle.groups() for k in range(group.start, group.stop))
    assert covered == list(range(len(support)))
    for part in vehicle.parts():
        up = part.mesh.normals[part.mesh.centres[:, 2] > 0.98 * part.mesh.extent[2]]
        assert (up[:, 2] >= 0).all() and up[:, 2].mean() > 0.5, "the roof faces upwards"
        assert np.linalg.norm(part.mesh.normals, axis=1) == pytest.approx(1)
        assert part.mesh.materials.max() < len(MATERIALS)
    for front in (True, False):
        plate = vehicle.plate_corners(front)
        assert plate is not None
        assert np.linalg.norm(plate[1] - plate[0]) == pytest.approx(0.52)
        assert (plate[0, 2] > plate[3, 2]) and np.sign(plate[:, 0]).tolist() == [1.0 if front else -1.0] * 4


def test_the_coarse_body_is_as_large_as_the_fine_one() -> None:
    for name in BODIES:
        vehicle = draw_vehicle(np.random.default_rng(1), draw_plate(np.random.default_rng(0)), (name,))
        for fine, coarse in zip(vehicle.parts(True), vehicle.parts(False), strict=True):
            assert len(coarse.mesh.quads) < 0.7 * len(fine.mesh.quads)
            low, high = (
                np.array([m.vertices.min(axis=0), m.vertices.max(axis=0)]) for m in (fine.mesh, coarse.mesh)
            )
            assert np.abs(low - high).max() < 0.05


def test_a_body_without_panes_can_be_built() -> None:
    row = {
        "length": 2.0, "width": 1.0, "top": [[0, 1.5], [2, 1.5]], "belt": [[0, 1], [2, 1]],
        "levels": [0.2, 0.3, 0.5, 0.7], "windscreen": None, "rear_window": None, "windows": [], "doors": [],
        "wheels": [1.0], "wheel_radius": 0.3, "bulge": [0, 0], "taper": [0, 0], "roof": 1.0, "front": [],
        "tail": [], "wrap": [0, 0], "plates": [None, None], "mirrors": None,
    }  # fmt: skip
    mesh = Builder(row).build()
    assert mesh.plates == (None, None)
    assert mesh.extent[:2] == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize("kind", ["stop", "park", "outside", "leave"])
def test_a_standing_story_lasts_as_its_kind_says(kind: str) -> None:
    for seed in range(20):
        story = draw_story(np.random.default_rng(seed), kind, 120, 10.0, 120.0)
        assert (np.diff(story.times) > 0).all() and len(story.times) == 120
        stood = min(story.go, story.times[-1]) - story.halt
        assert (stood > 120) == (kind != "stop")
        moving = story.times[story.times < story.halt]
        assert 0.05 < np.diff(moving).mean() < 0.2


def test_a_story_keeps_its_stand_when_it_is_retimed() -> None:
    story = draw_story(np.random.default_rng(1), "leave", 100, 10.0, 120.0)
    told = story.retimed(0.5, 0.25)
    assert told.go - told.halt == pytest.approx(story.go - story.halt)
    assert told.halt == pytest.approx(story.halt / 2)
    assert told.times[-1] - told.go == pytest.approx((story.times[-1] - story.go) / 4, abs=1e-5)
    assert (np.diff(told.times) > 0).all() and told.times[0] == 0
