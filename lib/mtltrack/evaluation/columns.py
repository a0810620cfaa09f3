"""What the columns of score tables are called, and how numbers are written: for terminal, LaTeX and HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

COLUMNS = ("AUC", "OP50", "OP75", "Precision", "NormPrecision", "mIoU")
WIDE_COLUMNS = ("NormPrecisionAUC",)
MORE_COLUMNS = ("AO", "SR50", "SR75", "TNSuccess", "TNPrecision", "TNNormPrecision", "FPS")
HEADINGS = {
    "Precision": "Prec.",
    "NormPrecision": "Norm. prec.",
    "NormPrecisionAUC": "Norm. prec. AUC",
    "TNSuccess": "TN success",
    "TNPrecision": "TN prec.",
    "TNNormPrecision": "TN norm. prec.",
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


def score_columns(rows: Iterable[Mapping[str, float]], *, wide: bool = False) -> list[str]:
    """Return the columns of a table of scores: those that every table has, and others that some row knows.

    Args:
        rows: score -> value, of each row.
        wide: there is room for `WIDE_COLUMNS` as well.
    """
    rows = list(rows)
    known = {name for row in rows for name, value in row.items() if not math.isnan(value)}
    more = (*(WIDE_COLUMNS if wide else ()), *MORE_COLUMNS)
    return [*COLUMNS, *(name for name in more if name in known)]


def heading(column: str) -> str:
    """Return what a column is called."""
    return HEADINGS.get(column, column.replace("_", " "))


def score_text(column: str, value: float) -> str:
    """Return a score in percent, FPS as it is, `-` where it isn't known."""
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" if column == "FPS" else f"{100 * value:.2f}"


def task_text(value: float) -> str:
    """Return a task's score: a share or seconds with three digits, a count as it is."""
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.3f}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return an interval in percent."""
    return "-" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
