"""Whether measurements rank designs as textbooks do.

A design's score is the distance of its gradient ratio from 1, in decades, whichever way: a gradient that has
grown a thousandfold is as far from kept as one that has shrunk so. Less is better.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import torch
from torchmetrics.functional import kendall_rank_corrcoef

AGREES, UNDECIDED, CONTRADICTS = "agrees", "undecided", "contradicts"
DEVIATIONS = 2.0  # how many standard errors two scores must be apart


class Score(NamedTuple):
    """Mean over seeds of |log10 of the gradient ratio|, and its standard error."""

    mean: float
    error: float


def score_of(decades: Sequence[float]) -> Score:
    """Return the score of a ratio's decades, one a seed (two at least)."""
    distances = [abs(value) for value in decades]
    if not all(math.isfinite(distance) for distance in distances):
        return Score(math.inf, 0.0)
    return Score(statistics.fmean(distances), statistics.stdev(distances) / math.sqrt(len(distances)))


def compare(better: Score, worse: Score) -> str:
    """Say whether the scores of a pair are in the order of the textbook ranking."""
    if better.mean == worse.mean:  # both may be infinite
        return UNDECIDED
    margin = DEVIATIONS * math.hypot(better.error, worse.error)
    if abs(worse.mean - better.mean) <= margin:
        return UNDECIDED
    return AGREES if better.mean < worse.mean else CONTRADICTS


def ranked_pairs(tiers: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return the pairs (better, worse) that a ranking orders; larger tiers are better."""
    pairs = [(a, b) for a, b in permutations(tiers, 2) if tiers[a] > tiers[b]]
    return sorted(pairs, key=lambda pair: (tiers[pair[1]], tiers[pair[0]]))


class Agreement(NamedTuple):
    """How scores of one setting compare with the textbook ranking.

    Attributes:
        order: designs, the best score first.
        verdicts: of each pair (better, worse).
        tau: Kendall's tau-b of tiers and scores: 1 the same order, -1 the opposite one, nan where scores are
            all equal.
    """

    order: list[str]
    verdicts: dict[tuple[str, str], str]
    tau: float


def agreement(scores: Mapping[str, Score], tiers: Mapping[str, int]) -> Agreement:
    """Compare scores with a ranking, over the designs that both know."""
    known = {name: tier for name, tier in tiers.items() if name in scores}
    verdicts = {pair: compare(scores[pair[0]], scores[pair[1]]) for pair in ranked_pairs(known)}
    order = sorted(known, key=lambda name: scores[name].mean)
    return Agreement(order, verdicts, rank_correlation(known, scores))


def rank_correlation(tiers: Mapping[str, int], scores: Mapping[str, Score]) -> float:
    """Return Kendall's tau-b of tiers and closeness; nan where either has one value only."""
    means = [scores[name].mean for name in tiers]
    if len(set(means)) < 2 or len(set(tiers.values())) < 2:
        return math.nan
    places = [-sorted(set(means)).index(mean) for mean in means]  # ranks: means may be infinite
    tau = kendall_rank_corrcoef(
        torch.tensor(places, dtype=torch.float64),
        torch.tensor(list(tiers.values()), dtype=torch.float64),
        variant="b",
    )
    return float(tau)


def total(agreements: Iterable[Agreement], pairs: Container[tuple[str, str]] | None = None) -> Counter[str]:
    """Add up the verdicts of several settings, on certain pairs or on all."""
    return Counter(
        verdict
        for found in agreements
        for pair, verdict in found.verdicts.items()
        if pairs is None or pair in pairs
    )


def word_for(counts: Mapping[str, int]) -> str:
    """Say in a word or two what verdicts on a claim come to."""
    agreeing, against = counts.get(AGREES, 0), counts.get(CONTRADICTS, 0)
    if 2 * (agreeing + against) < sum(counts.values()):
        return "is mostly undecided"
    if agreeing and against:
        return "holds in part"
    return "holds" if agreeing else "fails"


def sentence(claim: str, overall: Mapping[str, int], deepest: Mapping[str, int], depth: int) -> str:
    """Say in words how often a claim agrees, over all depths and at the largest."""
    found, below = (
        f"{word_for(verdicts)} ({verdicts.get(AGREES, 0)} of {sum(verdicts.values())} agree, "
        f"{verdicts.get(CONTRADICTS, 0)} contradict)"
        for verdicts in (overall, deepest)
    )
    return f"{claim}: {found}; at {depth} layers {below}"
