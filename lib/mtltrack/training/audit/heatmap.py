"""The matrix of gradient norms as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def heatmap_figure(
    norms: Mapping[tuple[str, str], float],
    losses: Sequence[str],
    stages: Sequence[str],
    title: str,
    faults: Mapping[tuple[str, str], str] | None = None,
) -> Any:
    """Draw norms on a logarithmic scale as a matplotlib figure; what is zero or absent stays white.

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
    figure = Figure(figsize=(2.6 + 0.75 * len(losses), 1.6 + 0.21 * len(stages)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(shown), aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(losses)), losses, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(stages)), stages, fontsize=8)
    axes.set_title(title, fontsize=10)
    if np.isfinite(shown).any():
        figure.colorbar(image, ax=axes, label="log10 of the norm")
    for row, column in zip(*np.nonzero(np.isfinite(shown)), strict=True):
        low, high = image.get_clim()
        bright = shown[row, column] > low + 0.6 * (high - low)
        if (losses[column], stages[row]) in (faults or {}):
            continue
        axes.text(
            column,
            row,
            f"{values[row, column]:.0e}".replace("e-0", "e-").replace("e+0", "e"),
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
