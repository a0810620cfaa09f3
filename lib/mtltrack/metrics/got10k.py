"""Scores as the GOT-10k toolkit computes them: AO and SR, and its versions of the OTB, LaSOT and UAV123
curves.

They differ from `mtltrack.metrics.success`: continuous boxes, no visibility rule for the curves, and for
GOT-10k frames weighted equally over sequences, the first frame left out, boxes clipped to the image, hidden
frames (cover 0) dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS
from mtltrack.metrics.boxes import as_boxes, centre_error, rect_iou, toolkit_centre_error

Array = NDArray[np.float64]

IOU_THRESHOLDS = np.linspace(0.0, 1.0, 21)
CENTRE_THRESHOLDS = np.arange(0, 51)
NORMALISED_THRESHOLDS = np.linspace(0.0, 0.5, 51)


def got10k_ious(
    pred_xywh: object,
    true_xywh: object,
    cover: object = None,
    image_size: tuple[float, float] | None = None,
    *,
    shrink: bool = False,
) -> Array:
    """Return the overlaps of one sequence that AO and SR are made of.

    Args:
        pred_xywh: (N, 4) pixels.
        true_xywh: (N, 4) pixels.
        cover: (N,) visibility from 0 (hidden) to 8 (fully visible); frames with 0 are dropped. None: all are
            kept.
        image_size: (width, height) in pixels to clip boxes to, or None.
        shrink: how boxes are clipped, see `mtltrack.metrics.boxes.clip_to_image`.

    Returns:
        (M,) in [0, 1], of the frames from the second on.
    """
    pred, truth = as_boxes(pred_xywh, "predictions"), as_boxes(true_xywh, "the ground truth")
    if len(pred) != len(truth):
        raise DataError(
            f"the results have {len(pred)} boxes, the ground truth has {len(truth)}; they must be as many"
        )
    ious = rect_iou(pred[1:], truth[1:], image_size, shrink=shrink)
    if cover is None:
        return ious
    flags = np.asarray(cover)
    if len(flags) != len(truth):
        raise DataError(f"{len(truth)} true boxes but {len(flags)} cover values; there must be one a frame")
    return ious[flags[1:] > 0]


def ao_sr(ious: Array) -> dict[str, float]:
    """Return the average overlap and the share of frames with an overlap above 0.5 and 0.75, all in [0,
    1].
    """
    if len(ious) == 0:
        return {"ao": float("nan"), "sr": float("nan"), "sr75": float("nan")}
    return {
        "ao": float(ious.mean()),
        "sr": float((ious > 0.5).mean()),
        "sr75": float((ious > 0.75).mean()),
    }


@METRICS.register_module()
@dataclass
class GOT10kMetric:
    """Accumulates sequences; `compute` weights every frame the same, as GOT-10k's server does.

    Attributes:
        shrink: how boxes are clipped, see `mtltrack.metrics.boxes.clip_to_image`.
    """

    shrink: bool = False
    ious: list[Array] = field(default_factory=list)

    def reset(self) -> None:
        """Forget every sequence."""
        self.ious.clear()

    def update(
        self,
        pred_xywh: object,
        true_xywh: object,
        cover: object = None,
        image_size: tuple[float, float] | None = None,
    ) -> dict[str, float]:
        """Add one sequence and return its own scores (arguments as in `got10k_ious`)."""
        self.ious.append(got10k_ious(pred_xywh, true_xywh, cover, image_size, shrink=self.shrink))
        return ao_sr(self.ious[-1])

    def compute(self) -> dict[str, float]:
        """Return ao, sr and sr75 over all frames of all sequences."""
        if not self.ious:
            raise DataError("no sequence to average over")
        return ao_sr(np.concatenate(self.ious))


def toolkit_curves(pred_xywh: object, true_xywh: object) -> dict[str, Array]:
    """Return the toolkit's success (21,), precision (51,) and normalised precision (51,) of one sequence.

    Frame 0 counts, with the true box in it; of two lengths the shorter is scored, as the toolkit does after a
    warning.
    """
    pred, truth = as_boxes(pred_xywh, "predictions"), as_boxes(true_xywh, "the ground truth")
    length = min(len(pred), len(truth))
    if length == 0:
        raise DataError(f"nothing to score: {len(pred)} predicted boxes, {len(truth)} true boxes")
    pred, truth = pred[:length], truth[:length]
    pred[0] = truth[0]
    ious = rect_iou(pred, truth)
    normalised = toolkit_centre_error(pred, truth)
    return {
        "success": (ious[:, None] > IOU_THRESHOLDS).mean(axis=0),
        "precision": (centre_error(pred, truth)[:, None] <= CENTRE_THRESHOLDS).mean(axis=0),
        "norm_precision": (normalised[:, None] <= NORMALISED_THRESHOLDS).mean(axis=0),
    }


def average_toolkit_curves(items: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Return the mean of each curve over sequences."""
    if not items:
        raise DataError("no sequence to average over")
    return {name: np.mean([item[name] for item in items], axis=0) for name in items[0]}


def toolkit_scores(item: dict[str, Array]) -> dict[str, float]:
    """Return success_score (area), precision_score (20 px), normalised_precision_score
    (area again, not the value at 0.2 that papers report) and success_rate (0.5), all in [0, 1]."""
    return {
        "success_score": float(item["success"].mean()),
        "precision_score": float(item["precision"][20]),
        "normalised_precision_score": float(item["norm_precision"].mean()),
        "success_rate": float(item["success"][10]),
    }
