"""The hard stop rule: clock, gap, overlap, and the warning about zones that can't turn red."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.stopping import (
    StopClock,
    StopRule,
    largest_overlap,
    overlap_with_zone,
    stopped_seconds,
    unreachable_zones,
)

SQUARE = np.array([[0, 0], [100, 0], [100, 100], [0, 100]], dtype=float)
STANDING = np.tile([0.0, 0.0, 20.0, 20.0], (6, 1))
SEEN = np.ones(6, dtype=bool)


def moving(steps: list[float]) -> np.ndarray:
    """Boxes of 20 x 20 whose left side moves by `steps` pixels."""
    left = np.concatenate([[0.0], np.cumsum(steps)])
    return np.stack([left, 0 * left, left + 20, 0 * left + 20], axis=1)


def test_a_standing_target_gathers_the_time_between_the_stamps() -> None:
    times = np.array([0.0, 0.5, 2.0, 2.0, 90.0, 130.0])
    np.testing.assert_array_equal(stopped_seconds(STANDING, SEEN, times), [0, 0.5, 2, 2, 90, 130])


def test_the_time_doesnt_depend_on_the_number_of_frames() -> None:
    for frames in (2, 7, 1201):
        boxes, seen = np.tile([0.0, 0, 20, 20], (frames, 1)), np.ones(frames, dtype=bool)
        assert stopped_seconds(boxes, seen, np.linspace(0, 120, frames))[-1] == pytest.approx(120)


def test_a_step_as_fast_as_the_threshold_starts_the_clock_anew() -> None:
    # sizes are 20 pixels: 4 pixels in one second are 0.2 sizes a second, 5 are 0.25
    times = np.arange(6.0)
    np.testing.assert_array_equal(
        stopped_seconds(moving([4, 4, 5, 4, 0]), SEEN, times, StopRule(speed=0.25)), [0, 1, 2, 0, 1, 2]
    )


def test_speed_is_measured_in_sizes_of_the_later_box() -> None:
    clock = StopClock(StopRule(speed=1.0))
    assert math.isnan(clock.speed)
    clock.update([0, 0, 10, 10], 0.0)
    assert math.isnan(clock.speed)
    # centre (5, 5) -> (35, 45): 50 pixels; sqrt(20 * 45) = 30; in half a second
    clock.update([25, 22.5, 45, 67.5], 0.5)
    assert clock.speed == pytest.approx(50 / 30 / 0.5)
    assert clock.seconds == 0


def test_a_gap_within_the_limit_holds_the_time_and_counts_as_one_step() -> None:
    seen = np.array([1, 1, 0, 0, 1, 1], dtype=bool)
    times = np.arange(6.0)
    np.testing.assert_array_equal(stopped_seconds(STANDING, seen, times, StopRule(gap=3)), [0, 1, 1, 1, 4, 5])
    boxes = STANDING + np.array([0, 0, 0, 0, 40, 40])[:, None]  # it came back two sizes away
    np.testing.assert_array_equal(stopped_seconds(boxes, seen, times, StopRule(gap=3)), [0, 1, 1, 1, 0, 1])


def test_a_longer_gap_starts_the_clock_anew() -> None:
    seen = np.array([1, 1, 0, 0, 1, 1], dtype=bool)
    times = np.arange(6.0)
    np.testing.assert_array_equal(
        stopped_seconds(STANDING, seen, times, StopRule(gap=1.5)), [0, 1, 1, 0, 0, 1]
    )
    np.testing.assert_array_equal(
        stopped_seconds(STANDING, seen, times, StopRule(gap=2.5)), [0, 1, 1, 1, 0, 1]
    )


def test_frames_nearer_than_a_step_are_passed_over() -> None:
    # a box of 20 pixels that trembles by 2, 8 frames a second: 0.8 sizes a second from frame to frame
    boxes = moving([2, -2] * 30)
    times = np.arange(61) / 8
    seen = np.ones(61, dtype=bool)
    assert not stopped_seconds(boxes, seen, times, StopRule(speed=0.25, step=0)).any()
    held = stopped_seconds(boxes, seen, times, StopRule(speed=0.25, step=0.5))
    np.testing.assert_array_equal(held, np.floor(times / 0.5) * 0.5)


def test_a_gap_counts_from_the_last_sighting() -> None:
    seen = np.array([1, 1, 1, 0, 1, 1], dtype=bool)
    times = np.array([0, 1, 1.9, 2.5, 4, 5])  # the frame at 1.9 s is passed over, but the target is there
    found = stopped_seconds(STANDING, seen, times, StopRule(gap=2.2, step=1))
    np.testing.assert_array_equal(found, [0, 1, 1, 1, 4, 5])


def test_frames_that_are_far_apart_are_no_gap_when_both_show_the_target() -> None:
    times = np.arange(6) * 600.0
    assert stopped_seconds(STANDING, SEEN, times, StopRule(gap=1))[-1] == 3000


def test_a_target_that_was_never_seen_has_not_stood() -> None:
    assert not stopped_seconds(STANDING, ~SEEN, np.arange(6.0)).any()


def test_boxes_of_absent_frames_are_not_looked_at() -> None:
    boxes = STANDING.copy()
    boxes[2] = np.nan
    seen = SEEN.copy()
    seen[2] = False
    assert stopped_seconds(boxes, seen, np.arange(6.0))[-1] == 5


def test_a_clock_may_start_with_time_already_stood() -> None:
    clock = StopClock(StopRule(), seconds=100)
    assert clock.update([0, 0, 20, 20], 7.0) == 100
    assert clock.update([0, 0, 20, 20], 9.0) == 102


@pytest.mark.parametrize(
    ("boxes", "seen", "times", "wanted"),
    [
        (STANDING, SEEN, [0, 1, 2, 1.5, 3, 4], "frame 3 (from 0) is at 1.5 s, the one before at 2 s"),
        (STANDING, SEEN, [0, 1, 2, math.nan, 3, 4], "frame 3 (from 0) is at nan s"),
        (STANDING * np.nan, SEEN, range(6), "frame 0 (from 0) is marked visible, but its box is [nan"),
        (STANDING[:4], SEEN, range(6), "found (4, 4), (6,) and (6,)"),
    ],
)
def test_what_a_clock_cant_use_is_refused(boxes, seen, times, wanted: str) -> None:
    with pytest.raises(DataError) as error:
        stopped_seconds(boxes, seen, np.array(times))
    assert wanted in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"measure": "area"}, "measure is 'area'; allowed: ioa, iou, footprint. Edit MEASURE"),
        ({"overlap": 1.0}, "overlap is 1.0; it must be in [0, 1)"),
        ({"speed": 0.0}, "speed is 0.0; it must be above 0"),
        ({"step": -1.0}, "step is -1.0; it must be 0 or more"),
        ({"gap": -1.0}, "gap is -1.0; it must be 0 or more"),
        ({"seconds": math.inf}, "seconds is inf; it must be 0 or more and finite. Edit SECONDS"),
    ],
)
def test_a_rule_checks_its_numbers(arguments: dict, wanted: str) -> None:
    with pytest.raises(ConfigError) as error:
        StopRule(**arguments)
    assert wanted in str(error.value)


def test_the_rule_is_red_above_both_thresholds_only() -> None:
    rule = StopRule(seconds=120, overlap=0.3)
    assert rule.is_red(120.1, 0.31)
    assert not rule.is_red(120.0, 0.31)
    assert not rule.is_red(120.1, 0.3)


def test_the_three_measures_of_overlap() -> None:
    # 30 x 30 at the square's right side: 20 of its 30 columns are inside, so 600 of 900 pixels
    box = [80.0, 10.0, 110.0, 40.0]
    assert overlap_with_zone(box, SQUARE, "ioa") == pytest.approx(600 / 900)
    assert overlap_with_zone(box, SQUARE, "iou") == pytest.approx(600 / (900 + 10_000 - 600))
    # two thirds of the box lie above the square, the lower third in it
    standing = [10.0, -20.0, 40.0, 10.0]
    assert overlap_with_zone(standing, SQUARE, "footprint") == pytest.approx(1.0)
    assert overlap_with_zone(standing, SQUARE, "ioa") == pytest.approx(1 / 3)
    assert overlap_with_zone([5, 5, 5, 9], SQUARE, "ioa") == 0


def test_of_several_zones_the_one_with_the_largest_overlap_counts() -> None:
    zones = {"far": SQUARE + 500, "half": SQUARE + np.array([50, 0]), "whole": SQUARE}
    assert largest_overlap([40, 40, 60, 60], zones) == (1.0, "whole")
    assert largest_overlap([300, 300, 310, 310], zones) == (0.0, None)
    assert largest_overlap([0, 0, 10, 10], {}) == (0.0, None)


def test_zones_too_large_for_iou_are_warned_about() -> None:
    # a vehicle of 2,500 pixels in a zone of 10,000: IoU is at most 0.25
    rule = StopRule(measure="iou", overlap=0.3)
    (warning,) = unreachable_zones({"yard": SQUARE}, 2500.0, rule)
    assert "zone 'yard' can't turn red: it is 4 times as large as the vehicle" in warning
    assert "IoU is at most 0.250" in warning and "Use MEASURE ioa or footprint" in warning
    # the limit is 1 / 0.3 = 3.33 vehicles
    assert unreachable_zones({"yard": SQUARE}, 10_000 / 3.3, rule) == []
    assert len(unreachable_zones({"yard": SQUARE}, 10_000 / 3.4, rule)) == 1
    # a zone much smaller than the vehicle can't be reached either
    assert len(unreachable_zones({"spot": SQUARE / 10}, 1000.0, rule)) == 1
    assert unreachable_zones({"yard": SQUARE}, 1.0, StopRule(measure="ioa")) == []
