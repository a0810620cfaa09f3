"""How far a mean over sequences can be trusted: bootstrap intervals, and a paired test of two trackers.

The sequences of a benchmark are taken as a sample of those it could have held, so that what is drawn anew is
whole sequences, never frames, which depend on their neighbours. Intervals are percentile intervals (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). The test is Fisher's randomisation test of
paired differences: if two trackers are alike, the sign of each sequence's difference is as good as tossed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtltrack.core.errors import DataError

Array = NDArray[np.float64]

CHUNK = 2_000_000  # random numbers held at a time
ROUNDING = 1e-12  # share of the mean absolute difference below which two sums count as equal


@dataclass(frozen=True)
class PairedComparison:
    """What is known of the difference between two trackers on the same sequences.

    Attributes:
        difference: mean of a less mean of b.
        low: lower end of the bootstrap interval of the difference.
        high: upper end.
        p_value: in (0, 1], how often a difference at least as large (of either sign) arises when the sign of
            each sequence's difference is tossed.
        differs: the interval leaves out 0 and the p-value is below 1 - confidence. Of fewer than six
            sequences no difference is ever shown at a confidence of 0.95: 2 of 2**5 tosses are 0.0625.
    """

    difference: float
    low: float
    high: float
    p_value: float
    differs: bool


def bootstrap_means(
    values: ArrayLike, weights: ArrayLike | None = None, *, samples: int = 10_000, seed: int = 0
) -> Array:
    """Return the means of `samples` draws of S sequences with replacement.

    Args:
        values: (S,) or (S, K), a score of each sequence, or K scores, which then share their draws.
        weights: (S,) or None, what each sequence weighs in the mean: its frames where a benchmark averages
            over frames. A sequence that is drawn twice weighs twice.
        samples: how many draws.
        seed: of the draws; the same seed draws the same sequences whatever the values.

    Returns:
        (samples,) or (samples, K).

    Raises:
        DataError: no sequence, a score that isn't finite, weights of another length, below 0 or all 0.
    """
    scores, weight = _checked(values, weights)
    draws = [
        _weighted_mean(counts * weight, scores)
        for counts in _draw_counts(len(scores), samples, np.random.default_rng(seed))
    ]
    return np.concatenate(draws)


def bootstrap_interval(
    values: ArrayLike,
    confidence: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> tuple[float, float] | tuple[Array, Array]:
    """Return the ends (low, high) of the percentile interval of the mean over sequences.

    Args:
        values: (S,), a score of each sequence, or (S, K) for K intervals at once.
        confidence: share of the draws inside, above 0 and below 1.
        samples: how many draws.
        seed: of the draws.
        weights: see `bootstrap_means`.

    Returns:
        Two numbers, or for (S, K) two arrays (K,). Of a single sequence both ends are its score: nothing can
        be said about what another one would give.

    Raises:
        DataError: as `bootstrap_means`; a confidence outside (0, 1).
    """
    _check_confidence(confidence)
    means = bootstrap_means(values, weights, samples=samples, seed=seed)
    low, high = np.quantile(means, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0], axis=0)
    return (float(low), float(high)) if means.ndim == 1 else (low, high)


def compare_paired(
    a: ArrayLike,
    b: ArrayLike,
    confidence: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
    weights: ArrayLike | None = None,
) -> PairedComparison:
    """Compare two trackers by their scores on the same sequences.

    Args:
        a: (S,), one tracker's score of each sequence.
        b: (S,), the other's, in the same order.
        confidence: see `bootstrap_interval`; 1 - confidence is the level of the test as well. It is the level
            of one comparison: of twenty pairs of like trackers, one is expected to differ at 0.95.
        samples: how many draws and tosses. Where the tosses number no more than that, each is taken once and
            the p-value is exact.
        seed: of the draws and tosses.
        weights: see `bootstrap_means`.

    Raises:
        DataError: as `bootstrap_interval`; a and b differ in length.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise DataError(
            "two trackers are compared by one score a sequence, of the same sequences in the same order; "
            f"found the shapes {first.shape} and {second.shape}"
        )
    differences, weight = _checked(first - second, weights)
    low, high = bootstrap_interval(differences, confidence, samples, seed, weight)
    found = float(_weighted_mean(weight[None], differences)[0])
    p_value = sign_flip_p_value(differences, weight, samples=samples, seed=seed)
    clear = bool(low > 0.0 or high < 0.0)
    return PairedComparison(found, float(low), float(high), p_value, clear and p_value < 1.0 - confidence)


def sign_flip_p_value(
    differences: ArrayLike, weights: ArrayLike | None = None, *, samples: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p-value in (0, 1] of the mean of paired differences (S,).

    All 2**S tosses are taken where they are no more than `samples`; else `samples` random ones, and the toss
    that was observed counts as one more, which keeps the test valid (Phipson and Smyth, Permutation p-values
    should never be zero, 2010).

    Raises:
        DataError: as `bootstrap_means`.
    """
    values, weight = _checked(differences, weights)
    values = values * weight / weight.sum()
    size, observed = len(values), abs(values.sum())
    observed -= ROUNDING * np.abs(values).sum()
    if 2**size <= samples:
        tosses = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
        return float((np.abs((1.0 - 2.0 * tosses) @ values) >= observed).mean())
    generator = np.random.default_rng(seed)
    reached = 1
    for rows in _chunks(samples, size):
        tosses = generator.integers(0, 2, size=(rows, size), dtype=np.int8)
        reached += int((np.abs((1.0 - 2.0 * tosses) @ values) >= observed).sum())
    return reached / (samples + 1)


def _draw_counts(size: int, samples: int, generator: np.random.Generator) -> Iterator[Array]:
    """Yield blocks (rows, size) that say how often each sequence was drawn."""
    for rows in _chunks(samples, size):
        drawn = generator.integers(0, size, size=(rows, size))
        drawn += np.arange(rows)[:, None] * size
        yield np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


def _chunks(samples: int, size: int) -> Iterator[int]:
    if samples < 1:
        raise DataError(f"samples must be at least 1; found {samples}")
    step = max(1, CHUNK // size)
    for start in range(0, samples, step):
        yield min(step, samples - start)


def _weighted_mean(weights: Array, values: Array) -> Array:
    """Return the means of `values` (S,) or (S, K) under each row of `weights` (R, S)."""
    total = weights.sum(axis=1)
    return weights @ values / (total if values.ndim == 1 else total[:, None])


def _checked(values: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array]:
    """Return scores and weights (S,) as numbers that can be averaged; those that weigh nothing left out."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim not in (1, 2) or len(scores) == 0:
        raise DataError(f"scores of sequences have the shape (S,) or (S, K), S > 0; found {scores.shape}")
    weight = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != scores.shape[:1]:
        raise DataError(f"{len(scores)} sequences but weights of the shape {weight.shape}")
    if not np.isfinite(weight).all() or (weight < 0.0).any() or weight.sum() == 0.0:
        raise DataError("weights of sequences must be finite, 0 or more, and not all 0")
    kept = weight > 0.0  # without those that weigh nothing, which may have no score and could make up a draw
    bad = kept & ~np.isfinite(scores).reshape(len(scores), -1).all(axis=1)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(scores)} sequences have a score that is no finite number (first "
            f"number {int(np.argmax(bad)) + 1}); leave them out, of every tracker that is compared"
        )
    return scores[kept], weight[kept]


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise DataError(f"confidence must lie between 0 and 1, such as 0.95; found {confidence}")
