"""The alert's tensor functions: exact overlap, the clock's leak, the soft alert and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtltrack.core.stopping import StopRule, overlap_with_zone, stopped_seconds
from mtltrack.losses.alert import (
    alert_logit,
    alert_loss,
    box_polygon_areas,
    polygon_areas,
    stop_clock,
    stop_gate,
    zone_overlaps,
)

# a U, open at the top: 30 wide, 20 high, its notch 10 wide and 10 deep
LETTER_U = [[0, 0], [10, 0], [10, 10], [20, 10], [20, 0], [30, 0], [30, 20], [0, 20]]


def double(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def stars(count: int, corners: int, seed: int = 0) -> torch.Tensor:
    """Random simple polygons around (300, 300), most of them concave, half of them listed clockwise."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, (count, corners)), axis=1)
    radii = rng.uniform(20, 300, (count, corners))
    polygons = 300 + radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    polygons[::2] = polygons[::2, ::-1]
    return torch.from_numpy(polygons)


def boxes(count: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 500, (count, 2))
    return torch.from_numpy(np.concatenate([corner, corner + rng.uniform(5, 200, (count, 2))], axis=1))


def test_areas_equal_shapely() -> None:
    shapely = pytest.importorskip("shapely")
    polygons, rectangles = stars(300, 9), boxes(300)
    found, whole = box_polygon_areas(rectangles, polygons), polygon_areas(polygons)
    sides = rectangles[:, 2:] - rectangles[:, :2]
    compared = 0
    for i, polygon in enumerate(polygons.numpy()):
        reference = shapely.Polygon(polygon)
        if reference.is_valid:
            common = shapely.box(*rectangles[i].tolist()).intersection(reference).area
            assert abs(float(found[i]) - common) < 1e-12 * float(sides[i].prod())
            assert float(whole[i]) == pytest.approx(reference.area, rel=1e-12)
            assert (common == 0) == (float(found[i]) == 0)
            compared += common > 0
    assert compared > 100


def test_areas_of_whole_pixels_are_exact_where_edges_coincide() -> None:
    letter = double(LETTER_U)
    rectangles = double([[0, 0, 30, 20], [5, 5, 25, 15], [12, 0, 18, 8], [10, 0, 20, 10], [0, 0, 10, 20]])
    for polygon in (letter, letter.flip(0), letter.roll(3, 0)):
        assert box_polygon_areas(rectangles, polygon).tolist() == pytest.approx([500, 150, 0, 0, 200])


def test_repeated_last_vertices_and_absent_zones() -> None:
    triangle = double([[0, 0], [20, 0], [0, 20]])
    padded = torch.cat([triangle, triangle[-1:].expand(4, 2)])
    zones = torch.stack([padded, torch.zeros(7, 2, dtype=torch.float64)])
    box = double([0, 0, 10, 10]).requires_grad_()
    areas = box_polygon_areas(box, zones)
    assert areas.tolist() == [100, 0]
    overlap = zone_overlaps(box[None], zones[None], "iou")
    assert overlap[0].tolist() == pytest.approx([100 / 200, 0])
    overlap.sum().backward()
    assert torch.isfinite(box.grad).all()


def test_gradients_of_the_area_equal_differences() -> None:
    rectangles, polygons = boxes(24, seed=2).requires_grad_(), stars(24, 7, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(box_polygon_areas, (rectangles, polygons))


@pytest.mark.parametrize("measure", ["ioa", "iou", "footprint"])
def test_gradients_of_the_overlap_equal_differences(measure: str) -> None:
    rectangles = boxes(12, seed=3).requires_grad_()
    zones = stars(24, 6, seed=4).view(12, 2, 6, 2)
    assert torch.autograd.gradcheck(lambda value: zone_overlaps(value, zones, measure), (rectangles,))


def test_moving_a_side_changes_the_area_by_its_length_in_the_polygon() -> None:
    # the right side x = 15 lies in the U from y = 10 to 18, the lower side y = 18 from x = 5 to 15
    box = double([5, 2, 15, 18]).requires_grad_()
    box_polygon_areas(box, double(LETTER_U)).backward()
    assert box.grad.tolist() == pytest.approx([-16, -5, 8, 10])


def test_apart_the_gradient_is_exactly_zero() -> None:
    places = double(
        [[400, 400, 450, 430], [0, -90, 30, -50], [12, 1, 18, 8], [-40, 0, -10, 20], [31, 21, 32, 22]]
    )
    places.requires_grad_()
    overlap = zone_overlaps(places, double(LETTER_U)[None].expand(5, 1, 8, 2), "ioa")
    assert not overlap.any()
    overlap.sum().backward()
    assert not places.grad.any()


def test_diagonal_neighbours_whose_bounds_overlap_are_apart() -> None:
    triangle = double([[0, 0], [100.3, 0.1], [0.7, 99.9]])
    box = double([70.1, 60.3, 95.7, 93.1]).requires_grad_()
    area = box_polygon_areas(box, triangle)
    area.backward()
    assert not area.detach().any() and not box.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "box",
    [[5, 5, 5, 9], [5, 5, 5, 5], [9, 9, 5, 5], [0, 0, 0, 0], [1e-30, 0, 2e-30, 5], [-1e7, -1e7, 1e7, 1e7]],
)
def test_degenerate_boxes_give_no_nan(box: list[float], dtype: torch.dtype) -> None:
    value = torch.tensor([box], dtype=dtype, requires_grad=True)
    zones = torch.tensor([[LETTER_U, [[5, 5]] * 8, [[0, 0]] * 8]], dtype=dtype)
    for measure in ("ioa", "iou", "footprint"):
        overlap = zone_overlaps(value, zones, measure)
        assert torch.isfinite(overlap).all() and (overlap >= 0).all() and (overlap <= 1).all()
        (gradient,) = torch.autograd.grad(overlap.sum(), value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("measure", ["ioa", "iou", "footprint"])
def test_overlaps_equal_those_of_the_hard_rule(measure: str) -> None:
    rectangles, polygons = boxes(40, seed=5), stars(40, 5, seed=5)
    found = zone_overlaps(rectangles, polygons[:, None], measure)[:, 0]
    wanted = [
        overlap_with_zone(box, polygon, measure)
        for box, polygon in zip(rectangles.numpy(), polygons.numpy(), strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)
    assert 0 < np.count_nonzero(wanted) < 40


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="measure of an overlap is 'area'; allowed: ioa, iou, footprint"):
        zone_overlaps(boxes(1), stars(1, 3)[:, None], "area")
    with pytest.raises(ValueError, match="stop gate is 'hard'; allowed: straight_through, soft"):
        stop_gate(torch.zeros(1), 0.25, 0.1, "hard")


def standing(seconds: float, rate: float, **arguments: object) -> float:
    frames = round(seconds * rate) + 1
    centres = torch.zeros(1, frames, 2, dtype=torch.float64)
    times = torch.arange(frames, dtype=torch.float64)[None] / rate
    stopped, _ = stop_clock(centres, centres + 40, times, torch.zeros(1), 0.25, gap=1.0, **arguments)
    return float(stopped[0, -1])


def test_a_soft_gate_leaks_and_a_straight_through_gate_doesnt() -> None:
    # 120 s at 10 Hz; a clock that keeps the share q of each step ends near 0.1 q / (1 - q)
    q = 1 / (1 + np.exp(-5.0))
    assert standing(120, 10, scale=0.25 / 5, gate="soft") == pytest.approx(0.1 * q / (1 - q), rel=1e-3)
    assert round(standing(120, 10, scale=0.25 / 5, gate="soft")) == 15
    assert round(standing(120, 10, scale=0.25 / 14, gate="soft"), 1) == 119.9
    assert standing(120, 10, scale=0.25 / 5, gate="straight_through") == pytest.approx(120, abs=1e-9)


def track(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (F, 4) that move and stand in turns, where they are seen, irregular times with gaps."""
    rng = np.random.default_rng(seed)
    moves = np.repeat(rng.random(10) < 0.4, 8)[:, None] * rng.uniform(5, 40, (80, 2))
    centres = np.cumsum(moves, axis=0) + rng.normal(0, 0.3, (80, 2))
    half = rng.uniform(10, 30, (80, 2))
    times = np.cumsum(rng.choice([0.0, 0.1, 0.5, 2.0, 6.0], 80))
    return np.concatenate([centres - half, centres + half], axis=1), rng.random(80) < 0.7, times


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", [0.0, 1.0])
def test_the_straight_through_clock_equals_the_hard_one(seed: int, step: float) -> None:
    corners, seen, times = track(seed)
    rule = StopRule(speed=0.25, gap=3.0, step=step)
    wanted = stopped_seconds(corners, seen, times, rule)
    assert wanted.max() > 5 and (wanted == 0).sum() > 5
    tensors = torch.from_numpy(corners)[None]
    centres, sizes = (tensors[..., :2] + tensors[..., 2:]) / 2, tensors[..., 2:] - tensors[..., :2]
    stamps, visible = torch.from_numpy(times)[None], torch.from_numpy(seen)[None]
    found, _ = stop_clock(centres, sizes, stamps, torch.zeros(1), 0.25, 0.1, 3.0, step, visible=visible)
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=1e-9)


def test_the_clock_goes_on_from_the_time_it_is_given_without_gradient_into_it() -> None:
    centres = torch.zeros(2, 3, 2, requires_grad=True)
    start = torch.tensor([100.0, 0.0], requires_grad=True)
    times = torch.tensor([[0.0, 1, 3], [0, 5, 6]], dtype=torch.float64)
    stopped, speed = stop_clock(centres, torch.full((2, 3, 2), 20.0), times, start, 0.25, 0.1, 1.0)
    assert stopped.tolist() == [[100, 101, 103], [0, 5, 6]] and not speed.any()
    stopped.sum().backward()
    assert start.grad is None and torch.isfinite(centres.grad).all()


def test_gradients_of_the_soft_clock_equal_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = (0.5 * torch.randn(2, 4, 2, generator=generator, dtype=torch.float64)).requires_grad_()
    sizes = (10 + torch.rand(2, 4, 2, generator=generator, dtype=torch.float64)).requires_grad_()
    threshold = double(0.1).requires_grad_()
    times, start = double([[0, 1, 2.5, 3], [0, 0.4, 1, 2]]), double([10.0, 0.0])

    def clock(centres: torch.Tensor, sizes: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        return stop_clock(centres, sizes, times, start, threshold, 0.05, 1.0, gate="soft")[0]

    assert torch.autograd.gradcheck(clock, (centres, sizes, threshold))


def test_a_straight_through_gate_has_the_soft_ones_gradient() -> None:
    """The declared exclusion from differences: value of the step, gradient of the sigmoid."""
    speed = double([0.1, 0.24, 0.26, 0.9]).requires_grad_()
    gate = stop_gate(speed, 0.25, 0.1, "straight_through")
    assert gate.tolist() == [1, 1, 0, 0]
    (found,) = torch.autograd.grad(gate.sum(), speed)
    soft = stop_gate(speed, 0.25, 0.1, "soft")
    (wanted,) = torch.autograd.grad(soft.sum(), speed)
    assert torch.equal(found, wanted)
    s = torch.sigmoid((0.25 - speed.detach()) / 0.1)
    torch.testing.assert_close(found, -s * (1 - s) / 0.1)


def test_the_alert_is_a_quarter_where_both_thresholds_are_met() -> None:
    zero = double(0.0)
    assert float(alert_logit(zero, zero).sigmoid()) == pytest.approx(0.25)
    a, b = double([-3, 0.5, 2, 30]), double([1, -2, 4, 0])
    torch.testing.assert_close(alert_logit(a, b).sigmoid(), a.sigmoid() * b.sigmoid())


def test_the_loss_is_the_cross_entropy_of_the_product_with_gradient_p_minus_y() -> None:
    a, b = double([-1.0, 0.3, 2]).requires_grad_(), double([0.4, -2, 1]).requires_grad_()
    target = torch.tensor([True, False, True])
    p = (a.sigmoid() * b.sigmoid()).detach()
    logit = alert_logit(a, b)
    wanted = -torch.where(target, p.log(), (1 - p).log())
    torch.testing.assert_close(alert_loss(logit, target).double(), wanted, rtol=1e-6, atol=1e-6)
    (found,) = torch.autograd.grad(alert_loss(logit, target).sum(), logit)
    torch.testing.assert_close(found, p - target.double(), rtol=1e-6, atol=1e-6)
    assert torch.autograd.gradcheck(alert_logit, (a, b))


@pytest.mark.parametrize("seconds", [-1e6, -1e3, 0.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("overlap", [-20.0, 0.0, 20.0])
def test_the_loss_is_stable_at_any_time(seconds: float, overlap: float) -> None:
    a = torch.tensor(seconds / 2.0, requires_grad=True)
    b = torch.tensor(overlap, requires_grad=True)
    for target in (True, False):
        loss = alert_loss(alert_logit(a, b), torch.tensor(target))
        gradients = torch.autograd.grad(loss, (a, b))
        assert torch.isfinite(loss) and all(torch.isfinite(gradient) for gradient in gradients)


def test_ten_seconds_below_the_threshold_float32_still_has_a_gradient() -> None:
    """With one k = 10 for seconds and overlap the plain product has none there: sigmoid(-100) is 0."""
    stopped = torch.tensor(110.0, requires_grad=True)
    b = torch.tensor(2.0)
    plain = torch.sigmoid(10 * (stopped - 120)) * b.sigmoid()
    (lost,) = torch.autograd.grad(-torch.log(plain + 1e-12), stopped)
    assert float(lost) == 0
    (found,) = torch.autograd.grad(
        alert_loss(alert_logit(10 * (stopped - 120), b), torch.tensor(True)), stopped
    )
    assert float(found) == pytest.approx(-10, rel=1e-4)
