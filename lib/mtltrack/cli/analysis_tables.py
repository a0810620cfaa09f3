"""The tables that `analysis_results.py` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mtltrack.evaluation.attributes import AttributeScores
from mtltrack.evaluation.columns import TITLES, heading, interval_text, score_columns, score_text, task_text
from mtltrack.evaluation.comparison import CONFIDENCE, Intervals
from mtltrack.evaluation.report import Scores, TrackerReport
from mtltrack.evaluation.task_tables import TaskScores, row_name

if TYPE_CHECKING:
    from mtltrack.metrics.classification import ConditionMetrics


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, overflow="fold", min_width=12)
    return table


def _score_table(
    title: str, first: str, rows: Mapping[str, Scores], more: Mapping[str, Mapping[str, str]] | None = None
) -> Table:
    """Return a table of percentages with the columns that some row has, and those of `more` behind them."""
    columns, table = score_columns(rows.values()), _table(title, first)
    for column in [*(heading(name).replace(" ", "\n") for name in columns), *(more or {})]:
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in rows.items():
        cells = [score_text(column, row.get(column, math.nan)) for column in columns]
        table.add_row(name, *cells, *(texts[name] for texts in (more or {}).values()))
    return table


def mean_table(
    benchmark: str, reports: Sequence[TrackerReport], score: str, intervals: Mapping[str, Intervals]
) -> Table:
    """Return the trackers' scores as a table, with the interval of the score that they are compared by."""
    sequences = len(reports[0].sequences) if reports else 0
    title = f"{benchmark}, {sequences} sequence{'s' * (sequences != 1)}, percent"
    ends = {report.tracker: interval_text(intervals[report.tracker].get(score)) for report in reports}
    rows = {report.tracker: report.mean for report in reports}
    return _score_table(title, "tracker", rows, {f"{score}, {100 * CONFIDENCE:.0f} %": ends})


def sequence_table(benchmark: str, report: TrackerReport) -> Table:
    """Return one tracker's scores of each sequence as a table."""
    return _score_table(f"{benchmark}, {report.tracker}", "sequence", report.sequences)


def attribute_table(attributes: Sequence[AttributeScores], score: str) -> Table:
    """Return a score of each attribute as a table, a column a tracker."""
    table = _table(f"{score} by attribute, percent", "attribute")
    table.add_column("sequences", justify="right")
    for tracker in attributes[0].scores:
        table.add_column(tracker, justify="right", overflow="fold")
    for item in attributes:
        cells = [score_text(score, row[score]) for row in item.scores.values()]
        table.add_row(item.name, str(len(item.sequences)), *cells)
    return table


def task_table(task: str, trackers: Mapping[str, TaskScores], per_sequence: bool = False) -> Table:
    """Return one task's scores as a table: of each tracker, and of the constant answers beside it.

    Args:
        task: its name.
        trackers: tracker -> scores.
        per_sequence: a row for each sequence, too.
    """
    rows: dict[str, Scores] = {}
    for tracker, scores in trackers.items():
        rows |= {row_name(tracker, row): values for row, values in scores.rows.items()}
        if per_sequence:
            rows |= {f"{tracker}, {name}": values for name, values in scores.sequences.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = _table(f"{TITLES.get(task, task)} ({task})", "tracker")
    for column in columns:
        table.add_column(heading(column), justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(name, *(task_text(row.get(column, math.nan)) for column in columns))
    return table


def condition_table(tracker: str, metric: ConditionMetrics) -> Table:
    """Return the scores of each scene condition as a table."""
    rows = {row.pop("name"): row for row in metric.per_class()}
    table = Table(
        title=f"scene conditions, {tracker}, {metric.count} frames", title_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("condition")
    columns = list(next(iter(rows.values())))
    for column in columns:
        table.add_column(column, justify="right")
    for condition, row in rows.items():
        table.add_row(condition, *(task_text(row[column]) for column in columns))
    return table
