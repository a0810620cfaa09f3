"""Which differences between trackers are more than chance: intervals, tests of pairs, and words for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mtltrack.evaluation.report import BASELINE, FRAME_WEIGHTED, TrackerReport
from mtltrack.metrics.statistics import PairedComparison, bootstrap_interval, compare_paired

Intervals = dict[str, tuple[float, float]]

CONFIDENCE = 0.95
FEWEST = 6  # sequences with which a difference can be shown: 2 of 2**5 tosses are more than 0.05
EVERY_PAIR = 5  # trackers of which each pair is compared; of more the best one with each other


@dataclass(frozen=True)
class Comparison:
    """Two trackers on the same sequences.

    Attributes:
        better: the one with the higher mean.
        other: the one that it is compared with.
        score: what is compared.
        sequences: how many.
        found: difference `better` less `other`, its interval and the p-value of this pair alone.
        p_value: corrected for the number of pairs (Holm, A simple sequentially rejective multiple test
            procedure, 1979).
        pairs: that number.
        differs: the interval leaves out 0 and the corrected p-value is below 0.05.
    """

    better: str
    other: str
    score: str
    sequences: int
    found: PairedComparison
    p_value: float
    pairs: int
    differs: bool

    def words(self) -> str:
        """Return a sentence: how far apart they are, and whether that is inside the noise."""
        found, apart = self.found, f"{100 * self.found.difference:.1f} points of {self.score}"
        count = f"{self.sequences} sequence{'s' * (self.sequences != 1)}"
        if self.sequences < FEWEST:
            return (
                f"{self.better} and {self.other} are {apart} apart on {count}, too few to tell that from "
                f"noise: no difference can be shown with fewer than {FEWEST}"
            )
        alone = found.differs and not self.differs
        evidence = (
            f"{probability(self.p_value)} ({f'alone {probability(found.p_value)}, ' * alone}95 % interval "
            f"{100 * found.low:.1f} to {100 * found.high:.1f}, {count})"
        )
        if self.differs:
            return f"{self.better} is better than {self.other} by {apart}: {evidence}"
        among = f" of {self.pairs} comparisons" * alone
        return f"{self.better} and {self.other} are {apart} apart, inside the noise{among}: {evidence}"


def probability(value: float) -> str:
    """Return `p = .31`, or `p < .001`."""
    if value < 0.001:
        return "p < .001"
    digits = 3 if value < 0.1 else 2
    return f"p = {value:.{digits}f}".replace("0.", ".", 1)


def headline(reports: Sequence[TrackerReport]) -> str:
    """Return the score by which trackers are ranked and compared: GOT-10k's AO where there is one, or AUC."""
    return "AO" if all("AO" in report.mean for report in reports) else "AUC"


def ranked(reports: Sequence[TrackerReport], score: str) -> list[TrackerReport]:
    """Return reports as every table shows them: the best first by a score, the box held still last."""
    return sorted(reports, key=lambda item: (item.tracker == BASELINE, -_number(item.mean[score])))


def intervals_of(report: TrackerReport) -> Intervals:
    """Return the bootstrap interval over sequences of each score of a tracker that is defined in all of
    `sequences`, and of mIoU over those with a target.
    """
    groups: dict[tuple[bool, bytes], list[str]] = {}
    rows = list(report.sequences.values())
    for score in rows[0]:
        known = np.array([not math.isnan(row[score]) for row in rows])
        if known.any():
            groups.setdefault((score in FRAME_WEIGHTED, known.tobytes()), []).append(score)
    found: Intervals = {}
    for (weighted, mask), scores in groups.items():
        weights = np.frombuffer(mask, dtype=bool).astype(float)
        if weighted:
            weights = weights * [report.weights[name] for name in report.sequences]
        values = np.array([[row[score] for score in scores] for row in rows])
        low, high = bootstrap_interval(values, CONFIDENCE, weights=weights)
        ends = zip(scores, np.atleast_1d(low), np.atleast_1d(high), strict=True)
        found |= {score: (float(a), float(b)) for score, a, b in ends}
    return found


def compare(reports: Sequence[TrackerReport], score: str) -> list[Comparison]:
    """Compare trackers by a score: each pair, or the best one with each other where there are more than
    `EVERY_PAIR`.

    Args:
        reports: of the same sequences.
        score: a key of their scores.

    Returns:
        The comparisons, those of the best tracker first.
    """
    in_order = sorted(reports, key=lambda report: -_number(report.mean[score]))
    pairs = list(combinations(in_order, 2))
    if len(in_order) > EVERY_PAIR:
        pairs = [pair for pair in pairs if pair[0] is in_order[0]]
    compared = [(*pair, *_pair(*pair, score)) for pair in pairs]
    corrected = holm([found.p_value for _, _, found, _ in compared])
    return [
        Comparison(
            better.tracker,
            other.tracker,
            score,
            count,
            found,
            p_value,
            len(pairs),
            found.differs and p_value < 1 - CONFIDENCE,
        )
        for (better, other, found, count), p_value in zip(compared, corrected, strict=True)
    ]


def _pair(first: TrackerReport, second: TrackerReport, score: str) -> tuple[PairedComparison, int]:
    names = list(first.sequences)
    a, b = (np.array([report.sequences[name][score] for name in names]) for report in (first, second))
    weights = np.isfinite(a - b).astype(float)
    if score in FRAME_WEIGHTED:
        weights = weights * [first.weights[name] for name in names]
    return compare_paired(a, b, CONFIDENCE, weights=weights), int((weights > 0).sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: the i-th smallest of m is multiplied by m - i + 1, none is
    below a smaller one's, none above 1.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _number(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def comparison_rows(comparisons: Sequence[Comparison]) -> list[Mapping[str, object]]:
    """Return comparisons as plain objects, for files."""
    return [
        {
            "better": item.better,
            "other": item.other,
            "score": item.score,
            "sequences": item.sequences,
            "difference": item.found.difference,
            "interval": [item.found.low, item.found.high],
            "p_value": item.found.p_value,
            "p_value_corrected": item.p_value,
            "pairs": item.pairs,
            "differs": item.differs,
            "words": item.words(),
        }
        for item in comparisons
    ]
