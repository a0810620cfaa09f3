"""VOT's accuracy, robustness and EAO by hand; `tools/check_vot.py` compares with the toolkit itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.metrics.vot import (
    FAILED,
    STARTED,
    TRACKED,
    UNKNOWN,
    ResetRun,
    Run,
    score_multistart,
    score_resets,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import check_vot


def test_runs_from_anchors_by_hand() -> None:
    # one run holds to its end, one fails with its third frame: two lost frames in a row
    good = Run([1.0, 0.5, 0.7, 0.6])
    bad = Run([1.0, 0.8, 0.1, 0.0, 0.9])
    found = score_multistart([[good, bad]], [5], grace=2, low=1, high=6)
    # the starting frames count without an overlap: 0 + 0.5 + 0.7 + 0.6 of 4 and 0 + 0.8 of 2 frames
    assert found.accuracy == pytest.approx((1.8 + 0.8) / 6)
    assert found.robustness == pytest.approx((4 + 2) / 9)
    # means behind the first frame; the failed run goes on as 0, the other ends with its fourth frame, and
    # behind the failed run's own end the divisor is one less than the length
    curve = [0, (0.5 + 0.8) / 2, (0.6 + 0.4) / 2, (0.6 + 0.8 / 3) / 2, 0.8 / 4, 0.8 / 4]
    assert found.curve == pytest.approx(curve)
    assert found.eao == pytest.approx(np.mean(curve[1:]))


def test_a_frame_without_a_target_begins_the_count_anew() -> None:
    run = [1.0, 0.9, 0.0, 0.0, 0.0]
    shown = score_multistart([[Run(run)]], [5], grace=3, high=5)
    hidden = score_multistart([[Run(run, [0, 0, 0, 1, 0])]], [5], grace=3, high=5)
    assert (shown.robustness, hidden.robustness) == (2 / 5, 1.0)
    # the first frame counts as lost: with the next two that is a failure at once
    assert score_multistart([[Run([1.0, 0.0, 0.1, 0.9])]], [4], grace=3, high=5).robustness == 0.0


def test_videos_weigh_as_their_frames() -> None:
    good, bad = Run([1.0, 0.9]), Run([1.0, 0.9, 0.0, 0.0])
    found = score_multistart([[good, good], [bad]], [10, 30], grace=2, high=4)
    assert found.robustness == pytest.approx((10 * 1.0 + 30 * 0.5) / 40)
    assert np.isnan(found.eao)  # the curve ends before the range begins
    nothing = score_multistart([[Run([1.0, 0.0])]], [2], grace=2, high=4)
    assert nothing.robustness == 0 and np.isnan(nothing.accuracy)


def test_runs_with_resets_by_hand() -> None:
    states = [STARTED, TRACKED, TRACKED, FAILED, UNKNOWN, STARTED, TRACKED, TRACKED]
    run = ResetRun([9, 0.4, 0.6, np.nan, np.nan, 9, 0.8, 0.5], states)
    found = score_resets([[run]], burnin=2, low=1, high=2)
    assert found.accuracy == pytest.approx((0.6 + 0.5) / 2)  # two frames from each start on don't count
    assert found.robustness == 1
    # one stretch of three frames that fails, one of three that reaches the end
    assert found.curve == pytest.approx([0, (0.4 + 0.8) / 2, (0.5 + 0.65) / 2])
    assert found.eao == pytest.approx((0.6 + 0.575) / 2)
    # a longer video's share: its failures weigh twice as much, its stretch goes on behind the others
    smooth = ResetRun([9] + [0.5] * 15, [STARTED] + [TRACKED] * 15)
    both = score_resets([[run, run], [smooth]], burnin=2, low=1, high=2)
    assert both.robustness == pytest.approx((8 * 1 + 16 * 0) / 24)
    assert both.accuracy == pytest.approx((8 * 0.55 + 16 * 0.5) / 24)
    assert both.curve[4] == pytest.approx((2 * 1.0 / 4 + 0.5) / 3)  # failed stretches go on as 0


def test_accuracy_without_a_frame_that_counts_is_0() -> None:
    assert score_resets([[ResetRun([0, 0.9], [STARTED, TRACKED])]]).accuracy == 0


def test_runs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"each video needs a length and at least one run; found \[1\] and 2"):
        score_multistart([[Run([1.0])]], [1, 1])
    with pytest.raises(DataError, match=r"at least one run; found \[0\] and 1"):
        score_multistart([[]], [1])
    with pytest.raises(
        DataError, match=r"must be numbers \(N,\), N > 0; found the shape \(2,\), 1 that are none"
    ):
        score_multistart([[Run([1.0, np.nan])]], [2])
    with pytest.raises(DataError, match=r"2 overlaps but flags of absence of the shape \(1,\)"):
        score_multistart([[Run([1.0, 1.0], [0])]], [2])
    with pytest.raises(DataError, match=r"each video needs at least one run; found \[\]"):
        score_resets([])
    with pytest.raises(DataError, match=r"overlaps \(2,\) and states \(1,\) must both be \(N,\)"):
        score_resets([[ResetRun([1, 1], [STARTED])]])
    for states in ([FAILED, STARTED], [STARTED, STARTED], [STARTED, FAILED, FAILED]):
        with pytest.raises(DataError, match="starts and failures must take turns"):
            score_resets([[ResetRun([1.0] * len(states), states)]])


def test_the_comparison_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vot", None)
    assert check_vot.main([]) == 2
    assert "the VOT toolkit can't be imported" in capsys.readouterr().out


def test_the_comparison_starts_again_five_frames_after_a_failure() -> None:
    states = check_vot.with_resets([1, 1, 0, 1, 1, 1, 1, 1, 1])
    tail = [FAILED, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, STARTED, TRACKED]
    assert states == [STARTED, TRACKED, *tail]
