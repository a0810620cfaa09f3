"""The task graph with its gradients, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from mtltrack.core.types import BOX
from mtltrack.training.audit.expectation import UNUSED
from mtltrack.training.audit.inputs import TOKENS
from mtltrack.training.audit.readings import Verdict
from mtltrack.training.audit.report import EdgeCell, StageAudit

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 118, 42, 96, 26, 16
COLOURS = {"live": "#0f766e", "cut": "#9ca3af", "bad": "#dc2626"}


@dataclass(frozen=True)
class Arrow:
    """An edge of the drawing: from where the forward pass comes; the gradient runs against it.

    Attributes:
        source: a part of the tracker.
        target: a head, or a part.
        norm: of the gradient that comes back.
        kind: "live", "cut" (none is due) or "bad" (not as expected).
        text: for the tooltip.
    """

    source: str
    target: str
    norm: float
    kind: str
    text: str


def draw_graph(stage: StageAudit) -> str:
    """Return the task graph of one stage of training as an SVG element.

    On an edge between heads stands the norm of the gradient that the reading head's own loss sends back over
    it; behind the backbone, and before the box, that on the part's parameters.
    """
    arrows = list(_arrows(stage))
    places = _places(stage, arrows)
    right = max(x for x, _ in places.values()) + WIDTH + MARGIN
    bottom = max(y for _, y in places.values()) + HEIGHT + MARGIN
    parts = [
        f'<svg viewBox="0 0 {right} {bottom}" width="{right}" height="{bottom}" role="img" '
        f'aria-label="task graph of stage {escape(stage.name)}" font-family="sans-serif">'
    ]
    ends = _ends(arrows, places)
    parts += [_arrow(arrow, places, end) for arrow, end in zip(arrows, ends, strict=True)]
    parts += [_label(arrow, places, end) for arrow, end in zip(arrows, ends, strict=True)]
    parts += [_box(name, place, stage) for name, place in places.items()]
    return "\n".join([*parts, "</svg>"])


def _arrows(stage: StageAudit) -> Iterator[Arrow]:
    last = stage.trunk[-1]
    for source, target in pairwise(stage.trunk):
        norm = _on_part(stage, source, None)
        yield Arrow(source, target, norm, "live" if norm else "cut", "all losses on its parameters")
    if BOX not in {item.edge.task for item in stage.edges}:
        norm = _on_part(stage, last, BOX)
        yield Arrow(last, BOX, norm, "live" if norm else "cut", f"loss of box on the parameters of {last}")
    joined: dict[tuple[str, str], list[EdgeCell]] = {}
    for item in stage.edges:
        joined.setdefault((item.edge.source, item.edge.task), []).append(item)
    for (source, task), items in joined.items():
        used = [item for item in items if item.graph or item.expected.why != UNUSED]
        if not used:
            continue
        start = last if source == TOKENS else source
        bad = any(item.verdict.violated for item in items)
        norm = math.sqrt(math.fsum(item.norm**2 for item in items))
        lines = [
            f"{item.edge.name}: {item.norm:.2e}, {item.verdict.value} ({item.expected.why})" for item in used
        ]
        kind = "bad" if bad else ("live" if norm > 0 else "cut")
        yield Arrow(start, task, norm, kind, "\n".join(lines))


def _on_part(stage: StageAudit, part: str, task: str | None) -> float:
    """Return the norm of a task's gradient (None: of all together, as if at right angles) on a part."""
    squares = [
        stage.cells[column.key, row.name].reading.norm ** 2
        for column in stage.columns
        for row in stage.rows
        if row.part == part and column.term is not None and task in (None, column.task)
    ]
    return math.sqrt(math.fsum(squares))


def _places(stage: StageAudit, arrows: list[Arrow]) -> dict[str, tuple[int, int]]:
    """Put every part in the column behind all that it reads."""
    parts = list(dict.fromkeys(row.part for row in stage.rows))
    depth = {part: 0 for part in parts}
    for _ in parts:
        for arrow in arrows:
            if arrow.source in depth and arrow.target in depth:
                depth[arrow.target] = max(depth[arrow.target], depth[arrow.source] + 1)
    columns: dict[int, list[str]] = {}
    for part in parts:
        columns.setdefault(depth[part], []).append(part)
    tallest = max(len(column) for column in columns.values())
    places = {}
    for number, column in sorted(columns.items()):
        top = MARGIN + (tallest - len(column)) * (HEIGHT + GAP_Y) // 2
        for row, part in enumerate(column):
            places[part] = (MARGIN + number * (WIDTH + GAP_X), top + row * (HEIGHT + GAP_Y))
    return places


def _ends(arrows: list[Arrow], places: dict[str, tuple[int, int]]) -> list[int]:
    """Return the height at which each arrow ends: those that end at one part spread over its side."""
    ends = []
    for arrow in arrows:
        others = [other for other in arrows if other.target == arrow.target]
        others.sort(key=lambda other: places[other.source][1])
        share = (others.index(arrow) + 1) / (len(others) + 1)
        ends.append(places[arrow.target][1] + round(HEIGHT * share))
    return ends


def _arrow(arrow: Arrow, places: dict[str, tuple[int, int]], y2: int) -> str:
    (x1, y1), x2 = places[arrow.source], places[arrow.target][0]
    x1, y1 = x1 + WIDTH, y1 + HEIGHT // 2
    width = 1.5 if arrow.norm <= 0 else min(6.0, max(1.5, 3.5 + math.log10(arrow.norm)))
    dash = ' stroke-dasharray="5 4"' if arrow.kind == "cut" else ""
    colour = COLOURS[arrow.kind]
    bend = (x1 + x2) // 2
    title = f"{arrow.source} -> {arrow.target}: {_text(arrow)}"
    return (
        f"<g><title>{escape(title)}\n{escape(arrow.text)}</title>"
        f'<path d="M{x1},{y1} C{bend},{y1} {bend},{y2} {x2},{y2}" fill="none" stroke="{colour}" '
        f'stroke-width="{width:.1f}"{dash}/></g>'
    )


def _label(arrow: Arrow, places: dict[str, tuple[int, int]], y2: int) -> str:
    """Return the text of an arrow, with a white edge, because it stands on lines."""
    x2 = places[arrow.target][0]
    return (
        f'<text x="{x2 - 5}" y="{y2 - 4}" font-size="10" text-anchor="end" paint-order="stroke" '
        f'stroke="#ffffff" stroke-width="3" fill="{COLOURS[arrow.kind]}">{_text(arrow)}</text>'
    )


def _text(arrow: Arrow) -> str:
    return "no gradient" if arrow.norm <= 0 else f"{arrow.norm:.1e}"


def _box(part: str, place: tuple[int, int], stage: StageAudit) -> str:
    x, y = place
    trains = part in stage.trains
    fill, ink = ("#d5e4f7", "#1f2933") if trains else ("#eef0f2", "#8a949e")
    lines = ["trains" if trains else "frozen"]
    weight = next((item for item in stage.weights if item.task == part), None)
    if weight is not None:
        lines.append(f"lambda {weight.configured:g}")
    elif part in stage.losses:
        lines.append("loss counts")
    bad = any(
        stage.cells[column.key, row.name].verdict in (Verdict.MISSING, Verdict.LEAKING, Verdict.NON_FINITE)
        for column in stage.columns
        for row in stage.rows
        if row.part == part
    )
    stroke = COLOURS["bad"] if bad else "#ffffff"
    return (
        f'<g><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="2"/>'
        f'<text x="{x + WIDTH // 2}" y="{y + 17}" font-size="13" font-weight="bold" text-anchor="middle" '
        f'fill="{ink}">{escape(part)}</text>'
        f'<text x="{x + WIDTH // 2}" y="{y + 32}" font-size="10" text-anchor="middle" fill="{ink}">'
        f"{escape(', '.join(lines))}</text></g>"
    )
