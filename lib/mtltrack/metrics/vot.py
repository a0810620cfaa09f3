"""Accuracy, robustness and expected average overlap (EAO) of the VOT challenges, from overlaps.

Two protocols: since VOT2020 a tracker is started at several anchors of each sequence and runs to the end of
the video, forwards or backwards (`score_multistart`; Kristan et al., The Eighth Visual Object Tracking
VOT2020 Challenge Results); before, it was started again after each failure (`score_resets`; Kristan et al.,
The Sixth Visual Object Tracking VOT2018 Challenge Results). What the papers leave open is decided as
vot-toolkit 0.9.0 decides it; `tools/check_vot.py` compares with an installed toolkit.

Starting anew needs the tracker, so the toolkit runs it (`tracking/vot.py` is what it starts) and writes the
regions. The overlaps of these functions must be those of the toolkit to give its figures: between regions
drawn as pixels and cut at the image's edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtltrack.core.errors import DataError
from mtltrack.metrics.robustness import long_runs

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

UNKNOWN, STARTED, FAILED, TRACKED = 0, 1, 2, -1  # the first three are what a line of a result file may hold


@dataclass(frozen=True)
class VotScores:
    """The scores of one tracker.

    Attributes:
        accuracy: mean overlap while the target was tracked, in [0, 1].
        robustness: with anchors the share of frames before the failure, in [0, 1]; with resets the number of
            failures of a sequence, a mean weighted by the sequences' lengths.
        eao: expected average overlap, the mean of the curve over the benchmark's range of lengths.
        curve: (L,) expected average overlap of a run of 0, 1, 2, ... frames behind the first.
    """

    accuracy: float
    robustness: float
    eao: float
    curve: Array


@dataclass(frozen=True)
class Run:
    """One run from an anchor to the end of the video, in the order in which frames were tracked.

    Attributes:
        overlap: (N,) in [0, 1]; the first, in which the tracker was started, isn't measured: it counts as 0.
        absent: (N,) flags of frames without a target, or None.
    """

    overlap: ArrayLike
    absent: ArrayLike | None = None


def score_multistart(
    sequences: Sequence[Sequence[Run]],
    lengths: Sequence[int],
    *,
    threshold: float = 0.1,
    grace: int = 10,
    low: int = 115,
    high: int = 755,
) -> VotScores:
    """Score the runs of each sequence by the protocol of VOT-ST2020 to VOT-ST2022.

    A run fails with the first of `grace` frames in a row whose overlap is at or below `threshold`; a frame
    without a target begins the count anew. What comes behind has no overlap.

    QUIRK of the toolkit: the frame in which the tracker is started counts as one without overlap, in the
    accuracy and in the count towards a failure. QUIRK: where a failed run ends before the curve does, its sum
    is divided by one frame less than elsewhere.

    Args:
        sequences: the runs of each, from all its anchors.
        lengths: number of frames of each video, its weight in the robustness.
        threshold: overlap at or below which a target counts as lost.
        grace: frames in a row that make a failure.
        low: shortest run of the range that EAO is the mean of.
        high: longest; the curve has this length.

    Raises:
        DataError: no run, lists of different lengths, an overlap that isn't a number.
    """
    if not sequences or len(sequences) != len(lengths) or not all(sequences):
        numbers = [len(runs) for runs in sequences]
        raise DataError(f"each video needs a length and at least one run; found {numbers} and {len(lengths)}")
    overlaps = tracked = 0.0
    shares = np.zeros(len(lengths))
    sums, active = np.zeros(high), np.zeros(high)
    for index, runs in enumerate(sequences):
        kept = frames = 0
        for run in runs:
            overlap, progress = _until_failure(run, threshold, grace)
            overlaps += overlap[:progress].sum()
            kept, frames = kept + progress, frames + len(overlap)
            _add_run(overlap, progress, sums, active)
        tracked += kept
        shares[index] = kept / frames
    curve = np.divide(sums, active, out=np.zeros(high), where=active > 0)
    accuracy = overlaps / tracked if tracked else float("nan")
    robustness = float(np.average(shares, weights=np.asarray(lengths, dtype=np.float64)))
    return VotScores(accuracy, robustness, _mean_between(curve, low, high), curve)


def _until_failure(run: Run, threshold: float, grace: int) -> tuple[Array, int]:
    """Return the overlaps (N,), the first as 0, and how many frames come before a failure."""
    overlap = _overlaps(run.overlap)
    overlap[0] = 0.0
    absent = np.zeros(len(overlap), bool) if run.absent is None else np.asarray(run.absent) != 0
    if absent.shape != overlap.shape:
        raise DataError(f"{len(overlap)} overlaps but flags of absence of the shape {absent.shape}")
    begins, _ = long_runs((overlap <= threshold) & ~absent, grace)
    return overlap, int(begins[0]) if len(begins) else len(overlap)


def _add_run(overlap: Array, progress: int, sums: Array, active: Array) -> None:
    """Add the average overlaps of one run to the curve's sums (L,), and where it has any to `active` (L,)."""
    number = len(overlap)
    failed = progress < number
    so_far = np.where(np.arange(number) < progress, overlap, 0.0)[1:].cumsum()  # behind the first 1, 2, ...
    own = min(number, len(sums))
    frames = np.arange(len(sums), dtype=np.float64)
    sums[1:own] += so_far[: own - 1] / frames[1:own]
    active[1:own] += 1
    if failed and len(so_far):
        sums[number:] += so_far[-1] / (frames[number:] - 1.0)
        active[number:] += 1


@dataclass(frozen=True)
class ResetRun:
    """One run over a whole video in which the tracker was started again after failures.

    Attributes:
        overlap: (N,) in [0, 1]; only what stands in tracked frames is read.
        states: (N,) of each frame: `TRACKED`, `STARTED`, `FAILED`, or `UNKNOWN` for those that were skipped
            between a failure and the next start.
    """

    overlap: ArrayLike
    states: ArrayLike


def score_resets(
    sequences: Sequence[Sequence[ResetRun]], *, burnin: int = 10, low: int = 100, high: int = 356
) -> VotScores:
    """Score the repeated runs of each sequence by the protocol of VOT2015 to VOT2019.

    The accuracy leaves out `burnin` frames from each start on, the failures and what was skipped. The curve
    takes each stretch from a start to its failure, or to the end of the video, as a run: behind a failure its
    overlap is 0, behind the end it says nothing.

    Args:
        sequences: the runs of each, its repetitions.
        burnin: frames from a start on that the accuracy leaves out.
        low: shortest run of the range that EAO is the mean of (VOT2018: 100; VOT2019: 46).
        high: longest (VOT2018: 356; VOT2019: 291).

    Raises:
        DataError: no run, runs that don't fit.
    """
    if not sequences or not all(sequences):
        raise DataError(f"each video needs at least one run; found {[len(runs) for runs in sequences]}")
    accuracies, failures, lengths = [], [], []
    stretches: list[tuple[Array, bool]] = []
    for runs in sequences:
        checked = [_checked_reset(run) for run in runs]
        accuracies.append(np.mean([_reset_accuracy(*item, burnin) for item in checked]))
        failures.append(np.mean([(states == FAILED).sum() for _, states in checked]))
        lengths.append(len(checked[0][0]))
        stretches.extend(stretch for item in checked for stretch in _stretches(*item))
    curve = _stretch_curve(stretches)
    return VotScores(
        float(np.average(accuracies, weights=lengths)),
        float(np.average(failures, weights=lengths)),
        _mean_between(curve, low, high),
        curve,
    )


def _checked_reset(run: ResetRun) -> tuple[Array, NDArray[np.int64]]:
    """Return overlaps (N,), 0 where the target wasn't tracked, and states (N,)."""
    states = np.asarray(run.states, dtype=np.int64)
    overlap = np.asarray(run.overlap, dtype=np.float64)
    if states.shape != overlap.shape:
        raise DataError(f"overlaps {overlap.shape} and states {states.shape} must both be (N,)")
    overlap = _overlaps(np.where(states == TRACKED, overlap, 0.0))
    starts, ends = np.flatnonzero(states == STARTED), np.flatnonzero(states == FAILED)
    behind = starts[1 : len(ends) + 1]  # the start that follows each failure, where there is one
    if (
        len(starts) - len(ends) not in (0, 1)
        or (starts[: len(ends)] > ends).any()
        or (ends[: len(behind)] > behind).any()
    ):
        raise DataError(
            f"starts and failures must take turns, a start first; found starts in {starts.tolist()} and "
            f"failures in {ends.tolist()}"
        )
    return overlap, states


def _reset_accuracy(overlap: Array, states: NDArray[np.int64], burnin: int) -> float:
    """Return the mean overlap of one run; 0 where no frame counts, as the toolkit has it."""
    counts = (states == TRACKED) | (states == STARTED)
    for start in np.flatnonzero(states == STARTED):
        counts[start : start + burnin] = False
    return float(overlap[counts].mean()) if counts.any() else 0.0


def _stretches(overlap: Array, states: NDArray[np.int64]) -> list[tuple[Array, bool]]:
    """Return overlaps from each start on and whether they end with a failure."""
    starts, ends = np.flatnonzero(states == STARTED), np.flatnonzero(states == FAILED)
    found = [(overlap[start:end], True) for start, end in zip(starts, ends, strict=False)]
    return found + [(overlap[start:], False) for start in starts[len(ends) :]]


def _stretch_curve(stretches: Sequence[tuple[Array, bool]]) -> Array:
    """Return the expected average overlap (L,), as long as the longest stretch."""
    length = max(len(overlap) for overlap, _ in stretches)
    sums, active = np.zeros(length), np.zeros(length)
    frames = np.maximum(np.arange(length, dtype=np.float64), 1.0)
    for overlap, failed in stretches:
        padded = np.zeros(length)
        padded[1 : len(overlap)] = overlap[1:]
        counts = np.ones(length, bool) if failed else np.arange(length) < len(overlap)
        sums += np.where(counts, padded.cumsum() / frames, 0.0)
        active += counts
    return sums / active


def _mean_between(curve: Array, low: int, high: int) -> float:
    """Return the mean of the curve from `low` to `high`, both included; NaN where it ends before `low`."""
    part = curve[low : high + 1]
    return float(part.mean()) if len(part) else float("nan")


def _overlaps(values: ArrayLike) -> Array:
    found = np.array(values, dtype=np.float64)
    if found.ndim != 1 or len(found) == 0 or not np.isfinite(found).all():
        raise DataError(
            f"overlaps of a run must be numbers (N,), N > 0; found the shape {found.shape}, "
            f"{int(np.count_nonzero(~np.isfinite(found)))} that are none"
        )
    return found
