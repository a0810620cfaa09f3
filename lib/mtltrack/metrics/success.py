"""Success, precision and normalised precision of one-pass evaluation, as tracker papers report them.

The figures equal those of the analysis code that HIPTrack and OSTrack ship, its peculiarities included; each
of those is named where it is reproduced, and the corrected behaviour has a named argument. Scores are
fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS
from mtltrack.metrics.boxes import centre_error, normalised_centre_error, overlap
from mtltrack.metrics.preparation import Protocol, Rows, Validity, prepare, protocol_for, valid_frames
from mtltrack.metrics.ragged import (
    Indices,
    count_above,
    count_within,
    lengths_of,
    segment_counts,
    segment_sums,
)

Array = NDArray[np.float64]

OVERLAP_THRESHOLDS = np.arange(21) * 0.05
CENTRE_THRESHOLDS = np.arange(51) * 1.0
NORMALISED_THRESHOLDS = np.arange(51) / 100.0
ONE_SEQUENCE = np.zeros(1, dtype=np.int64)  # where the sequences start when there is one


@dataclass(frozen=True)
class SequenceErrors:
    """Per-frame errors of one sequence, or of several one after another.

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
        return float(average_overlaps(self, ONE_SEQUENCE)[0])


def average_overlaps(errors: SequenceErrors, starts: Indices) -> Array:
    """Return the mean overlap (S,) over the valid frames of each sequence; NaN where there is none."""
    total = segment_sums(np.where(errors.valid, errors.overlap, 0.0), starts)
    number = segment_counts(errors.valid, starts)
    return np.divide(total, number, out=np.full(len(starts), np.nan), where=number > 0)


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
        visible: (N,) flags, 0 where the target is hidden or absent; None when unknown. The published
            analysis has none of `got10k`, by whose rules they don't count.
        protocol: the benchmark whose rules hold.
        validity: "size": a true box with w, h > 0 is a target (OSTrack); "all": x, y, w and h must be > 0.
        invalid_counts_as_hit: True reproduces the published analysis, in which a frame without a valid target
            gets the normalised centre error -1 (for uav the centre error too), below every threshold, and so
            counts as a hit; False gives it an infinite error.

    Raises:
        DataError: infinite boxes, NaN or negative predictions, and where the protocol forbids it NaN ground
            truth, too few predictions or missing visibility flags.
    """
    rules = protocol_for(protocol) if isinstance(protocol, str) else protocol
    rows = prepare([pred_xywh], [true_xywh], [visible], rules)
    return errors_of_rows(rows, rules, validity, invalid_counts_as_hit)


def errors_of_rows(
    rows: Rows, rules: Protocol, validity: Validity = "size", invalid_counts_as_hit: bool = True
) -> SequenceErrors:
    """Compare the boxes of prepared sequences frame by frame, see `sequence_errors`."""
    pred, truth = rows.pred_xywh, rows.true_xywh
    valid = valid_frames(truth, rows.visible if rules.uses_visibility else None, validity)
    errors = SequenceErrors(
        overlap(pred, truth), centre_error(pred, truth), normalised_centre_error(pred, truth), valid
    )
    if not valid.all():
        errors.overlap[~valid] = -1.0
        errors.centre[~valid] = rules.invalid_centre_error if invalid_counts_as_hit else np.inf
        # QUIRK: -1 is below every threshold of the normalised precision curve.
        errors.centre_norm[~valid] = -1.0 if invalid_counts_as_hit else np.inf
        if rules.hidden_is_miss and rows.visible is not None:
            errors.centre[~rows.visible] = errors.centre_norm[~rows.visible] = np.inf
    return errors


@dataclass(frozen=True)
class Curves:
    """Share of frames that pass each threshold, of one sequence, averaged over many, or a row for each of S.

    Attributes:
        success: (21,) or (S, 21) overlap > 0, 0.05, ... 1.
        precision: (51,) or (S, 51) centre error <= 0, 1, ... 50 pixels.
        norm_precision: (51,) or (S, 51) normalised centre error <= 0, 0.01, ... 0.5.
    """

    success: Array
    precision: Array
    norm_precision: Array

    def scores(self) -> dict[str, float]:
        """Return the scores in [0, 1] of one sequence or of a mean.

        AUC, OP50, OP75, Precision (20 px), NormPrecision (0.2) and NormPrecisionAUC (mean of the curve from 0
        to 0.5, which TrackingNet and the GOT-10k toolkit call normalised precision).
        """
        return {name: float(score) for name, score in self.scores_of_each().items()}

    def scores_of_each(self) -> dict[str, Array]:
        """Return the same scores (S,) of each sequence."""
        return {
            "AUC": self.success.mean(axis=-1),
            "OP50": self.success[..., 10],
            "OP75": self.success[..., 15],
            "Precision": self.precision[..., 20],
            "NormPrecision": self.norm_precision[..., 20],
            "NormPrecisionAUC": self.norm_precision.mean(axis=-1),
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
    each = curves_of_each(errors, ONE_SEQUENCE, exclude_invalid=exclude_invalid)
    return Curves(each.success[0], each.precision[0], each.norm_precision[0])


def curves_of_each(
    errors: SequenceErrors,
    starts: Indices,
    *,
    exclude_invalid: bool = False,
    names: Sequence[str] | None = None,
) -> Curves:
    """Return the curves of sequences that stand one after another, a row for each; see `curves`."""
    lengths = lengths_of(starts, len(errors.valid))
    if exclude_invalid:
        lengths = segment_counts(errors.valid, starts)
    if not lengths.all():
        name = f"sequence '{names[int(np.argmin(lengths))]}': " if names is not None else ""
        raise DataError(
            f"{name}no frame of the sequence has a valid target, so that nothing is left to score"
        )
    divisor = lengths[:, None]
    return Curves(
        success=count_above(errors.overlap, OVERLAP_THRESHOLDS, starts) / divisor,
        precision=count_within(errors.centre, CENTRE_THRESHOLDS, starts) / divisor,
        norm_precision=count_within(errors.centre_norm, NORMALISED_THRESHOLDS, starts) / divisor,
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
    """Accumulates sequences and answers the scores of `Curves.scores`.

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
        return {**average_curves(self.sequences).scores(), "mIoU": mean_of_known(self.mean_overlaps)}


def mean_of_known(values: Sequence[float] | Array) -> float:
    """Return the mean of the values that aren't NaN; NaN when there is none."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")
