"""Many sequences in one array: rows one after another, and how many values of each pass which threshold.

`starts` (S,) holds the row at which each sequence begins; the first is 0, they rise, no sequence is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Thresholds = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

BLOCK = 16_384  # rows compared at a time: arrays of that many numbers stay in a core's cache


def blocks(lengths: Sequence[int]) -> Iterator[slice]:
    """Yield runs of sequences of these lengths that hold about `BLOCK` rows, at least one sequence, each."""
    start = rows = 0
    for index, length in enumerate(lengths):
        rows += length
        if rows >= BLOCK:
            yield slice(start, index + 1)
            start, rows = index + 1, 0
    if start < len(lengths):
        yield slice(start, len(lengths))


def starts_of(lengths: Sequence[int] | Indices) -> Indices:
    """Return where sequences of these lengths begin when they stand one after another."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64)[:-1])]).astype(np.int64)


def lengths_of(starts: Indices, rows: int) -> Indices:
    """Return how long each sequence is, of `rows` rows in all."""
    return np.diff(starts, append=rows)


def locate(row: int, starts: Indices) -> tuple[int, int]:
    """Return the sequence that holds a row, and which of its rows that is, both counted from 0."""
    sequence = int(np.searchsorted(starts, row, side="right")) - 1
    return sequence, row - int(starts[sequence])


def count_above(values: Array, thresholds: Thresholds, starts: Indices) -> Indices:
    """Return (S, T): how many values of each sequence are > each threshold; NaN is above none.

    Args:
        values: (N,).
        thresholds: (T,) rising.
        starts: (S,).

    Each value is looked up once among the thresholds instead of being compared with each. The comparison is
    the same, `value > threshold` of the very numbers, so a value on a threshold falls on the same side.
    """
    below = first_reaching(values, thresholds)  # as many thresholds are < value
    unknown = np.isnan(values)
    if unknown.any():
        below[unknown] = 0
    bins = _histograms(below, len(thresholds) + 1, starts)
    return bins[:, ::-1].cumsum(axis=1)[:, -2::-1]


def count_within(values: Array, thresholds: Thresholds, starts: Indices) -> Indices:
    """Return (S, T): how many values of each sequence are <= each threshold; NaN is within none.

    Arguments and exactness as in `count_above`.
    """
    first = first_reaching(values, thresholds)
    return _histograms(first, len(thresholds) + 1, starts)[:, :-1].cumsum(axis=1)


def first_reaching(values: Array, thresholds: Thresholds) -> Indices:
    """Return (N,) the index of the first threshold that is >= each value; T where none is, or for NaN.

    The same as `np.searchsorted(thresholds, values)`, and several times as quick where the thresholds are
    evenly spaced up to their rounding: the place is worked out from the spacing, and where it is off, which
    rounding makes by one at most, put right by comparing with the thresholds themselves.
    """
    number = len(thresholds)
    step = (thresholds[-1] - thresholds[0]) / (number - 1)
    even = thresholds[0] + step * np.arange(number)
    if np.abs(thresholds - even).max() > 1e-6 * step:
        return np.searchsorted(thresholds, values, side="left")
    place = np.ceil((values - thresholds[0]) * (1.0 / step))
    found = np.fmax(np.fmin(place, number), 0.0).astype(np.int64)  # of NaN and T, fmin takes T
    # fence[i] < value <= fence[i + 1] is wanted; nothing lies before the first
    fence = np.concatenate([[np.nan], thresholds, [np.inf]])
    found += values > fence[found + 1]
    found -= values <= fence[found]
    return found


def _histograms(bins: Indices, number: int, starts: Indices) -> Indices:
    """Return (S, number): how often each bin occurs in each sequence."""
    if len(starts) > 1:
        offsets = np.arange(len(starts)) * number
        bins = bins + np.repeat(offsets, lengths_of(starts, len(bins)))
    return np.bincount(bins, minlength=len(starts) * number).reshape(len(starts), number)


def segment_sums(values: Array, starts: Indices) -> Array:
    """Return the sum (S,) of each sequence's values (N,)."""
    return np.add.reduceat(values, starts)


def segment_counts(flags: NDArray[np.bool_], starts: Indices) -> Indices:
    """Return how many flags (N,) of each sequence are set (S,)."""
    return np.add.reduceat(flags, starts, dtype=np.int64)
