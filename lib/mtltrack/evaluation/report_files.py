"""The scores as files: CSV, JSON, LaTeX, plots and one HTML page, all called `analysis_<benchmark>...`."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtltrack.core.errors import DataError
from mtltrack.evaluation.analysis import Analysis
from mtltrack.evaluation.comparison import comparison_rows
from mtltrack.evaluation.latex import scores_as_latex
from mtltrack.evaluation.plots import draw_plots
from mtltrack.evaluation.report import TrackerReport
from mtltrack.evaluation.report_page import page_of
from mtltrack.evaluation.results import write_bytes, write_text
from mtltrack.evaluation.task_tables import row_name
from mtltrack.metrics.robustness import summarise_failures
from mtltrack.metrics.success import CENTRE_THRESHOLDS, NORMALISED_THRESHOLDS, OVERLAP_THRESHOLDS

KINDS = ("csv", "json", "latex", "plots", "html")


def save(
    analysis: Analysis,
    folder: Path,
    kinds: Collection[str] = KINDS,
    confusions: Mapping[str, Path] | None = None,
) -> list[Path]:
    """Write the scores and return the files.

    * csv: a line for each tracker's mean and for each of its sequences; the means have columns
      `<score>_low` and `<score>_high`, the ends of the interval where there is one; scores of tasks are
      columns `<task>.<score>`, and their other rows (constant answers) are lines of their own. Where
      attributes are known, `..._attributes.csv` has a line for each tracker and attribute.
    * json: the same with rules, notes, mean curves and comparisons of trackers.
    * latex: `.tex`, the tables of means and of attributes.
    * plots: `..._success`, `..._precision`, `..._norm_precision` and, from three attributes on (see
      `draw_plots`), `..._attributes`, each as `.png` and `.pdf`.
    * html: one page with everything.

    Args:
        analysis: the scores.
        folder: where to write.
        kinds: what to write, of `KINDS`.
        confusions: tracker -> picture of the confusion matrix of its scene conditions, for the page.

    Raises:
        DataError: the folder can't be written to.
    """
    plots = {}
    if {"plots", "html"} & set(kinds):
        formats = ("png", "pdf") if "plots" in kinds else ("png",)
        plots = draw_plots(analysis.benchmark, analysis.reports, analysis.attributes, analysis.score, formats)
    writers: dict[str, Callable[[], Iterator[tuple[str, str | bytes]]]] = {
        "csv": lambda: _csv_files(analysis),
        "json": lambda: iter([(".json", as_json(analysis))]),
        "latex": lambda: iter([(".tex", _latex(analysis))]),
        "plots": lambda: (
            (f"_{name}.{kind}", data) for name, files in plots.items() for kind, data in files.items()
        ),
        "html": lambda: iter([(".html", _page(analysis, plots, confusions or {}))]),
    }
    written = []
    for kind in KINDS:
        for ending, content in writers[kind]() if kind in kinds else ():
            path = folder / f"analysis_{analysis.benchmark}{ending}"
            _write(path, content)
            written.append(path)
    return written


def _write(path: Path, content: str | bytes) -> None:
    try:
        if isinstance(content, str):
            write_text(path, content)
        else:
            write_bytes(path, content)
    except OSError as error:
        raise DataError(
            f"can't write '{path}': {error.strerror or error}; --out FOLDER takes the files elsewhere"
        ) from error


def _latex(analysis: Analysis) -> str:
    return scores_as_latex(
        analysis.benchmark, analysis.reports, analysis.score, analysis.intervals, analysis.attributes
    )


def _page(
    analysis: Analysis, plots: Mapping[str, Mapping[str, bytes]], confusions: Mapping[str, Path]
) -> str:
    pictures = {tracker: path.read_bytes() for tracker, path in confusions.items()}
    return page_of(analysis, {name: files["png"] for name, files in plots.items()}, pictures)


def as_json(analysis: Analysis) -> str:
    """Return the scores as JSON; a number that isn't known is null."""
    content = {
        "benchmark": analysis.benchmark,
        "rules": asdict(analysis.rules),
        "notes": list(analysis.notes),
        "trackers": [
            {
                "tracker": report.tracker,
                "mean": report.mean,
                "intervals": {name: list(ends) for name, ends in analysis.intervals[report.tracker].items()},
                "sequences": report.sequences,
                "failures": summarise_failures(list(report.failures.values())),
                "curves": _curves(report),
                "notes": report.notes,
            }
            for report in analysis.reports
        ],
        "comparisons": comparison_rows(analysis.comparisons),
        "attributes": {
            item.name: {"sequences": list(item.sequences), "trackers": item.scores}
            for item in analysis.attributes
        },
        "tasks": {
            task: {
                tracker: {
                    "rows": {row_name(tracker, row): scores for row, scores in found.rows.items()},
                    "sequences": found.sequences,
                }
                for tracker, found in trackers.items()
            }
            for task, trackers in analysis.tasks.items()
        },
        "worst_frames": [asdict(frame) for frame, _ in analysis.worst],
        "thresholds": {
            "success": OVERLAP_THRESHOLDS.tolist(),
            "precision": CENTRE_THRESHOLDS.tolist(),
            "norm_precision": NORMALISED_THRESHOLDS.tolist(),
        },
    }
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def _curves(report: TrackerReport) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in vars(report.curves).items()}


def _csv_files(analysis: Analysis) -> Iterator[tuple[str, str]]:
    yield ".csv", _as_csv(_lines(analysis))
    if analysis.attributes:
        lines = [
            {"tracker": tracker, "attribute": item.name, "sequences": len(item.sequences), **scores}
            for item in analysis.attributes
            for tracker, scores in item.scores.items()
        ]
        yield "_attributes.csv", _as_csv(lines)


def _lines(analysis: Analysis) -> list[dict[str, Any]]:
    """Return the lines of the CSV; what is said of one tracker and sequence stands in one line."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}

    def add(tracker: str, sequence: str, scores: Mapping[str, float], task: str = "") -> None:
        line = lines.setdefault((tracker, sequence), {"tracker": tracker, "sequence": sequence})
        line.update({f"{task}.{name}" if task else name: value for name, value in scores.items()})

    for report in analysis.reports:
        ends = {
            f"{score}_{end}": value
            for score, pair in analysis.intervals[report.tracker].items()
            for end, value in zip(("low", "high"), pair, strict=True)
        }
        for name, scores in [("mean", report.mean | ends), *report.sequences.items()]:
            add(report.tracker, name, scores)
    for task, trackers in analysis.tasks.items():
        for tracker, found in trackers.items():
            for row, scores in found.rows.items():
                add(row_name(tracker, row), "mean", scores, task)
            for name, scores in found.sequences.items():
                add(tracker, name, scores, task)
    return list(lines.values())


def _as_csv(lines: Iterable[dict[str, Any]]) -> str:
    text, lines = io.StringIO(), list(lines)
    writer = csv.DictWriter(
        text, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _finite(value: object) -> object:
    """Replace NaN and infinity by null: JSON has no word for them."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
