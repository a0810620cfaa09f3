"""The differences of scores as a picture: one row a score, a bar for what seeds make, a mark for each run."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from mtltrack.evaluation.plots import PALETTE
from precision.findings import Finding, score_name

MARKS = "osD^v"
SEEDS, STARTS = "#e4e8ec", "#b4bcc6"


def _ranges(finding: Finding, score: str) -> list[tuple[list[float], str, dict[str, Any]]]:
    """Return the values that chance makes of a score, what they are called and how their bar looks."""
    starts = finding.starts.get(finding.reference, {}).get(score, [])
    return [
        (finding.seeds.get(score, []), "seeds", {"height": 0.8, "color": SEEDS}),
        (starts, f"{finding.reference}, other first boxes", {"height": 0.4, "color": STARTS}),
    ]


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
            for values, what, style in _ranges(finding, name):
                known = [100 * (value - reference[name]) for value in values if not math.isnan(value)]
                if len(known) > 1:
                    axis.barh(
                        place,
                        max(known) - min(known),
                        left=min(known),
                        label=what if place == 0 else None,
                        zorder=1,
                        **style,
                    )
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
