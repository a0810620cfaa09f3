"""Scores of detections with at most one box a frame: average precision as COCO defines it, presence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS
from mtltrack.metrics.merging import Mergeable

Array = NDArray[np.float64]

AP_THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(10))  # overlaps of AP50:95
RECALLS = np.linspace(0.0, 1.0, 101)  # where the precision is read
PRESENT = 0.5  # a frame whose confidence is above this is taken to have the object


def box_overlaps(predicted_xyxy: Array, true_xyxy: Array) -> Array:
    """Return the intersection over union of corresponding boxes, (N, 4) and (N, 4) -> (N,); 0 without area.

    COCO's convention: a box is the continuous rectangle between its corners.
    """
    low = np.maximum(predicted_xyxy[:, :2], true_xyxy[:, :2])
    high = np.minimum(predicted_xyxy[:, 2:], true_xyxy[:, 2:])
    intersection = np.clip(high - low, 0.0, None).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (predicted_xyxy, true_xyxy)]
    union = areas[0] + areas[1] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def average_precision(
    confidences: ArrayLike, overlaps: ArrayLike, present: ArrayLike, threshold: float
) -> float:
    """Return the average precision of one detection a frame (COCO's evaluation, 101 recalls).

    The detections are ranked by confidence, equal ones in the order given. One counts as a hit where the
    frame has the object and the overlap reaches the threshold, else as a false alarm; so a box in a frame
    without the object is one. At each of 101 recalls stands the best precision at that recall or a higher
    one, 0 where it is never reached; the result is their mean.

    Args:
        confidences: (N,) any scale.
        overlaps: (N,) in [0, 1], of the detection with the true box; any value where there is none.
        present: (N,) bool, whether the frame has the object.
        threshold: overlap in (0, 1].

    Returns:
        A value in [0, 1]; NaN when no frame has the object.
    """
    present = np.asarray(present, dtype=bool)
    if not present.any():
        return math.nan
    order = np.argsort(-np.asarray(confidences, dtype=np.float64), kind="mergesort")
    hit = (present & (np.asarray(overlaps) >= threshold))[order]
    hits = np.cumsum(hit, dtype=np.float64)
    recall = hits / present.sum()
    precision = hits / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(recall, RECALLS, side="left")
    reached = first < len(recall)
    return float(best_from_here[first[reached]].sum() / len(RECALLS))


@METRICS.register_module()
class DetectionMetrics(Mergeable):
    """Gathers one detection a frame and scores them all together.

    `AP50` and `AP50:95` as `average_precision`, the second the mean over the overlaps 0.50, 0.55 ... 0.95;
    `presence_accuracy` the share of frames whose presence (confidence above 0.5) is right; `presence_f1` the
    F1 of frames with the object.
    """

    COUNTS = ("_confidences", "_overlaps", "_present")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every frame."""
        self._confidences: list[Array] = []
        self._overlaps: list[Array] = []
        self._present: list[NDArray[np.bool_]] = []

    def update(
        self, confidences: ArrayLike, predicted_xyxy: ArrayLike, present: ArrayLike, true_xyxy: ArrayLike
    ) -> None:
        """Add frames.

        Args:
            confidences: (N,) that the frame has the object, in [0, 1].
            predicted_xyxy: (N, 4) corner boxes, one a frame, whatever the confidence.
            present: (N,) bool, whether the frame has the object.
            true_xyxy: (N, 4) in the unit of the predictions; any finite value where there is none.

        Raises:
            DataError: shapes don't fit, or a confidence or a predicted box isn't finite.
        """
        confidence = np.asarray(confidences, dtype=np.float64)
        predicted, true = (np.asarray(boxes, dtype=np.float64) for boxes in (predicted_xyxy, true_xyxy))
        known = np.asarray(present, dtype=bool)
        count = len(confidence)
        if confidence.ndim != 1 or known.shape != (count,) or {predicted.shape, true.shape} != {(count, 4)}:
            raise DataError(
                "detections want confidences (N,), boxes (N, 4), present (N,) and true boxes (N, 4); found "
                f"{confidence.shape}, {predicted.shape}, {known.shape} and {true.shape}"
            )
        if not (np.isfinite(confidence).all() and np.isfinite(predicted).all()):
            row = int(np.flatnonzero(~(np.isfinite(confidence) & np.isfinite(predicted).all(axis=1)))[0])
            raise DataError(
                f"detection {row} isn't finite: confidence {confidence[row]}, box {predicted[row].tolist()}"
            )
        self._confidences.append(confidence)
        self._overlaps.append(box_overlaps(predicted, true))
        self._present.append(known)

    @property
    def count(self) -> int:
        """Number of frames seen."""
        return sum(len(part) for part in self._present)

    def compute(self) -> dict[str, float]:
        """Return the scores in [0, 1]; NaN for AP and F1 when no frame has the object, for all without
        frames.
        """
        confidences = np.concatenate([np.zeros(0), *self._confidences])
        overlaps = np.concatenate([np.zeros(0), *self._overlaps])
        present = np.concatenate([np.zeros(0, dtype=bool), *self._present])
        found = confidences > PRESENT
        positives = int(present.sum())
        hits, wrong = int((found & present).sum()), int((found != present).sum())
        return {
            "AP50": average_precision(confidences, overlaps, present, AP_THRESHOLDS[0]),
            "AP50:95": _mean([average_precision(confidences, overlaps, present, t) for t in AP_THRESHOLDS]),
            "presence_accuracy": 1 - wrong / len(present) if len(present) else math.nan,
            "presence_f1": 2 * hits / (2 * hits + wrong) if positives else math.nan,
        }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
