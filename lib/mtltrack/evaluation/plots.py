"""Plots of scores: success and precision curves, scores by attribute as a radar.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which people with defective colour vision
can tell apart; where they come round again, the lines are dashed, so that no two trackers look alike.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtltrack.evaluation.attributes import AttributeScores
from mtltrack.evaluation.columns import heading
from mtltrack.evaluation.comparison import ranked
from mtltrack.evaluation.report import BASELINE, TrackerReport
from mtltrack.metrics.success import CENTRE_THRESHOLDS, NORMALISED_THRESHOLDS, OVERLAP_THRESHOLDS

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STROKES = ("-", "--", "-.", ":")
INSIDE = 8  # trackers that the legend has room for inside of the axes
_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#d7dce1",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9.5,
    "legend.framealpha": 0.85,
    "pdf.fonttype": 42,  # letters stay letters
    "figure.dpi": 110,
}
CURVES = {
    "success": ("Success", "overlap threshold", "frames above it, %", OVERLAP_THRESHOLDS, "AUC"),
    "precision": (
        "Precision",
        "centre error, pixels",
        "frames within it, %",
        CENTRE_THRESHOLDS,
        "Precision",
    ),
    "norm_precision": (
        "Normalised precision",
        "centre error, sizes of the true box",
        "frames within it, %",
        NORMALISED_THRESHOLDS,
        "NormPrecision",
    ),
}
"""Curve -> title, what is on the axes, thresholds, the score in the legend."""
FOUND_AT = {"precision": 20.0, "norm_precision": 0.2}  # where the curve is read


def line_styles(trackers: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return tracker -> colour and stroke; the same in every plot of a report."""
    return {
        name: (PALETTE[i % len(PALETTE)], STROKES[i // len(PALETTE) % len(STROKES)])
        for i, name in enumerate(trackers)
    }


def plot_curve(kind: str, benchmark: str, reports: Sequence[TrackerReport]) -> Any:
    """Draw a mean curve of each tracker as a matplotlib figure, the legend sorted by score.

    Args:
        kind: a key of `CURVES`.
        benchmark: name of the data.
        reports: of the trackers.
    """
    title, below, left, thresholds, score = CURVES[kind]
    styles = line_styles([report.tracker for report in reports])
    many = len(reports) > INSIDE
    figure = _figure((8.6 if many else 6.0, 4.5))
    axes = figure.subplots()
    for report in ranked(reports, score):
        colour, stroke = styles[report.tracker]
        label = f"{100 * report.mean[score]:.1f}  {report.tracker}"
        values = 100 * getattr(report.curves, kind)
        axes.plot(thresholds, values, color=colour, linestyle=stroke, linewidth=1.8, label=label)
    if kind in FOUND_AT:
        axes.axvline(FOUND_AT[kind], color="#6b7680", linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set(xlabel=below, ylabel=left, xlim=(thresholds[0], thresholds[-1]), ylim=(0, 100))
    count = len(reports[0].sequences)
    axes.set_title(f"{title}, {benchmark} ({count} sequence{'s' * (count != 1)})", loc="left")
    read = f" at {FOUND_AT[kind]:g}" if kind in FOUND_AT else ""
    place: dict[str, Any] = {"loc": "best"}  # where it hides the least of the curves
    if many:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    axes.legend(title=f"{heading(score)}{read}, %", **place)
    return figure


def plot_radar(attributes: Sequence[AttributeScores], score: str, benchmark: str) -> Any:
    """Draw a score of each attribute as a radar, one ring a tracker; the radius, percent, begins at 0.

    Args:
        attributes: at least three.
        score: a key of their scores.
        benchmark: name of the data.
    """
    trackers = list(attributes[0].scores)
    styles = line_styles(trackers)
    angles = np.linspace(0, 2 * np.pi, len(attributes), endpoint=False)
    figure = _figure((7.0, 5.6), constrained=False)
    axes = figure.add_subplot(projection="polar")
    axes.spines["polar"].set_color("#9aa5b1")
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    for tracker in sorted(trackers, key=lambda name: (name == BASELINE, -_mean(attributes, name, score))):
        values = np.array([100 * item.scores[tracker][score] for item in attributes])
        colour, stroke = styles[tracker]
        label = f"{100 * _mean(attributes, tracker, score):.1f}  {tracker}"
        closed = np.append(angles, angles[0]), np.append(values, values[0])
        axes.plot(*closed, color=colour, linestyle=stroke, linewidth=1.8, label=label)
        if len(trackers) == 1:  # several areas would mix into a colour that is nobody's
            axes.fill(*closed, color=colour, alpha=0.06)
    highest = max(100 * item.scores[name][score] for item in attributes for name in trackers)
    axes.set_ylim(0, min(100.0, 10 * np.ceil(highest / 10 + 1e-9)) if highest > 0 else 100.0)
    axes.set_xticks(angles, [f"{_folded(item.name)} ({len(item.sequences)})" for item in attributes])
    for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
        side = np.sin(angle)
        label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    axes.tick_params(axis="x", pad=4)
    axes.set_rlabel_position(180 / len(attributes))
    axes.tick_params(axis="y", labelsize=8, labelcolor="#52606d")
    axes.set_title(f"{heading(score)} by attribute, {benchmark}, percent", loc="left", pad=30)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.28, 1.05), borderaxespad=0.0, title="mean of attributes, %"
    )
    return figure


def _mean(attributes: Sequence[AttributeScores], tracker: str, score: str) -> float:
    return float(np.nanmean([item.scores[tracker][score] for item in attributes]))


def _folded(name: str) -> str:
    """Break a long name at its middle blank."""
    words = name.split()
    if len(name) <= 14 or len(words) < 2:
        return name
    cut = min(range(1, len(words)), key=lambda i: abs(len(" ".join(words[:i])) - len(name) / 2))
    return " ".join(words[:cut]) + "\n" + " ".join(words[cut:])


def _figure(size: tuple[float, float], *, constrained: bool = True) -> Any:
    """Return an empty figure that no window and no global state knows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def draw_plots(
    benchmark: str,
    reports: Sequence[TrackerReport],
    attributes: Sequence[AttributeScores],
    score: str,
    formats: Sequence[str] = ("png", "pdf"),
) -> dict[str, dict[str, bytes]]:
    """Return plot -> format -> content of the file, of the curves and, from three attributes on, the radar,
    unless all of them are those of one sequence.

    Args:
        benchmark: name of the data.
        reports: of the trackers.
        attributes: scores by attribute, may be empty.
        score: that the radar shows.
        formats: of the files.
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        figures = {kind: plot_curve(kind, benchmark, reports) for kind in CURVES}
        if len(attributes) >= 3 and len({name for item in attributes for name in item.sequences}) > 1:
            figures["attributes"] = plot_radar(attributes, score, benchmark)
        return {name: {kind: _rendered(figure, kind) for kind in formats} for name, figure in figures.items()}


def _rendered(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    tight = None if figure.get_layout_engine() else "tight"  # labels around a radar need room
    undated = {"CreationDate": None} if kind == "pdf" else None
    figure.savefig(buffer, format=kind, bbox_inches=tight, metadata=undated)
    return buffer.getvalue()
