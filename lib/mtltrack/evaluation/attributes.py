"""Scores over the sequences that share an attribute, such as occlusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mtltrack.evaluation.report import FRAME_WEIGHTED, TrackerReport, Truth
from mtltrack.metrics import attributes as metrics


@dataclass(frozen=True)
class AttributeScores:
    """One attribute.

    Attributes:
        name: as the benchmark calls it.
        sequences: that have it.
        scores: tracker -> score -> mean over these sequences.
    """

    name: str
    sequences: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]]


def score_attributes(truths: Iterable[Truth], reports: Sequence[TrackerReport]) -> list[AttributeScores]:
    """Return the scores of each attribute that a scored sequence has, by name; what a mean is, is as in
    `TrackerReport.mean`.
    """
    names = list(reports[0].sequences)
    attributes = {truth.name: truth.attributes for truth in truths}
    of_each = [attributes[name] for name in names]
    found = {report.tracker: _scores(report, names, of_each) for report in reports}
    return [
        AttributeScores(
            attribute,
            tuple(name for name in names if attribute in attributes[name]),
            {tracker: scores[attribute] for tracker, scores in found.items()},
        )
        for attribute in sorted(set().union(*of_each))
    ]


def _scores(
    report: TrackerReport, names: Sequence[str], attributes: Sequence[frozenset[str]]
) -> dict[str, dict[str, float]]:
    """Return attribute -> score -> mean."""
    found: dict[str, dict[str, float]] = {}
    by_frame = [report.weights[name] for name in names] if report.weights else None
    for weights in (None, by_frame):
        columns = {
            score: [report.sequences[name][score] for name in names]
            for score in report.sequences[names[0]]
            if (score in FRAME_WEIGHTED) == (weights is not None)
        }
        for attribute, means in metrics.score_attributes(attributes, columns, weights).items():
            found.setdefault(attribute, {}).update(means.scores)
    return found
