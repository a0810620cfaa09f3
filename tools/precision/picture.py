"""The differences of scores as a picture: one row a score, a bar for what seeds make, a mark for each run."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from mtltrack.evaluation.plots import PALETTE
from precision.findings import Finding, score_name

MARKS = "osD^v"
SEEDS = "#d7dce1"


def draw(findings: Sequence[Finding]) -> bytes:
    """Return a PNG with one panel a data set: differences from the reference in percent."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [max(len(finding.scores[finding.reference]), 1) for finding in findings]
    figure = Figure(figsize=(7.0, 1.4 * len(rows) + 0.3 * sum(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
    for axis, finding in zip(axes, findings, strict=True):
        reference = finding.scores[finding.reference]
        names = [name for name, value in reference.items() if not math.isnan(value)]
        for place, name in enumerate(names):
            values = [
                value - reference[name] for value in finding.seeds.get(name, []) if not math.isnan(value)
            ]
            if len(values) > 1:
                label = "seeds" if place == 0 else None
                left, width = 100 * min(values), 100 * (max(values) - min(values))
                axis.barh(place, width, left=left, height=0.7, color=SEEDS, label=label, zorder=1)
        others = [run for run in finding.scores if run != finding.reference]
        for number, run in enumerate(others):
            found = [100 * (finding.scores[run].get(name, math.nan) - reference[name]) for name in names]
            style = {"color": PALETTE[number % len(PALETTE)], "marker": MARKS[number % len(MARKS)]}
            axis.plot(found, range(len(names)), linestyle="", label=run, zorder=2, **style)
        axis.axvline(0, color="black", linewidth=0.8, zorder=0)
        axis.set_yticks(range(len(names)), [score_name(name) for name in names])
        axis.invert_yaxis()
        axis.set_title(
            f"{finding.name}: difference from {finding.reference}, percent", loc="left", fontsize=11
        )
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8, loc="best")
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()
