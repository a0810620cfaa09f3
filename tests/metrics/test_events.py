"""Alert events: intervals, matching, scores, mismatch; all expected figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.metrics.events import (
    Event,
    EventScores,
    FrameScores,
    MismatchScores,
    match_events,
    red_events,
)


def line(text: str) -> np.ndarray:
    """Return a timeline written as text: # is RED."""
    return np.array([letter == "#" for letter in text])


def test_events_are_the_longest_runs_of_red() -> None:
    times = [0.0, 1.0, 2.5, 3.0, 7.0, 8.0]
    assert red_events(line("##.#.#"), times) == [Event(0, 1), Event(3, 3), Event(8, 8)]
    assert red_events(line("......"), times) == []
    assert red_events(line("######"), times) == [Event(0, 8)]
    assert red_events([], []) == []


def test_broken_timelines_are_refused() -> None:
    with pytest.raises(DataError, match=r"frame 2 \(from 0\) is at 0.5 s, the one before at 1 s"):
        red_events(line("..."), [0.0, 1.0, 0.5])
    with pytest.raises(DataError, match=r"found \(3,\) and \(2,\)"):
        red_events(line("..."), [0.0, 1.0])


def test_events_match_when_they_have_a_moment_in_common() -> None:
    true = [Event(10, 20), Event(30, 40)]
    assert match_events([Event(20, 25), Event(29, 50)], true) == [(0, 0), (1, 1)]
    assert match_events([Event(21, 29)], true) == []
    assert match_events([Event(0, 5), Event(35, 36)], true) == [(1, 1)]


def test_each_event_is_matched_once() -> None:
    assert match_events([Event(11, 12), Event(14, 15)], [Event(10, 20)]) == [(0, 0)]  # the second is false
    assert match_events([Event(0, 50)], [Event(10, 20), Event(30, 40)]) == [(0, 0)]  # the second is missed


def test_scores_of_two_timelines() -> None:
    scores = EventScores()
    # true: 2-4 and 7-8; alarms: 3-5 (one late) and 0-0 (false); a second frame apart: 9 s observed
    scores.update(line("#..###...."), line("..###..##."), np.arange(10.0))
    # true: 1-3, the alarm at once; frames 10 s apart: 40 s observed
    scores.update(line(".###."), line(".###."), np.arange(5.0) * 10)
    values = scores.compute()
    assert values["event_precision"] == pytest.approx(2 / 3)
    assert values["event_recall"] == pytest.approx(2 / 3)
    assert values["event_f1"] == pytest.approx(2 / 3)
    assert values["delay_median"] == pytest.approx(0.5)  # of 1 and 0
    assert values["delay_p95"] == pytest.approx(0.95)
    assert values["false_alarms_per_hour"] == pytest.approx(1 / (49 / 3600))


def test_an_early_alarm_has_a_negative_delay() -> None:
    scores = EventScores()
    scores.update(line("####"), line("..##"), [0.0, 5.0, 6.0, 7.0])
    assert scores.compute()["delay_median"] == -6


def test_what_cant_be_told_is_nan() -> None:
    scores = EventScores()
    assert all(math.isnan(value) for value in scores.compute().values())
    scores.update(line("..."), line("..."), range(3))
    values = scores.compute()
    assert values.pop("false_alarms_per_hour") == 0
    assert all(math.isnan(value) for value in values.values())
    scores.update(line("#.."), line("..."), range(3))
    scores.reset()
    assert math.isnan(scores.compute()["event_precision"])


def test_frame_scores() -> None:
    scores = FrameScores()
    scores.update([0.9, 0.2, 0.5, 0.0], [True, False, True, False], [True, True, False, False])
    values = scores.compute()
    assert values["brier"] == pytest.approx((0.01 + 0.64 + 0.25 + 0) / 4)
    assert values["f1"] == pytest.approx(2 * 1 / (2 + 2))
    scores.reset()
    assert math.isnan(scores.compute()["brier"]) and math.isnan(scores.compute()["f1"])


def test_mismatch_of_soft_and_hard() -> None:
    scores = MismatchScores()
    # soft turns red one frame (2 s) later; its clock reads 0, 1, 3, 5, 7 instead of 0, 2, 4, 6, 8
    scores.update(line("....#"), line("...##"), [0, 1, 3, 5, 7], [0, 2, 4, 6, 8], [0, 2, 4, 6, 8])
    values = scores.compute()
    assert values["mismatch_decisions"] == pytest.approx(1 / 5)
    assert values["mismatch_seconds"] == pytest.approx(4 / 5)
    assert values["mismatch_alert_time"] == pytest.approx(2)
    scores.update(line("....."), line("....#"), np.zeros(5), np.zeros(5), range(5))
    assert scores.compute()["mismatch_decisions"] == pytest.approx(2 / 10)
    assert scores.compute()["mismatch_alert_time"] == pytest.approx(2)  # only events that both have
    scores.reset()
    assert all(math.isnan(value) for value in scores.compute().values())
