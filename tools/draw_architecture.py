"""Draw docs/architecture.png: the rooms, who may import whom, and the way of a batch through them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

TARGET = Path(__file__).resolve().parents[1] / "docs" / "architecture.png"
INK, SOFT, GRADIENT = "#1f2933", "#66727f", "#c2410c"
COLOURS = {
    "core": "#e5e7eb",
    "losses": "#fde2d0",
    "metrics": "#fdf0c4",
    "data": "#d6ecd9",
    "models": "#d5e4f7",
    "tasks": "#e3dcf5",
    "evaluation": "#fdf0c4",
    "training": "#fde2d0",
    "cli": "#e5e7eb",
}
# room, what it holds, left, bottom, width, height; in hundredths of the picture's height
ROOMS = (
    ("cli", "the commands; builds a tracker from a YAML", 3, 82.5, 52, 9),
    ("training", "trainer, stages, weighting,\ncheckpoints, monitors", 3, 69.5, 52, 11),
    ("evaluation", "the frame loop, benchmarks,\nresult files, reports", 3, 56.5, 52, 11),
    ("tasks", "heads: box, cls, seg, plate, ocr, alert; losses, decoding, metrics", 3, 43.5, 52, 11),
    ("losses", "pure tensor\nfunctions", 3, 23.5, 11.5, 18),
    ("metrics", "pure\nfunctions", 16.5, 23.5, 11.5, 18),
    ("data", "data sets,\nsampler,\ncrops", 30, 23.5, 11.5, 18),
    ("models", "backbones,\nhistory,\ntask graph", 43.5, 23.5, 11.5, 18),
    ("core", "registries, typed configuration, Clip, Tokens, TaskOutput, errors", 3, 10.5, 52, 11),
)


HEADS = (
    ("box", "centre, corner"),
    ("cls", "10 conditions"),
    ("seg", "mask"),
    ("plate", "box"),
    ("ocr", "text"),
    ("alert", "stop rule"),
)

Place = tuple[float, float, float, float]  # left, bottom, width, height
Point = tuple[float, float]


def box(axes: Axes, place: Place, colour: str, edge: str = "white") -> None:
    left, bottom, width, height = place
    style = "round,pad=0,rounding_size=1.4"
    shape = FancyBboxPatch((left, bottom), width, height, boxstyle=style, fc=colour, ec=edge, lw=1.4)
    axes.add_patch(shape)


def room(axes: Axes, name: str, holds: str, place: Place) -> None:
    left, bottom, width, height = place
    box(axes, place, COLOURS[name])
    middle = left + width / 2
    axes.text(
        middle, bottom + height - 2.4, name, ha="center", va="center", weight="bold", size=12, color=INK
    )
    lower = bottom + (height - 4) / 2
    axes.text(middle, lower, holds, ha="center", va="center", size=9, color=SOFT, linespacing=1.25)


def part(
    axes: Axes,
    x: float,
    y: float,
    title: str,
    note: str,
    colour: str,
    width: float = 21,
    height: float = 10.5,
) -> None:
    """Draw a step of the batch's way, centred at (x, y)."""
    box(axes, (x - width / 2, y - height / 2, width, height), colour)
    axes.text(x, y + 1.9, title, ha="center", va="center", size=11, weight="bold", color=INK)
    axes.text(x, y - 1.9, note, ha="center", va="center", size=8.5, color=SOFT, linespacing=1.2)


def arrow(axes: Axes, start: Point, stop: Point, text: str = "", colour: str = INK) -> None:
    style = "-|>,head_width=3,head_length=5"
    line = FancyArrowPatch(start, stop, arrowstyle=style, color=colour, lw=1.5, shrinkA=0, shrinkB=0)
    axes.add_patch(line)
    if text:
        x, y = (start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2
        axes.text(x, y, text, ha="center", va="center", size=8.5, color=colour, style="italic",
                  bbox={"fc": "white", "ec": "none", "pad": 1.5})  # fmt: skip


def draw_rooms(axes: Axes) -> None:
    axes.text(3, 95.5, "Rooms", size=16, weight="bold", color=INK, va="center")
    axes.text(55, 95.5, "a room imports only rooms below it", size=10, color=SOFT, va="center", ha="right")
    for name, holds, *place in ROOMS:
        room(axes, name, holds, (place[0], place[1], place[2], place[3]))
    note = (
        "losses, metrics, data and models know only core; tasks doesn't know data;\n"
        "evaluation gets the model as an argument"
    )
    axes.text(29, 5.5, note, ha="center", va="center", size=9, color=SOFT, linespacing=1.4)


def draw_way(axes: Axes) -> None:
    left, right = 76.0, 130.0
    axes.text(63, 95.5, "The way of a batch", size=16, weight="bold", color=INK, va="center")
    part(axes, left, 85, "data sets", "folders, LMDB, rendered", COLOURS["data"])
    part(
        axes, right, 85, "sampler, crops, jitter", "(seed, epoch, index) -> sample", COLOURS["data"], width=27
    )
    arrow(axes, (86.5, 85), (116.5, 85), "frames, boxes, labels")
    part(
        axes,
        right,
        66,
        "backbone",
        "template and search together,\none-stream ViT",
        COLOURS["models"],
        27,
        12,
    )
    arrow(axes, (right, 79.7), (right, 72), "Clip")
    part(axes, left, 66, "history", "prompts from earlier frames,\nor none", COLOURS["models"], 23, 12)
    arrow(axes, (116.5, 66), (87.5, 66), "search tokens")
    draw_heads(axes)
    arrow(axes, (left, 60), (left, 53.5), "Tokens")
    part(
        axes,
        left,
        24,
        "loss terms",
        "per sample and frame,\nmasked by valid labels",
        COLOURS["losses"],
        23,
        12,
    )
    arrow(axes, (left, 36.5), (left, 30), "TaskOutput")
    part(axes, right, 24, "decode", "boxes, conditions, ...", COLOURS["evaluation"], 23, 12)
    arrow(axes, (right, 36.5), (right, 30), "TaskOutput")
    part(
        axes,
        left,
        8,
        r"$L = L_{box} + \sum\,\lambda_k L_k$",
        "one gradient for all tasks",
        COLOURS["training"],
        25,
    )
    arrow(axes, (left, 18), (left, 13.3))
    part(
        axes,
        right,
        8,
        "metrics, result files, video",
        "success, precision, per-class",
        COLOURS["evaluation"],
        30,
    )
    arrow(axes, (right, 18), (right, 13.3))
    draw_gradient(axes)


def draw_heads(axes: Axes) -> None:
    box(axes, (63.5, 36.5, 80.5, 17), "white", edge="#b9aede")
    axes.text(
        142.5,
        51,
        "task graph",
        size=9.5,
        color=SOFT,
        ha="right",
        va="center",
        style="italic",
    )
    for k, (name, note) in enumerate(HEADS):
        part(axes, 70.3 + 13.1 * k, 43, name, note, COLOURS["tasks"], 11.8, 9)


def draw_gradient(axes: Axes) -> None:
    """Draw the gradient's way back: from the loss around the left side to the backbone."""
    points = [(63.5, 8), (60, 8), (60, 76), (122, 76), (122, 72)]
    xs, ys = zip(*points[:-1], strict=True)
    axes.plot(xs, ys, color=GRADIENT, lw=1.5, ls="--", solid_capstyle="round")
    arrow(axes, points[-2], points[-1], colour=GRADIENT)
    axes.text(60, 24, "gradient of every loss", size=9, color=GRADIENT, rotation=90, ha="center", va="center",
              style="italic", bbox={"fc": "white", "ec": "none", "pad": 2})  # fmt: skip


def draw(path: Path) -> None:
    """Write the picture to `path`."""
    figure = plt.figure(figsize=(14.8, 10), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 148), ylim=(0, 100))
    axes.axis("off")
    draw_rooms(axes)
    draw_way(axes)
    figure.savefig(path, facecolor="white")
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the picture of the rooms and of a batch's way.")
    parser.add_argument("--out", type=Path, default=TARGET, help="file to write")
    path = parser.parse_args().out
    draw(path)
    print(f"wrote {path} ({path.stat().st_size // 1000} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
