"""Success, precision and normalised precision of one-pass evaluation, as tracker papers report them.

The figures equal those of the analysis code that HIPTrack and OSTrack ship, its peculiarities included; each
of those is named where it is reproduced, and the corrected behaviour has a named argument. Scores are
fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.core.registry import METRICS
from mtltrack.metrics.boxes import as_boxes, centre_error, normalised_centre_error, overlap

Array = NDArray[np.float64]
Validity = Literal["size", "all"]

OVERLAP_THRESHOLDS = np.arange(21) * 0.05
CENTRE_THRESHOLDS = np.arange(51) * 1.0
NORMALISED_THRESHOLDS = np.arange(51) / 100.0


@dataclass(frozen=True)
class Protocol:
    """How one benchmark's results are read.

    Attributes:
        name: the benchmark.
        allow_nan_truth: rows of NaN in the ground truth are frames without a target instead of an error.
        pad_short: predictions shorter than the ground truth are padded with empty boxes instead of an error.
        needs_visibility: the benchmark can't be scored without visibility flags.
        invalid_centre_error: the centre error given to a frame without a valid target.
        hidden_is_miss: frames whose visibility flag is 0 have infinite centre errors.
    """

    name: str
    allow_nan_truth: bool = False
    pad_short: bool = True
    needs_visibility: bool = False
    invalid_centre_error: float = np.inf
    hidden_is_miss: bool = False


_SPECIAL = {
    # QUIRK: centre error -1 is below every threshold, so a UAV frame without a target counts as precise.
    "uav": Protocol("uav", allow_nan_truth=True, invalid_centre_error=-1.0),
    "lasot": Protocol("lasot", pad_short=False, needs_visibility=True, hidden_is_miss=True),
}


def protocol_for(benchmark: str) -> Protocol:
    """Return the rules for a benchmark's name; every name but `lasot` and `uav` has the common ones."""
    return _SPECIAL.get(benchmark, Protocol(benchmark))


@dataclass(frozen=True)
class SequenceErrors:
    """Per-frame errors of one sequence.

    Attributes:
        overlap: (N,) in [0, 1]; -1 where the frame is invalid.
        centre: (N,) pixels; inf or -1 where invalid, by protocol.
        centre_norm: (N,) in sizes of the true box; -1 or inf where invalid.
        valid: (N,) bool, the frames with a target to be found.
    """

    overlap: Array
    centre: Array
    centre_norm: Array
    valid: NDArray[np.bool_]

    @property
    def average_overlap(self) -> float:
        """Mean overlap over the valid frames; NaN when there is none."""
        return float(self.overlap[self.valid].mean()) if self.valid.any() else float("nan")


def fill_empty_predictions(pred_xywh: Array, skip: NDArray[np.bool_]) -> Array:
    """Return predictions in which a box of zero width or height repeats the prediction before it.

    Frame 0 is never replaced: an empty first prediction is handed on to an empty second one (as in the
    published analysis, which writes the true box into frame 0 only afterwards).

    Args:
        pred_xywh: (N, 4) pixels.
        skip: (N,) bool, frames that keep their box (those whose ground truth is NaN).
    """
    empty = (pred_xywh[:, 2:] == 0.0).any(axis=1) & ~skip
    empty[:1] = False
    source = np.maximum.accumulate(np.where(empty, 0, np.arange(len(pred_xywh))))
    return pred_xywh[source]


def match_length(pred_xywh: Array, length: int, *, pad: bool) -> Array:
    """Return exactly `length` rows: the surplus is cut off; a shortage is padded with zeros, or raises
    `DataError`.
    """
    missing = length - len(pred_xywh)
    if missing <= 0:
        return pred_xywh[:length]
    if not pad:
        raise DataError(f"the results have {len(pred_xywh)} boxes, the ground truth has {length}")
    return np.concatenate([pred_xywh, np.zeros((missing, 4))])


def _check_inputs(pred: Array, truth: Array, visible: object, protocol: Protocol) -> None:
    """Raise `DataError` for boxes that the published analysis refuses as well."""
    if len(pred) == 0 or len(truth) == 0:
        raise DataError(f"nothing to score: {len(pred)} predicted boxes, {len(truth)} true boxes")
    bad = np.isnan(pred).any(axis=1) | (pred[:, 2:] < 0.0).any(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"predicted boxes must be numbers with w, h >= 0; line {row + 1} holds {pred[row].tolist()} "
            f"({int(bad.sum())} such lines)"
        )
    missing = np.isnan(truth).any(axis=1)
    if missing.any() and not protocol.allow_nan_truth:
        raise DataError(
            f"the ground truth is NaN in line {int(np.argmax(missing)) + 1} ({int(missing.sum())} such), "
            f"which the rules of '{protocol.name}' don't allow; write frames without a target as 0,0,0,0 "
            "(NaN: only in uav)"
        )
    if protocol.needs_visibility and visible is None:
        raise DataError(f"'{protocol.name}' is scored with visibility flags, one a frame; none were given")


def sequence_errors(
    pred_xywh: object,
    true_xywh: object,
    visible: object = None,
    *,
    protocol: str | Protocol = "otb",
    validity: Validity = "size",
    invalid_counts_as_hit: bool = True,
) -> SequenceErrors:
    """Compare the boxes of one sequence frame by frame.

    Args:
        pred_xywh: (M, 4) predictions, pixels.
        true_xywh: (N, 4) ground truth, pixels; frame 0 is where the tracker was started and is taken from
            here.
        visible: (N,) flags, 0 where the target is hidden or absent; None when unknown.
        protocol: the benchmark whose rules hold.
        validity: "size": a true box with w, h > 0 is a target (OSTrack); "all": x, y, w and h must be > 0.
        invalid_counts_as_hit: True reproduces the published analysis, in which a frame without a valid target
            gets the normalised centre error -1 (for uav the centre error too), below every threshold, and so
            counts as a hit; False gives it an infinite error.

    Raises:
        DataError: NaN or negative predictions, NaN ground truth, too few predictions, missing visibility
            flags, each where the protocol forbids it.
    """
    rules = protocol_for(protocol) if isinstance(protocol, str) else protocol
    pred, truth = as_boxes(pred_xywh, "predictions"), as_boxes(true_xywh, "the ground truth")
    _check_inputs(pred, truth, visible, rules)
    given = min(len(pred), len(truth))
    skip = np.zeros(len(pred), dtype=bool)
    skip[:given] = np.isnan(truth[:given]).any(axis=1)
    pred = match_length(fill_empty_predictions(pred, skip), len(truth), pad=rules.pad_short)
    pred[0] = truth[0]

    valid = valid_frames(truth, visible, validity)
    errors = [overlap(pred, truth), centre_error(pred, truth), normalised_centre_error(pred, truth)]
    errors[0][~valid] = -1.0
    errors[1][~valid] = rules.invalid_centre_error if invalid_counts_as_hit else np.inf
    # QUIRK: -1 is below every threshold of the normalised precision curve.
    errors[2][~valid] = -1.0 if invalid_counts_as_hit else np.inf
    if rules.hidden_is_miss and visible is not None:
        hidden = np.asarray(visible, dtype=np.float64).reshape(-1) == 0
        errors[1][hidden] = errors[2][hidden] = np.inf
    return SequenceErrors(errors[0], errors[1], errors[2], valid)


def valid_frames(true_xywh: Array, visible: object = None, validity: Validity = "size") -> NDArray[np.bool_]:
    """Return (N,) bool: the frames whose true box is a target, see `sequence_errors`."""
    if validity not in ("size", "all"):
        raise DataError(
            f"validity must be 'size' or 'all', not '{validity}'.{did_you_mean(validity, ['size', 'all'])}"
        )
    with np.errstate(invalid="ignore"):
        valid: NDArray[np.bool_] = np.all(true_xywh[:, 2:] > 0.0, axis=1)
        if validity == "all":
            valid = valid & np.all(true_xywh[:, :2] > 0.0, axis=1)
    if visible is None:
        return valid
    flags = np.asarray(visible, dtype=np.float64).reshape(-1) != 0
    if flags.shape != valid.shape:
        raise DataError(
            f"{len(valid)} true boxes but {flags.size} visibility flags; there must be one a frame"
        )
    return valid & flags


@dataclass(frozen=True)
class Curves:
    """Share of frames that pass each threshold, of one sequence or averaged over many.

    Attributes:
        success: (21,) overlap > 0, 0.05, ... 1.
        precision: (51,) centre error <= 0, 1, ... 50 pixels.
        norm_precision: (51,) normalised centre error <= 0, 0.01, ... 0.5.
    """

    success: Array
    precision: Array
    norm_precision: Array

    def scores(self) -> dict[str, float]:
        """Return AUC, OP50, OP75, Precision (20 px) and NormPrecision (0.2) in [0, 1]."""
        return {
            "AUC": float(self.success.mean()),
            "OP50": float(self.success[10]),
            "OP75": float(self.success[15]),
            "Precision": float(self.precision[20]),
            "NormPrecision": float(self.norm_precision[20]),
        }


def curves(errors: SequenceErrors, *, exclude_invalid: bool = False) -> Curves:
    """Return the curves of one sequence.

    Args:
        errors: from `sequence_errors`.
        exclude_invalid: divide by the number of valid frames instead of all. QUIRK: the published analysis
            changes only the divisor, so that frames with error -1 are still counted and a curve can exceed 1;
            give `invalid_counts_as_hit=False` to `sequence_errors` for the corrected figure.

    Raises:
        DataError: `exclude_invalid` and the sequence has no valid frame.
    """
    length = int(errors.valid.sum()) if exclude_invalid else len(errors.valid)
    if length == 0:
        raise DataError("no frame of the sequence has a valid target, so that nothing is left to score")
    return Curves(
        success=(errors.overlap[:, None] > OVERLAP_THRESHOLDS).sum(axis=0) / length,
        precision=(errors.centre[:, None] <= CENTRE_THRESHOLDS).sum(axis=0) / length,
        norm_precision=(errors.centre_norm[:, None] <= NORMALISED_THRESHOLDS).sum(axis=0) / length,
    )


def average_curves(items: Sequence[Curves]) -> Curves:
    """Return the mean over sequences, each with the same weight whatever its length."""
    if not items:
        raise DataError("no sequence to average over")
    return Curves(
        success=np.mean([item.success for item in items], axis=0),
        precision=np.mean([item.precision for item in items], axis=0),
        norm_precision=np.mean([item.norm_precision for item in items], axis=0),
    )


@METRICS.register_module()
class OnePassEvaluation:
    """Accumulates sequences and answers the five scores.

    Args:
        protocol: the benchmark whose rules hold.
        validity: see `sequence_errors`.
        exclude_invalid: see `curves`.
        invalid_counts_as_hit: see `sequence_errors`.
    """

    def __init__(
        self,
        protocol: str = "otb",
        validity: Validity = "size",
        exclude_invalid: bool = False,
        invalid_counts_as_hit: bool = True,
    ) -> None:
        self.protocol = protocol
        self.validity: Validity = validity
        self.exclude_invalid = exclude_invalid
        self.invalid_counts_as_hit = invalid_counts_as_hit
        self.reset()

    def reset(self) -> None:
        """Forget every sequence."""
        self.sequences: list[Curves] = []
        self.mean_overlaps: list[float] = []

    def update(self, pred_xywh: object, true_xywh: object, visible: object = None) -> dict[str, float]:
        """Add one sequence and return its own scores (arguments as in `sequence_errors`)."""
        errors = sequence_errors(
            pred_xywh,
            true_xywh,
            visible,
            protocol=self.protocol,
            validity=self.validity,
            invalid_counts_as_hit=self.invalid_counts_as_hit,
        )
        self.sequences.append(curves(errors, exclude_invalid=self.exclude_invalid))
        self.mean_overlaps.append(errors.average_overlap)
        return {**self.sequences[-1].scores(), "mIoU": errors.average_overlap}

    def compute(self) -> dict[str, float]:
        """Return the scores over all sequences; `mIoU` is the mean over sequences of the mean overlap of
        valid frames.
        """
        return {**average_curves(self.sequences).scores(), "mIoU": float(np.nanmean(self.mean_overlaps))}
