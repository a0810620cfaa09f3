"""How well masks agree, as the DAVIS benchmark measures it (Perazzi et al., CVPR 2016, section 4).

Region similarity J is the intersection over union of two masks. Boundary accuracy F compares their
outlines: a pixel of one is met when some pixel of the other lies within a tolerance, 0.008 of the image's
diagonal rounded up; precision is the share of the predicted outline that is met, recall that of the true
one, F their harmonic mean. Two empty masks agree fully.

The outline of a mask is every pixel whose right, lower or lower right neighbour differs from it, as in the
benchmark's code: the paper's words (bipartite matching of contours) leave that open, published figures don't.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS
from mtltrack.metrics.merging import Mergeable

Mask = NDArray[np.uint8]
TOLERANCE = 0.008  # share of the image's diagonal
RECALL_ABOVE = 0.5  # frames whose score is above it count as found
DECAY_BINS = 4


def region_similarity(predicted: Mask, target: Mask) -> float:
    """Return J in [0, 1] of two masks (H, W) whose target is whatever isn't 0; 1 when both are empty.

    Raises:
        DataError: the masks differ in size.
    """
    first, second = _pair(predicted, target)
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0


def boundary_accuracy(predicted: Mask, target: Mask, tolerance: float = TOLERANCE) -> float:
    """Return F in [0, 1] of two masks (H, W) whose target is whatever isn't 0; 1 when neither has an outline.

    Args:
        predicted: the mask to score.
        target: the true one.
        tolerance: share of the image's diagonal within which outlines meet, rounded up to whole pixels.

    Raises:
        DataError: the masks differ in size.
    """
    first, second = _pair(predicted, target)
    reach = math.ceil(tolerance * math.hypot(*first.shape))
    outlines = [boundary(first), boundary(second)]
    if not all(outline.any() for outline in outlines):
        return float(outlines[0].any() == outlines[1].any())
    window = _around(outlines[0] | outlines[1])
    outlines = [np.ascontiguousarray(outline[window]) for outline in outlines]
    precision, recall = (_share_within(a, b, reach) for a, b in (outlines, outlines[::-1]))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """Return the outline (H, W) uint8, 0 or 1, of a mask (H, W) of 0 and 1.

    A pixel beyond the right or lower edge equals its neighbour inside: an object that touches the edge has no
    outline along it.
    """
    padded = cv2.copyMakeBorder(mask, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    here, right, below, diagonal = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (here ^ right) | (here ^ below) | (here ^ diagonal)


def _around(mask: Mask) -> tuple[slice, slice]:
    """Return the rows and columns that hold everything which isn't 0: nothing beyond them can be met."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _share_within(outline: Mask, other: Mask, reach: int) -> float:
    """Return the share of an outline's pixels that have one of the other's within `reach` pixels."""
    # the distance of each pixel to the nearest 0, so the other outline must be what is 0
    distance = cv2.distanceTransform(1 - other, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(np.mean(distance[outline != 0] <= reach))


def _pair(predicted: Mask, target: Mask) -> tuple[Mask, Mask]:
    """Return both masks as 0 and 1."""
    if predicted.shape != target.shape or predicted.ndim != 2:
        raise DataError(
            f"masks to compare need one size (H, W); found {predicted.shape} and {target.shape}. "
            "Score masks in the frame's own pixels."
        )
    return (predicted != 0).astype(np.uint8), (target != 0).astype(np.uint8)


def mask_statistics(scores: NDArray[np.float64]) -> dict[str, float]:
    """Return mean, recall and decay of the scores (F,) of one sequence's frames, NaN without frames.

    Recall is the share of frames above 0.5. Decay is the mean of the first quarter less that of the last:
    what is lost over time; quarters share the frame that lies between them.
    """
    if len(scores) == 0:
        return dict.fromkeys(("mean", "recall", "decay"), math.nan)
    edges = np.round(np.linspace(0, len(scores) - 1, DECAY_BINS + 1) + 1e-10).astype(int)
    first, last = scores[: edges[1] + 1], scores[edges[-2] :]
    return {
        "mean": float(scores.mean()),
        "recall": float((scores > RECALL_ABOVE).mean()),
        "decay": float(first.mean() - last.mean()),
    }


@METRICS.register_module()
class MaskMetrics(Mergeable):
    """J and F of masks, frame by frame, sequence by sequence.

    Args:
        boundaries: score F as well, some milliseconds for a frame of 854 x 480 pixels.
    """

    COUNTS = ("_regions", "_outlines")

    def __init__(self, boundaries: bool = True) -> None:
        self.boundaries = boundaries
        self._regions: dict[str, list[float]] = {}
        self._outlines: dict[str, list[float]] = {}

    def update(self, predicted: Mask, target: Mask, sequence: str = "") -> None:
        """Add a frame.

        Args:
            predicted: (H, W), the target whatever isn't 0.
            target: (H, W), the true one.
            sequence: which the frame belongs to; frames come in order.
        """
        self._regions.setdefault(sequence, []).append(region_similarity(predicted, target))
        if self.boundaries:
            self._outlines.setdefault(sequence, []).append(boundary_accuracy(predicted, target))

    def sequences(self) -> dict[str, dict[str, float]]:
        """Return the scores of each sequence: J_mean, J_recall, J_decay and the same of F."""
        return {name: self._of(name) for name in self._regions}

    def _of(self, sequence: str) -> dict[str, float]:
        kinds: Mapping[str, Mapping[str, list[float]]] = {"J": self._regions, "F": self._outlines}
        return {
            f"{kind}_{name}": value
            for kind, scores in kinds.items()
            if sequence in scores
            for name, value in mask_statistics(np.array(scores[sequence])).items()
        }

    def compute(self) -> dict[str, float]:
        """Return the means over the sequences, as the benchmark does; NaN without a frame.

        Keys: J_mean, J_recall, J_decay and, unless turned off, the same of F and JF_mean, the mean of both
        means.
        """
        rows = list(self.sequences().values())
        kinds = ("J", "F") if self.boundaries else ("J",)
        names = [f"{kind}_{name}" for kind in kinds for name in ("mean", "recall", "decay")]
        means = {name: float(np.mean([row[name] for row in rows])) if rows else math.nan for name in names}
        if self.boundaries:
            means["JF_mean"] = (means["J_mean"] + means["F_mean"]) / 2
        return means

    def reset(self) -> None:
        """Forget every frame."""
        self._regions.clear()
        self._outlines.clear()
