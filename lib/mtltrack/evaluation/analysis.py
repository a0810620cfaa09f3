"""Everything that is said about some trackers' results on one benchmark, in one place for all outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mtltrack.evaluation.attributes import AttributeScores, score_attributes
from mtltrack.evaluation.comparison import (
    FEWEST,
    Comparison,
    Intervals,
    compare,
    headline,
    intervals_of,
    ranked,
)
from mtltrack.evaluation.report import Results, Rules, TrackerReport, Truth, evaluate
from mtltrack.evaluation.task_tables import TaskTables
from mtltrack.evaluation.worst_frames import WorstFrame, all_worst, draw_worst

MOST_PICTURES = 24  # in a page, of all trackers together


@dataclass
class Analysis:
    """All that is known of some trackers' results on one benchmark.

    Attributes:
        benchmark: name of the data.
        rules: how it was scored.
        reports: of the trackers, the best first, the baseline last.
        score: by which they are ranked and compared.
        intervals: tracker -> score -> ends of its interval; none of fewer sequences than `FEWEST`.
        comparisons: of pairs of trackers.
        attributes: scores by attribute, may be empty.
        tasks: scores of what other heads said.
        worst: the worst frames, each with its picture as JPEG, or None without an image.
        notes: what the reader should know.
    """

    benchmark: str
    rules: Rules
    reports: Sequence[TrackerReport]
    score: str
    intervals: Mapping[str, Intervals]
    comparisons: Sequence[Comparison]
    attributes: Sequence[AttributeScores] = ()
    tasks: TaskTables = field(default_factory=dict)
    worst: Sequence[tuple[WorstFrame, bytes | None]] = ()
    notes: Sequence[str] = ()


def analyse(
    benchmark: str,
    truths: Sequence[Truth],
    trackers: Mapping[str, Results],
    rules: Rules,
    *,
    baseline: bool = False,
    notes: Sequence[str] = (),
) -> Analysis:
    """Score trackers, and say how far the scores can be trusted.

    Args:
        benchmark: name of the data.
        truths: the ground truth.
        trackers: name -> results.
        rules: how to score.
        baseline: with a tracker that never moves the first box.
        notes: what the reader should know already.

    Raises:
        DataError: see `mtltrack.evaluation.report.evaluate`.
    """
    reports = evaluate(truths, trackers, rules, baseline=baseline)
    score = headline(reports)
    reports = ranked(reports, score)
    said = [*notes, *(note for report in reports for note in report.notes)]
    count = len(reports[0].sequences)
    if count < FEWEST:
        said.append(f"no intervals: they need at least {FEWEST} sequences, fewer say too little of others")
    return Analysis(
        benchmark,
        rules,
        reports,
        score,
        {report.tracker: intervals_of(report) if count >= FEWEST else {} for report in reports},
        compare(reports, score),
        score_attributes(truths, reports),
        notes=list(dict.fromkeys(said)),
    )


def show_worst(
    analysis: Analysis, truths: Sequence[Truth], trackers: Mapping[str, Results], each: int
) -> None:
    """Find the worst frames of an analysis and draw them, at most `MOST_PICTURES` unless more trackers have
    one each.

    Args:
        analysis: is completed.
        truths: the ground truth.
        trackers: name -> results.
        each: frames of each tracker.
    """
    known = {truth.name: truth for truth in truths}
    share = min(each, max(1, MOST_PICTURES // max(len(trackers), 1)))
    frames = all_worst(analysis.reports, truths, trackers, analysis.rules, share)
    analysis.worst = [(frame, draw_worst(frame, known[frame.sequence])) for frame in frames]
