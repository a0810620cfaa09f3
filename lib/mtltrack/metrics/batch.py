"""Scores of many sequences at once: 25 million frames in seconds instead of minutes.

    scores = score_all(predictions, truths, visibles, protocol="lasot", names=names)
    scores.mean()            # {"AUC": ..., "Precision": ..., "mIoU": ...}, every sequence weighs the same
    scores.of_each()["AUC"]  # (S,), for intervals and tests, see mtltrack.metrics.statistics
    scores.curves.success    # (S, 21)

The rules are those of `mtltrack.metrics.success`, and so is the code: sequences are laid one after another in
blocks that fit the processor's cache, and compared as one. For GOT-10k's AO and SR see
`mtltrack.metrics.got10k.score_all_got10k`, for errors frame by frame `mtltrack.metrics.success`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.metrics.preparation import Protocol, Validity, prepare, protocol_for
from mtltrack.metrics.ragged import blocks, lengths_of, segment_counts
from mtltrack.metrics.success import Curves, average_overlaps, curves_of_each, errors_of_rows, mean_of_known

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BatchScores:
    """The scores of S sequences of one tracker.

    Attributes:
        curves: success (S, 21), precision (S, 51) and norm_precision (S, 51), shares of frames in [0, 1].
        mean_overlaps: (S,) mean overlap over the valid frames; NaN where there is none.
        frames: (S,) number of frames.
        valid_frames: (S,) those with a target.
    """

    curves: Curves
    mean_overlaps: Array
    frames: NDArray[np.int64]
    valid_frames: NDArray[np.int64]

    def of_each(self) -> dict[str, Array]:
        """Return the scores (S,) of each sequence: those of `Curves.scores` and mIoU."""
        return {**self.curves.scores_of_each(), "mIoU": self.mean_overlaps}

    def mean_curves(self) -> Curves:
        """Return the curves averaged over sequences, each with the same weight."""
        each = self.curves
        return Curves(
            each.success.mean(axis=0), each.precision.mean(axis=0), each.norm_precision.mean(axis=0)
        )

    def mean(self) -> dict[str, float]:
        """Return the scores averaged over sequences; mIoU over those that have a valid frame."""
        return {**self.mean_curves().scores(), "mIoU": mean_of_known(self.mean_overlaps)}


def score_all(
    predictions: Sequence[object],
    truths: Sequence[object],
    visibles: Sequence[object] | None = None,
    *,
    protocol: str | Protocol = "otb",
    validity: Validity = "size",
    exclude_invalid: bool = False,
    invalid_counts_as_hit: bool = True,
    names: Sequence[str] | None = None,
) -> BatchScores:
    """Score one tracker on S sequences.

    Args:
        predictions: (M, 4) boxes x, y, w, h of each sequence, pixels.
        truths: (N, 4) true boxes of each, in the same order.
        visibles: (N,) flags of each or None where unknown, see `mtltrack.metrics.success.sequence_errors`;
            None: unknown everywhere.
        protocol: the benchmark whose rules hold.
        validity: see `sequence_errors`.
        exclude_invalid: see `mtltrack.metrics.success.curves`.
        invalid_counts_as_hit: see `sequence_errors`.
        names: of the sequences; an error then begins with that of the one it is about.

    Raises:
        DataError: as `sequence_errors`; no sequence; lists of different lengths.
    """
    flags = [None] * len(truths) if visibles is None else visibles
    given = {"predictions": predictions, "truths": truths, "visibles": flags}
    if names is not None:
        given["names"] = names
    if len({len(item) for item in given.values()}) > 1:
        numbers = ", ".join(f"{len(item)} {key}" for key, item in given.items())
        raise DataError(f"sequences to score come as lists of equal length; found {numbers}")
    if not len(truths):
        raise DataError("no sequence to average over")
    rules = protocol_for(protocol) if isinstance(protocol, str) else protocol
    parts = []
    for block in blocks([len(item) for item in truths]):  # type: ignore[arg-type]
        named = None if names is None else names[block]
        rows = prepare(predictions[block], truths[block], flags[block], rules, named)
        errors = errors_of_rows(rows, rules, validity, invalid_counts_as_hit)
        each = curves_of_each(errors, rows.starts, exclude_invalid=exclude_invalid, names=named)
        number = segment_counts(errors.valid, rows.starts)
        frames = lengths_of(rows.starts, len(errors.valid))
        parts.append(BatchScores(each, average_overlaps(errors, rows.starts), frames, number))
    return _joined(parts)


def _joined(parts: Sequence[BatchScores]) -> BatchScores:
    curves = Curves(
        np.concatenate([part.curves.success for part in parts]),
        np.concatenate([part.curves.precision for part in parts]),
        np.concatenate([part.curves.norm_precision for part in parts]),
    )
    return BatchScores(
        curves,
        np.concatenate([part.mean_overlaps for part in parts]),
        np.concatenate([part.frames for part in parts]),
        np.concatenate([part.valid_frames for part in parts]),
    )
