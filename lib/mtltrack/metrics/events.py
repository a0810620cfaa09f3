"""Alerts as events in time: precision, recall, delay, false alarms; and how far soft and hard rule differ.

A timeline is one target's alert state, a frame each, with the frames' time stamps. An event is a longest run
of RED frames; it lasts from the time of its first frame to the time of its last. A predicted event answers a
true one when the two have a moment in common. Each event is used once, in order of time: of two alarms within
one true event the second is a false one, and one alarm that spans two true events misses the second.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtltrack.core.errors import DataError
from mtltrack.metrics.merging import Mergeable

SECONDS_PER_HOUR = 3600.0


class Event(NamedTuple):
    """A longest run of RED frames."""

    start: float  # seconds, time stamp of the first RED frame
    end: float  # seconds, time stamp of the last


def red_events(red: ArrayLike, times: ArrayLike) -> list[Event]:
    """Return a timeline's events in order of time.

    Args:
        red: (F,) bool, the alert state.
        times: (F,) seconds, never going back.

    Raises:
        DataError: the lengths differ or time goes back.
    """
    state, stamps = _timeline(red, times)
    edges = np.diff(np.concatenate([[False], state, [False]]).astype(np.int8))
    firsts, lasts = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return [Event(float(stamps[i]), float(stamps[j])) for i, j in zip(firsts, lasts, strict=True)]


def _timeline(red: ArrayLike, times: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    state, stamps = np.asarray(red, dtype=bool), np.asarray(times, dtype=np.float64)
    if state.ndim != 1 or state.shape != stamps.shape:
        raise DataError(
            f"a timeline needs one state and one time stamp a frame, found {state.shape} and {stamps.shape}"
        )
    if np.any(np.diff(stamps) < 0):
        i = int(np.argmax(np.diff(stamps) < 0)) + 1
        raise DataError(
            f"a timeline's time stamps never go back: frame {i} (from 0) is at {stamps[i]:g} s, "
            f"the one before at {stamps[i - 1]:g} s"
        )
    return state, stamps


def match_events(predicted: list[Event], true: list[Event]) -> list[tuple[int, int]]:
    """Return pairs (number of a predicted event, number of the true one that it answers), the most possible.

    Args:
        predicted: events in order of time, apart from one another.
        true: likewise.
    """
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(predicted) and j < len(true):
        if predicted[i].start <= true[j].end and predicted[i].end >= true[j].start:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif predicted[i].end < true[j].start:
            i += 1
        else:
            j += 1
    return pairs


class EventScores(Mergeable):
    """Scores of alert events over any number of timelines.

    A delay is the start of the predicted event less that of the true one it answers; negative when the alarm
    came early.
    """

    COUNTS = ("predicted", "true", "matched", "hours", "delays")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.predicted = self.true = self.matched = 0
        self.hours: list[float] = []
        self.delays: list[float] = []

    def update(self, predicted: ArrayLike, true: ArrayLike, times: ArrayLike) -> None:
        """Add one timeline.

        Args:
            predicted: (F,) bool, RED by the prediction.
            true: (F,) bool, RED in truth.
            times: (F,) seconds.
        """
        alarms, truths = red_events(predicted, times), red_events(true, times)
        pairs = match_events(alarms, truths)
        self.predicted += len(alarms)
        self.true += len(truths)
        self.matched += len(pairs)
        self.delays += [alarms[i].start - truths[j].start for i, j in pairs]
        stamps = np.asarray(times, dtype=np.float64)
        self.hours += [float(stamps[-1] - stamps[0]) / SECONDS_PER_HOUR] if len(stamps) else []

    def compute(self) -> dict[str, float]:
        """Return the scores; what can't be told is NaN.

        event_precision (NaN without an alarm), event_recall (NaN without a true event), event_f1 (NaN without
        either) in [0, 1]; delay_median and delay_p95 (linear between order statistics) in seconds;
        false_alarms_per_hour of observed time.
        """
        delays = np.array(self.delays)
        return {
            "event_precision": ratio(self.matched, self.predicted),
            "event_recall": ratio(self.matched, self.true),
            "event_f1": ratio(2 * self.matched, self.predicted + self.true),
            "delay_median": float(np.median(delays)) if len(delays) else math.nan,
            "delay_p95": float(np.percentile(delays, 95)) if len(delays) else math.nan,
            "false_alarms_per_hour": ratio(self.predicted - self.matched, math.fsum(self.hours)),
        }


class FrameScores(Mergeable):
    """Scores of single frames: `brier` of the probability and `f1` of the decision."""

    COUNTS = ("frames", "hits", "decided", "true", "squares")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.frames = self.hits = self.decided = self.true = 0
        self.squares: list[float] = []

    def update(self, probability: ArrayLike, decision: ArrayLike, true: ArrayLike) -> None:
        """Add frames, (F,) each: probability in [0, 1], decision and truth bool."""
        chance, red, truth = (
            np.asarray(value, dtype)
            for value, dtype in ((probability, float), (decision, bool), (true, bool))
        )
        self.frames += truth.size
        self.squares.append(float(np.square(chance - truth).sum()))
        self.hits += int((red & truth).sum())
        self.decided += int(red.sum())
        self.true += int(truth.sum())

    def compute(self) -> dict[str, float]:
        """Return `brier`, the mean squared error of the probability, and `f1`; NaN where nothing was seen."""
        return {
            "brier": ratio(math.fsum(self.squares), self.frames),
            "f1": ratio(2 * self.hits, self.decided + self.true),
        }


class MismatchScores(Mergeable):
    """How far the soft rule departs from the hard one on the same boxes."""

    COUNTS = ("frames", "differing", "seconds", "shifts")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.frames = self.differing = 0
        self.seconds: list[float] = []
        self.shifts: list[float] = []

    def update(
        self,
        soft_red: ArrayLike,
        hard_red: ArrayLike,
        soft_seconds: ArrayLike,
        hard_seconds: ArrayLike,
        times: ArrayLike,
    ) -> None:
        """Add one timeline, (F,) each: decisions, seconds stood still, time stamps."""
        soft, hard = np.asarray(soft_red, dtype=bool), np.asarray(hard_red, dtype=bool)
        self.frames += soft.size
        self.differing += int((soft != hard).sum())
        self.seconds.append(float(np.abs(np.subtract(soft_seconds, hard_seconds)).sum()))
        events, wanted = red_events(soft, times), red_events(hard, times)
        self.shifts += [abs(events[i].start - wanted[j].start) for i, j in match_events(events, wanted)]

    def compute(self) -> dict[str, float]:
        """Return the figures, NaN where nothing was seen.

        mismatch_decisions: share of the frames that are decided differently; mismatch_seconds: mean
        |T_soft - T_hard|; mismatch_alert_time: mean difference of the starts of the events that both have.
        """
        return {
            "mismatch_decisions": ratio(self.differing, self.frames),
            "mismatch_seconds": ratio(math.fsum(self.seconds), self.frames),
            "mismatch_alert_time": float(np.mean(self.shifts)) if self.shifts else math.nan,
        }


def ratio(part: float, whole: float) -> float:
    """Return part / whole, NaN where there is no whole."""
    return part / whole if whole else math.nan
