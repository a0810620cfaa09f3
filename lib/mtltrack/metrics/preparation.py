"""What happens to boxes before they are compared: whose rules hold, what is refused, what is made to fit.

Everything works on the rows of many sequences at once (see `mtltrack.metrics.ragged`); one sequence is a
batch of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.metrics.boxes import as_boxes
from mtltrack.metrics.ragged import Indices, locate, starts_of

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Validity = Literal["size", "all"]


@dataclass(frozen=True)
class Protocol:
    """How one benchmark's results are read.

    Attributes:
        name: the benchmark.
        allow_nan_truth: rows of NaN in the ground truth are frames without a target instead of an error.
        pad_short: predictions shorter than the ground truth are padded with empty boxes instead of an error.
        needs_visibility: the benchmark can't be scored without visibility flags.
        uses_visibility: visibility flags, where there are any, decide which frames are valid.
        invalid_centre_error: the centre error given to a frame without a valid target.
        hidden_is_miss: frames whose visibility flag is 0 have infinite centre errors.
    """

    name: str
    allow_nan_truth: bool = False
    pad_short: bool = True
    needs_visibility: bool = False
    uses_visibility: bool = True
    invalid_centre_error: float = np.inf
    hidden_is_miss: bool = False


_SPECIAL = {
    # QUIRK: centre error -1 is below every threshold, so a UAV frame without a target counts as precise.
    "uav": Protocol("uav", allow_nan_truth=True, invalid_centre_error=-1.0),
    "lasot": Protocol("lasot", pad_short=False, needs_visibility=True, hidden_is_miss=True),
    # the published analysis takes every frame of GOT-10k by its box alone; AO and SR have a rule of their own
    "got10k": Protocol("got10k", uses_visibility=False),
}


def protocol_for(benchmark: str) -> Protocol:
    """Return the rules for a benchmark's name; all but `lasot`, `uav` and `got10k` have the common ones."""
    return _SPECIAL.get(benchmark, Protocol(benchmark))


@dataclass(frozen=True)
class Rows:
    """Sequences that are ready to be compared, one after another.

    Attributes:
        pred_xywh: (N, 4) pixels, as many as true boxes, empty ones replaced, the first of each sequence true.
        true_xywh: (N, 4) pixels.
        visible: (N,) True unless a flag of 0 was given; None when no sequence has flags.
        starts: (S,) where the sequences begin.
    """

    pred_xywh: Array
    true_xywh: Array
    visible: Flags | None
    starts: Indices


def prepare(
    predictions: Sequence[object],
    truths: Sequence[object],
    visibles: Sequence[object],
    protocol: Protocol,
    names: Sequence[str] | None = None,
) -> Rows:
    """Check sequences and make their lengths equal.

    Args:
        predictions: (M, 4) of each sequence, pixels.
        truths: (N, 4) of each.
        visibles: (N,) flags of each, or None where unknown.
        protocol: whose rules hold.
        names: of the sequences, for errors; None leaves them unnamed.

    Raises:
        DataError: infinite boxes, NaN or negative predictions, and where the protocol forbids it NaN ground
            truth, too few predictions or missing visibility flags.
    """
    pred = [as_boxes(item, "predictions", copy=False) for item in predictions]
    truth = [as_boxes(item, "the ground truth", copy=False) for item in truths]
    prefixes = [f"sequence '{name}': " for name in names] if names is not None else [""] * len(truth)
    for prefix, one, other in zip(prefixes, pred, truth, strict=True):
        if len(one) == 0 or len(other) == 0:
            raise DataError(f"{prefix}nothing to score: {len(one)} predicted boxes, {len(other)} true boxes")
    true_rows, starts = np.concatenate(truth), starts_of([len(item) for item in truth])
    check_predictions(pred, prefixes)
    missing = ~np.isfinite(true_rows.sum(axis=1))
    if missing.any():
        _check_missing(truth, missing, starts, protocol, prefixes)
    for prefix, flags in zip(prefixes, visibles, strict=True):
        if protocol.needs_visibility and flags is None:
            raise DataError(
                f"{prefix}'{protocol.name}' is scored with visibility flags, one a frame; none were given"
            )
    kept = np.concatenate([np.arange(len(other)) < len(one) for one, other in zip(pred, truth, strict=True)])
    rows = np.concatenate(
        [
            match_length(one, len(other), pad=protocol.pad_short, prefix=prefix)
            for prefix, one, other in zip(prefixes, pred, truth, strict=True)
        ]
    )
    # what was padded stays empty
    rows = fill_empty_predictions(rows, missing | ~kept, starts)
    rows[starts] = true_rows[starts]
    return Rows(rows, true_rows, _visibility(visibles, truth, prefixes), starts)


def _check_missing(
    truths: Sequence[Array], missing: Flags, starts: Indices, protocol: Protocol, prefixes: Sequence[str]
) -> None:
    """Raise `DataError` for true boxes that aren't numbers, unless the protocol takes NaN for no target."""
    for first in np.flatnonzero(missing):
        sequence, row = locate(int(first), starts)
        truth = truths[sequence]
        if np.any(np.isinf(truth[row])):
            raise DataError(
                f"{prefixes[sequence]}the ground truth is infinite in line {row + 1}: {truth[row].tolist()}"
            )
        if not protocol.allow_nan_truth:
            raise DataError(
                f"{prefixes[sequence]}the ground truth is NaN in line {row + 1} "
                f"({int(np.isnan(truth).any(axis=1).sum())} such), which the rules of '{protocol.name}' "
                "don't allow; write frames without a target as 0,0,0,0 (NaN: only in uav)"
            )


def check_predictions(predictions: Sequence[Array], prefixes: Sequence[str]) -> None:
    """Raise `DataError` for boxes that aren't numbers or have a negative extent.

    Args:
        predictions: (M, 4) of each sequence, pixels.
        prefixes: what an error about each sequence begins with.
    """
    rows = np.concatenate(predictions)
    if rows[:, 2:].min() >= 0.0 and np.isfinite(rows).all():
        return
    bad = np.logical_not(np.isfinite(rows).all(axis=1) & (rows[:, 2:] >= 0.0).all(axis=1))
    starts = starts_of([len(item) for item in predictions])
    first = int(np.argmax(bad))
    sequence, row = locate(first, starts)
    number = int(bad[starts[sequence] : starts[sequence] + len(predictions[sequence])].sum())
    raise DataError(
        f"{prefixes[sequence]}predicted boxes must be numbers with w, h >= 0; line {row + 1} holds "
        f"{rows[first].tolist()} ({number} such lines)"
    )


def _visibility(visibles: Sequence[object], truths: Sequence[Array], prefixes: Sequence[str]) -> Flags | None:
    """Return the flags (N,) of all sequences, True where a sequence has none; None when all have none."""
    if all(item is None for item in visibles):
        return None
    return np.concatenate(
        [
            np.ones(len(truth), dtype=bool) if item is None else _flags(item, len(truth), prefix)
            for item, truth, prefix in zip(visibles, truths, prefixes, strict=True)
        ]
    )


def _flags(visible: object, length: int, prefix: str = "") -> Flags:
    flags = np.asarray(visible, dtype=np.float64).reshape(-1) != 0
    if len(flags) != length:
        raise DataError(
            f"{prefix}{length} true boxes but {flags.size} visibility flags; there must be one a frame"
        )
    return flags


def fill_empty_predictions(pred_xywh: Array, skip: Flags, starts: Indices | None = None) -> Array:
    """Return predictions in which a box of zero width or height repeats the prediction before it.

    Frame 0 is never replaced: an empty first prediction is handed on to an empty second one (as in the
    published analysis, which writes the true box into frame 0 only afterwards).

    Args:
        pred_xywh: (N, 4) pixels.
        skip: (N,) bool, frames that keep their box (those whose ground truth is NaN).
        starts: (S,) where sequences begin; None: one sequence.
    """
    empty = ((pred_xywh[:, 2] == 0.0) | (pred_xywh[:, 3] == 0.0)) & ~skip
    empty[:1] = False
    if starts is not None:
        empty[starts] = False
    if not empty.any():
        return pred_xywh.copy()
    source = np.maximum.accumulate(np.where(empty, 0, np.arange(len(pred_xywh))))
    return pred_xywh[source]


def match_length(pred_xywh: Array, length: int, *, pad: bool, prefix: str = "") -> Array:
    """Return exactly `length` rows: the surplus is cut off; a shortage is padded with zeros, or raises
    `DataError`, which begins with `prefix`.
    """
    missing = length - len(pred_xywh)
    if missing <= 0:
        return pred_xywh[:length]
    if not pad:
        raise DataError(f"{prefix}the results have {len(pred_xywh)} boxes, the ground truth has {length}")
    return np.concatenate([pred_xywh, np.zeros((missing, 4))])


def valid_frames(true_xywh: Array, visible: object = None, validity: Validity = "size") -> Flags:
    """Return (N,) bool: the frames whose true box is a target.

    Args:
        true_xywh: (N, 4) pixels.
        visible: (N,) flags, 0 where the target is hidden or absent; None when unknown.
        validity: "size": a true box with w, h > 0 is a target (OSTrack); "all": x, y, w and h must be > 0.

    Raises:
        DataError: another rule, or flags of another length.
    """
    if validity not in ("size", "all"):
        raise DataError(
            f"validity must be 'size' or 'all', not '{validity}'.{did_you_mean(validity, ['size', 'all'])}"
        )
    positive = [true_xywh[:, column] > 0.0 for column in ((2, 3) if validity == "size" else (0, 1, 2, 3))]
    valid: Flags = np.logical_and.reduce(positive)
    return valid if visible is None else valid & _flags(visible, len(valid))
