"""The matrix of gradient norms as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DECADES = 2.0  # that the colours span at least: nearly equal norms look alike


def heatmap_figure(
    norms: Mapping[tuple[str, str], float],
    losses: Sequence[str],
    stages: Sequence[str],
    title: str,
    faults: Mapping[tuple[str, str], str] | None = None,
) -> Any:
    """Draw norms on a logarithmic scale as a matplotlib figure; what is zero or absent stays white.

    The colours span `DECADES` or more. A column that is called as a task is holds the weighted sum of the
    task's terms `<task>/<term>`, whose own columns are unweighted; where there are such, the picture says so.

    Args:
        norms: by (loss, stage of the model).
        losses: columns.
        stages: rows.
        title: above the picture.
        faults: what is wrong where, drawn in red.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    values = np.array([[norms.get((loss, stage), 0.0) for loss in losses] for stage in stages])
    shown = np.log10(np.where(np.isfinite(values) & (values > 0), values, np.nan))
    width = max(2.6 + 0.75 * len(losses), 1.0 + 0.085 * len(title))  # inches; a letter of the title has 0.085
    terms = any("/" in loss for loss in losses)
    height = 1.6 + 0.21 * len(stages) + 0.5 * terms
    figure = Figure(figsize=(max(width, 4.6 * terms), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(shown), aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(losses)), losses, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(stages)), stages, fontsize=8)
    figure.suptitle(title, fontsize=10)
    if terms:
        figure.supxlabel("terms <task>/<term>: unweighted\na task: the weighted sum of its terms", fontsize=7)
    if np.isfinite(shown).any():
        low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
        missing = max(DECADES - (high - low), 0.0) / 2
        image.set_clim(low - missing, high + missing)
        figure.colorbar(image, ax=axes, label="log10 of the norm")
    for row, column in zip(*np.nonzero(np.isfinite(shown)), strict=True):
        low, high = image.get_clim()
        bright = shown[row, column] > low + 0.6 * (high - low)
        if (losses[column], stages[row]) in (faults or {}):
            continue
        axes.text(
            column,
            row,
            short_number(values[row, column]),
            ha="center",
            va="center",
            fontsize=6,
            color="black" if bright else "white",
        )
    for (loss, stage), text in (faults or {}).items():
        column, row = losses.index(loss), stages.index(stage)
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color="#dc2626"))
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color="white", weight="bold")
    return figure


def short_number(value: float) -> str:
    """Return two digits: 25, 0.57, 2.5e-3."""
    rounded = float(f"{value:.1e}")
    if 0.01 <= rounded < 100:
        return f"{rounded:.{max(0, 1 - math.floor(math.log10(rounded)))}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"
