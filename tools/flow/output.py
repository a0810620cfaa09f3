"""What was measured, as files and as a picture."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flow.designs import DESIGNS
from flow.expected import expected_decades
from flow.measure import Measured, Sizes
from flow.present import (
    MEASURES,
    NORMS,
    agreements,
    at,
    mean_and_deviation,
    places_of,
    statements,
    textbook,
    values_of,
)

COLOURS = {
    "plain": "black",
    "residual": "tab:blue",
    "preact": "tab:cyan",
    "csp": "tab:green",
    "elan": "tab:orange",
    "c2f": "tab:red",
    "vit": "tab:purple",
}


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def rows_of(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return a flat row for each setting; what isn't finite is None."""
    rows = []
    for measured in found:
        row: dict[str, Any] = {**measured.setting._asdict(), "norm": NORMS[measured.setting.norm]}
        for measure in MEASURES:
            mean, spread = mean_and_deviation(values_of(measured, measure))
            row |= {f"{measure}_mean": finite(mean), f"{measure}_deviation": finite(spread)}
        row["input_decades_expected"] = expected_decades(measured.setting)
        rows.append(row)
    return rows


def save_files(found: Sequence[Measured], sizes: Sizes, folder: Path) -> None:
    """Write gradient_flow.csv and gradient_flow.json, the latter with every seed and the comparison."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows_of(found)
    with (folder / "gradient_flow.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row, measured in zip(rows, found, strict=True):
        row |= {measure: [finite(value) for value in values_of(measured, measure)] for measure in MEASURES}
    content = {
        "sizes": sizes._asdict(),
        "textbook": textbook(),
        "settings": rows,
        "agreement": [
            {
                "measure": measure,
                "norm": NORMS[norm],
                "gain": gain,
                "depth": depth,
                "order": list(reversed(one.order)),
                "tau": finite(one.tau),
                "pairs": [[*pair, verdict] for pair, verdict in one.verdicts.items()],
            }
            for measure in MEASURES
            for (norm, gain, depth), one in agreements(found, measure).items()
        ],
        "statements": statements(found),
    }
    (folder / "gradient_flow.json").write_text(json.dumps(content, indent=1) + "\n")


def draw(found: Sequence[Measured], path: Path) -> None:
    """Draw the ratio at the input over depth, a panel for each gain, with norms above and without below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = places_of(found)
    norms, gains, depths = (list(dict.fromkeys(place[i] for place in places)) for i in range(3))
    designs = list(dict.fromkeys(m.setting.design for m in found))
    figure = Figure(figsize=(1.2 + 2.9 * len(gains), 0.9 + 2.9 * len(norms)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(norms), len(gains), squeeze=False, sharex=True)
    for norm, line in zip(norms, panels, strict=True):
        for gain, axes in zip(gains, line, strict=True):
            for name in designs:
                here = [m for place in places for m in at(found, place) if place[:2] == (norm, gain)]
                draw_design([m for m in here if m.setting.design == name], axes)
            show_range(found, (norm, gain), axes)
            axes.axhline(0, color="0.6", lw=0.8, zorder=0)
            axes.set_xscale("log", base=2)
            axes.set_xticks(depths, [str(depth) for depth in depths])
            axes.set_title(f"{'own norms' if norm else 'no norms'}, gain {gain:g}", fontsize=9)
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.25)
        line[0].set_ylabel("gradient at input / output", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("layers", fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    title = f"textbook: {textbook()}"
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(designs),
        fontsize=9,
        title=title,
        frameon=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def draw_design(line: Sequence[Measured], axes: Any) -> None:
    """Draw the mean of one design over depth and its deviation; what overflowed is left out."""
    points = [(m.setting.depth, *mean_and_deviation(values_of(m, "input_decades"))) for m in line]
    points = [point for point in points if math.isfinite(point[1])]
    name = line[0].setting.design
    depths, means, spreads = zip(*points, strict=True) if points else ((), (), ())
    style = {"color": COLOURS[name], "label": name, "ls": "--" if DESIGNS[name].tier is None else "-"}
    width = 3.5 if name == "plain" else 1.4  # others may lie on it
    axes.errorbar(depths, means, spreads, marker="o", ms=3, lw=width, elinewidth=1, capsize=2, **style)


def show_range(found: Sequence[Measured], row: tuple[bool, float], axes: Any) -> None:
    """Choose what a panel shows by the ranked designs: the transformer without norms would flatten them."""
    from matplotlib.ticker import MaxNLocator

    means = [0.0]
    for measured in found:
        mean = mean_and_deviation(values_of(measured, "input_decades"))[0]
        setting = measured.setting
        ranked = DESIGNS[setting.design].tier is not None
        if (setting.norm, setting.gain) == row and ranked and math.isfinite(mean):
            means.append(mean)
    margin = 0.08 * max(max(means) - min(means), 1.0)
    axes.set_ylim(min(means) - margin, max(means) + margin)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"$10^{{{value:g}}}$")
