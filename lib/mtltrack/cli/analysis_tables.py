"""The tables that `analysis_results.py` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mtltrack.evaluation.report import COLUMNS, TrackerReport
from mtltrack.evaluation.task_scores import TaskScores, row_name
from mtltrack.metrics.classification import ConditionMetrics

MORE_COLUMNS = ("AO", "SR50", "SR75", "FPS")
HEADINGS = {
    "Precision": "Prec.",
    "NormPrecision": "Norm. prec.",
    "balanced_accuracy": "balanced acc.",
    "presence_accuracy": "presence acc.",
    "presence_f1": "presence F1",
    "event_precision": "precision",
    "event_recall": "recall",
    "event_f1": "F1",
    "frame_f1": "frame F1",
    "macro_f1": "macro F1",
    "delay_median": "delay s",
    "delay_p95": "p95 s",
    "false_alarms_per_hour": "false/hour",
}
TITLES = {
    "cls": "scene conditions",
    "seg": "masks",
    "plate": "plates",
    "ocr": "plate texts",
    "alert": "alerts",
}


def _table(title: str, first: str, rows: dict[str, dict[str, float]]) -> Table:
    """Return a table of percentages; only the columns that some row has."""
    columns = [*COLUMNS, *(name for name in MORE_COLUMNS if any(name in row for row in rows.values()))]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first, overflow="fold", min_width=20)
    for column in columns:
        table.add_column(HEADINGS.get(column, column), justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(name, *(_cell(column, row.get(column, math.nan)) for column in columns))
    return table


def _cell(column: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" if column == "FPS" else f"{100 * value:.2f}"


def mean_table(benchmark: str, reports: Sequence[TrackerReport]) -> Table:
    """Return the trackers' scores as a table."""
    sequences = len(reports[0].sequences) if reports else 0
    title = f"{benchmark}, {sequences} sequence{'s' * (sequences != 1)}, percent"
    return _table(title, "tracker", {report.tracker: report.mean for report in reports})


def sequence_table(benchmark: str, report: TrackerReport) -> Table:
    """Return one tracker's scores of each sequence as a table."""
    return _table(f"{benchmark}, {report.tracker}", "sequence", report.sequences)


def task_table(task: str, trackers: Mapping[str, TaskScores], per_sequence: bool = False) -> Table:
    """Return one task's scores as a table: of each tracker, and of the constant answers beside it.

    Args:
        task: its name.
        trackers: tracker -> scores.
        per_sequence: a row for each sequence, too.
    """
    rows = {}
    for tracker, scores in trackers.items():
        rows |= {row_name(tracker, row): values for row, values in scores.rows.items()}
        if per_sequence:
            rows |= {f"{tracker}, {name}": values for name, values in scores.sequences.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table(title=f"{TITLES.get(task, task)} ({task})", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("tracker", overflow="fold", min_width=20)
    for column in columns:
        table.add_column(HEADINGS.get(column, column.replace("_", " ")), justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(name, *(_number(row.get(column, math.nan)) for column in columns))
    return table


def condition_table(tracker: str, metric: ConditionMetrics) -> Table:
    """Return the scores of each scene condition as a table."""
    rows = {row.pop("name"): row for row in metric.per_class()}
    title = f"scene conditions, {tracker}, {metric.count} frames"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("condition")
    columns = list(next(iter(rows.values())))
    for column in columns:
        table.add_column(column, justify="right")
    for condition, row in rows.items():
        table.add_row(condition, *(_number(row[column]) for column in columns))
    return table


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.3f}"
