"""Scores over the sequences that share an attribute, such as occlusion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mtltrack.evaluation.report import TrackerReport, Truth


@dataclass(frozen=True)
class AttributeScores:
    """One attribute.

    Attributes:
        name: as the benchmark calls it.
        sequences: that have it.
        scores: tracker -> score -> mean over these sequences, each with the same weight.
    """

    name: str
    sequences: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]]


def score_attributes(truths: Iterable[Truth], reports: Sequence[TrackerReport]) -> list[AttributeScores]:
    """Return the scores of each attribute that a scored sequence has, by name.

    AO, SR50 and SR75 are means over sequences here, not over frames. A score that isn't defined on a sequence
    (mIoU without a target) leaves it out.
    """
    scored = set(reports[0].sequences)
    members: dict[str, list[str]] = {}
    for truth in truths:
        for attribute in truth.attributes if truth.name in scored else ():
            members.setdefault(attribute, []).append(truth.name)
    return [
        AttributeScores(
            name, tuple(members[name]), {report.tracker: _means(report, members[name]) for report in reports}
        )
        for name in sorted(members)
    ]


def _means(report: TrackerReport, names: Sequence[str]) -> dict[str, float]:
    rows = [report.sequences[name] for name in names]
    found = {}
    for score in rows[0]:
        values = [row[score] for row in rows if not math.isnan(row[score])]
        found[score] = sum(values) / len(values) if values else math.nan
    return found
