"""The scores as files: CSV for tables, JSON with the rules by which they were made."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtltrack.evaluation.report import Rules, TrackerReport
from mtltrack.evaluation.results import write_text
from mtltrack.evaluation.task_scores import TaskScores, row_name

TaskTables = Mapping[str, Mapping[str, TaskScores]]
"""task -> tracker -> scores of what its head said."""


def save(
    reports: Iterable[TrackerReport],
    benchmark: str,
    rules: Rules,
    folder: Path,
    tasks: TaskTables | None = None,
) -> tuple[Path, Path]:
    """Write the scores as `analysis_<benchmark>.csv` and `.json`; return both paths.

    The CSV has a line for each tracker's mean and for each of its sequences; scores of tasks are columns
    `<task>.<score>` of these lines, and their other rows (constant answers) are lines of their own.

    Args:
        reports: scores of the boxes.
        benchmark: name of the data.
        rules: how they were scored.
        folder: where to write.
        tasks: scores of the tasks.
    """
    reports, tasks = list(reports), tasks or {}
    content = {
        "benchmark": benchmark,
        "rules": asdict(rules),
        "trackers": [asdict(item) for item in reports],
        "tasks": {
            task: {
                tracker: {
                    "rows": {row_name(tracker, row): scores for row, scores in found.rows.items()},
                    "sequences": found.sequences,
                }
                for tracker, found in trackers.items()
            }
            for task, trackers in tasks.items()
        },
    }
    table, data = (folder / f"analysis_{benchmark}.{suffix}" for suffix in ("csv", "json"))
    write_text(table, _as_csv(_lines(reports, tasks)))
    write_text(data, json.dumps(_no_nan(content), indent=2, allow_nan=False) + "\n")
    return table, data


def _lines(reports: list[TrackerReport], tasks: TaskTables) -> list[dict[str, Any]]:
    """Return the lines of the CSV; what is said of one tracker and sequence stands in one line."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}

    def add(tracker: str, sequence: str, scores: Mapping[str, float], task: str = "") -> None:
        line = lines.setdefault((tracker, sequence), {"tracker": tracker, "sequence": sequence})
        line.update({f"{task}.{name}" if task else name: value for name, value in scores.items()})

    for report in reports:
        for name, scores in [("mean", report.mean), *report.sequences.items()]:
            add(report.tracker, name, scores)
    for task, trackers in tasks.items():
        for tracker, found in trackers.items():
            for row, scores in found.rows.items():
                add(row_name(tracker, row), "mean", scores, task)
            for name, scores in found.sequences.items():
                add(tracker, name, scores, task)
    return list(lines.values())


def _as_csv(lines: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _no_nan(value: object) -> object:
    """Replace NaN by null: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _no_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_no_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
