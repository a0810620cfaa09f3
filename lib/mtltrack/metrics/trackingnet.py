"""Scores as TrackingNet's evaluation server computes them.

The benchmark (Mueller et al., TrackingNet, ECCV 2018) names its scores as others do, but its server runs
`metrics.py` of its development kit (the authors say so in issue 22 of github.com/SilvioGiancola/
TrackingNet-devkit), by which they are something else:

* all boxes are rounded to whole pixels, and the true box stands in frame 0;
* each of the three curves has 21 evenly spaced thresholds (overlap > 0 to 1, centre error <= 0 to 50 pixels,
  normalised centre error <= 0 to 0.5), and each score is the area under its curve by the trapezoidal rule,
  the thresholds' range taken as 1. So precision is no value at 20 pixels, and isn't comparable with the
  precision of other benchmarks;
* every frame counts; boxes that a result lacks are misses, those that are too many are ignored;
* every sequence has the same weight.

The server's boxes of the test set aren't public: this is for own ground truth, and for the training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.metrics.boxes import as_boxes, centre_error, overlap
from mtltrack.metrics.preparation import check_predictions
from mtltrack.metrics.ragged import blocks, count_above, count_within, lengths_of, starts_of

Array = NDArray[np.float64]

OVERLAP_THRESHOLDS = np.linspace(0, 1, 21)
CENTRE_THRESHOLDS = np.linspace(0, 50, 21)
NORMALISED_THRESHOLDS = np.linspace(0, 0.5, 21)


@dataclass(frozen=True)
class TrackingNetScores:
    """The curves of S sequences of one tracker, shares of frames in [0, 1].

    Attributes:
        success: (S, 21) overlap > 0, 0.05, ... 1.
        precision: (S, 21) centre error <= 0, 2.5, ... 50 pixels.
        norm_precision: (S, 21) normalised centre error <= 0, 0.025, ... 0.5.
    """

    success: Array
    precision: Array
    norm_precision: Array

    def of_each(self) -> dict[str, Array]:
        """Return Success, Precision and NormPrecision (S,) of each sequence, areas under the curves."""
        curves = {
            "Success": self.success,
            "Precision": self.precision,
            "NormPrecision": self.norm_precision,
        }
        return {name: (curve[:, 1:] + curve[:, :-1]).mean(axis=1) / 2 for name, curve in curves.items()}

    def mean(self) -> dict[str, float]:
        """Return the scores averaged over sequences."""
        return {name: float(values.mean()) for name, values in self.of_each().items()}


def score_all_trackingnet(
    predictions: Sequence[object], truths: Sequence[object], *, names: Sequence[str] | None = None
) -> TrackingNetScores:
    """Score one tracker on S sequences.

    Args:
        predictions: (M, 4) boxes x, y, w, h of each sequence, pixels.
        truths: (N, 4) true boxes of each, in the same order.
        names: of the sequences; an error then begins with that of the one it is about.

    Raises:
        DataError: no sequence, an empty one, predictions that aren't numbers or have a negative extent.
    """
    if not len(truths) or len(predictions) != len(truths):
        raise DataError(f"nothing to score: {len(predictions)} results, {len(truths)} true sequences")
    prefixes = [""] * len(truths) if names is None else [f"sequence '{name}': " for name in names]
    true = [as_boxes(item, "the ground truth", copy=False) for item in truths]
    pred = [as_boxes(item, "predictions", copy=False) for item in predictions]
    for prefix, one, other in zip(prefixes, pred, true, strict=True):
        if len(one) == 0 or len(other) == 0:
            raise DataError(f"{prefix}nothing to score: {len(one)} predicted boxes, {len(other)} true boxes")
    check_predictions(pred, prefixes)
    parts = [_curves(pred[block], true[block]) for block in blocks([len(item) for item in true])]
    success, precision, norm_precision = (np.concatenate(curve) for curve in zip(*parts, strict=True))
    return TrackingNetScores(success, precision, norm_precision)


def _curves(predictions: Sequence[Array], truths: Sequence[Array]) -> tuple[Array, Array, Array]:
    starts = starts_of([len(item) for item in truths])
    true = np.rint(np.concatenate(truths))
    pred = np.rint(
        np.concatenate([_fitted(one, len(other)) for one, other in zip(predictions, truths, strict=True)])
    )
    pred[starts] = true[starts]
    normalised = _normalised_error(pred, true)
    frames = lengths_of(starts, len(true))[:, None]
    return (
        count_above(overlap(pred, true), OVERLAP_THRESHOLDS, starts) / frames,
        count_within(centre_error(pred, true), CENTRE_THRESHOLDS, starts) / frames,
        count_within(normalised, NORMALISED_THRESHOLDS, starts) / frames,
    )


def _fitted(pred_xywh: Array, length: int) -> Array:
    """Return `length` boxes: what is missing as NaN, which passes no threshold."""
    missing = max(0, length - len(pred_xywh))
    return np.concatenate([pred_xywh[:length], np.full((missing, 4), np.nan)])


def _normalised_error(pred_xywh: Array, true_xywh: Array) -> Array:
    """Return the normalised centre error (N,), rounded as the server's order of operations rounds it."""
    x, y, width, height = pred_xywh.T
    true_x, true_y, true_width, true_height = true_xywh.T
    across = (true_x + (true_width + 1.0) / 2.0) - (x + (width + 1.0) / 2.0)
    down = (true_y + (true_height + 1.0) / 2.0) - (y + (height + 1.0) / 2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(across / true_width * across / true_width + down / true_height * down / true_height)
