"""Failures and re-detections, and breakdowns by attribute, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.metrics.attributes import score_attributes
from mtltrack.metrics.robustness import find_failures, summarise_failures


def test_a_failure_begins_with_its_first_frame_and_ends_with_the_redetection() -> None:
    #          0    1    2    3    4    5    6    7    8
    overlap = [0.9, 0.1, 0.0, 0.8, 0.0, 0.1, 0.0, 0.0, 0.2]
    found = find_failures(overlap, patience=3)  # frames 1 and 2 are too few; 0.1 itself is lost
    assert found.starts.tolist() == [4] and found.redetections.tolist() == [8]
    assert found.frames_to_redetect.tolist() == [4] and (found.lost, found.visible) == (4, 9)
    assert find_failures(overlap, patience=2).starts.tolist() == [1, 4]
    assert len(find_failures(overlap)) == 0


def test_a_target_that_is_never_found_again() -> None:
    found = find_failures([0.9, 0, 0, 0], patience=2)
    assert found.starts.tolist() == [1] and found.redetections.tolist() == [-1]
    assert len(found.frames_to_redetect) == 0 and found.lost == 3


def test_frames_without_a_target_neither_prolong_nor_interrupt() -> None:
    overlap = [0.9, 0.0, 0.9, 0.9, 0.0, 0.7]
    visible = [1, 1, 0, 0, 1, 1]
    found = find_failures(overlap, visible, patience=2)
    assert found.starts.tolist() == [1] and found.redetections.tolist() == [5]
    assert found.frames_to_redetect.tolist() == [4] and (found.lost, found.visible, found.frames) == (2, 4, 6)
    assert len(find_failures(overlap, visible, patience=3)) == 0
    nan = [0.9, 0.0, np.nan, np.nan, 0.0, 0.7]
    assert find_failures(nan, visible, patience=2).starts.tolist() == [1]


def test_a_higher_threshold_for_finding_joins_failures() -> None:
    overlap = [0.9, 0, 0, 0.3, 0, 0, 0.6, 0, 0]
    apart = find_failures(overlap, patience=2)
    assert apart.starts.tolist() == [1, 4, 7] and apart.redetections.tolist() == [3, 6, -1]
    joined = find_failures(overlap, patience=2, found_above=0.5)
    assert joined.starts.tolist() == [1, 7] and joined.redetections.tolist() == [6, -1]
    assert joined.lost == 5 + 2


def test_failures_of_many_sequences() -> None:
    items = [
        find_failures([0.9, 0, 0, 0.9], patience=2),  # found after 2 frames
        find_failures([0, 0, 0, 0, 0.9, 0, 0, 0], patience=2),  # after 4, then never
        find_failures([1.0] * 8, patience=2),
    ]
    assert summarise_failures(items) == pytest.approx(
        {
            "failures": 3,
            "failures_per_1000": 150,
            "sequences_failed": 2 / 3,
            "redetected": 2 / 3,
            "frames_to_redetect": 3,
            "lost": 9 / 20,
        }
    )
    none = summarise_failures(items[2:])
    assert none["failures"] == 0 and np.isnan(none["redetected"]) and np.isnan(none["frames_to_redetect"])
    unseen = summarise_failures([find_failures([0.0], [0])])
    assert np.isnan(unseen["failures_per_1000"]) and np.isnan(unseen["lost"])


def test_failures_refuse_what_makes_no_sense() -> None:
    with pytest.raises(DataError, match=r"overlaps \(3,\) and visibility \(2,\) must both be \(N,\)"):
        find_failures([1, 1, 1], [1, 1])
    with pytest.raises(DataError, match="frame 1 is visible but its overlap is NaN"):
        find_failures([1, np.nan])
    with pytest.raises(DataError, match=r"lost_at <= found_above and patience >= 1; found 0.5, 0.1 and 10"):
        find_failures([1.0], lost_at=0.5, found_above=0.1)
    with pytest.raises(DataError, match=r"found 0.1, 0.1 and 0"):
        find_failures([1.0], patience=0)
    with pytest.raises(DataError, match="no sequence to average over"):
        summarise_failures([])


def test_attributes_by_hand() -> None:
    attributes = [frozenset({"OCC", "FM"}), frozenset({"OCC"}), frozenset(), frozenset({"OCC", "LR"})]
    scores = {"AUC": [0.2, 0.4, 0.9, 0.9], "mIoU": [0.1, np.nan, 1.0, np.nan]}
    found = score_attributes(attributes, scores)
    assert list(found) == ["FM", "LR", "OCC"]
    assert found["OCC"].sequences == 3 and found["OCC"].scores == pytest.approx({"AUC": 0.5, "mIoU": 0.1})
    assert found["FM"].scores == {"AUC": 0.2, "mIoU": 0.1}
    assert found["LR"].scores["AUC"] == 0.9 and np.isnan(found["LR"].scores["mIoU"])
    weighted = score_attributes(attributes, scores, weights=[1, 3, 1, 0])
    assert weighted["OCC"].scores["AUC"] == pytest.approx((0.2 + 3 * 0.4) / 4)
    assert np.isnan(weighted["LR"].scores["AUC"])
    assert score_attributes([frozenset()] * 4, scores) == {}


def test_attributes_must_fit() -> None:
    with pytest.raises(DataError, match=r"2 sequences have attributes, but 'AUC' has the shape \(3,\)"):
        score_attributes([{"a"}, {"b"}], {"AUC": [1, 2, 3]})
    with pytest.raises(DataError, match=r"but 'weights' has the shape \(1,\)"):
        score_attributes([{"a"}, {"b"}], {"AUC": [1, 2]}, weights=[1])
