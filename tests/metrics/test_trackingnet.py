"""TrackingNet's scores by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.metrics.trackingnet import score_all_trackingnet

TRUTH = np.array([[10.0, 10, 20, 10]] * 4)


def shifted(*amounts: float) -> np.ndarray:
    boxes = TRUTH[: len(amounts)].copy()
    boxes[:, 0] += amounts
    return boxes


def test_areas_by_hand() -> None:
    # overlaps 1, 1, 12 / 28, 0; centre errors 0, 0, 8, 40 pixels; normalised 0, 0, 0.4, 2
    scores = score_all_trackingnet([shifted(99, 0, 8, 40)], [TRUTH])
    # above 0 to 0.4 (9 thresholds) 3/4, above 0.45 to 0.95 (11) 1/2, above 1 none; ends count half
    success = (0.75 / 2 + 8 * 0.75 + 11 * 0.5 + 0) / 20
    # thresholds 0, 2.5, 5, 7.5 hold 1/2, 10 to 37.5 (12) 3/4, 40 to 47.5 (4) and 50 all
    precision = (0.5 / 2 + 3 * 0.5 + 12 * 0.75 + 4 * 1 + 1 / 2) / 20
    # thresholds up to 0.375 (16) hold 1/2, 0.4 to 0.5 (5) 3/4
    normalised = (0.5 / 2 + 15 * 0.5 + 4 * 0.75 + 0.75 / 2) / 20
    assert scores.mean() == pytest.approx(
        {"Success": success, "Precision": precision, "NormPrecision": normalised}
    )


def test_boxes_are_rounded() -> None:
    off = shifted(0, 0.4, -0.5, 0.49)  # 9.5 is rounded to the even 10
    off[:, 2:] += 0.3
    perfect = score_all_trackingnet([TRUTH], [TRUTH]).mean()
    assert score_all_trackingnet([off], [TRUTH + 0.2]).mean() == perfect
    # a perfect tracker: overlap 1 isn't above 1, so that the last threshold's half is lost
    assert perfect == pytest.approx({"Success": 1 - 0.5 / 20, "Precision": 1, "NormPrecision": 1})


def test_lengths_and_frames_without_a_box() -> None:
    scores = score_all_trackingnet([TRUTH[:2], np.concatenate([TRUTH, TRUTH])], [TRUTH, TRUTH])
    assert scores.of_each()["Precision"].tolist() == [0.5, 1.0]
    truth = TRUTH.copy()
    truth[3] = 0
    empty = score_all_trackingnet([shifted(0, 0, 0, 500)], [truth])
    assert empty.of_each()["NormPrecision"].tolist() == [0.75]
    with pytest.raises(DataError, match=r"^sequence 'a': nothing to score: 0 predicted boxes, 4 true boxes"):
        score_all_trackingnet([[]], [TRUTH], names=["a"])
    with pytest.raises(DataError, match="nothing to score: 0 results, 1 true sequences"):
        score_all_trackingnet([], [TRUTH])
    with pytest.raises(DataError, match=r"^sequence 'a': predicted boxes must be numbers .* line 2"):
        score_all_trackingnet([[[1, 1, 1, 1], [1, 1, -1, 1]]], [TRUTH], names=["a"])
