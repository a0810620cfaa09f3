"""The audit as one HTML page that needs nothing else: heat maps, the task graph, findings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from pathlib import Path

from mtltrack.evaluation.html import page, table
from mtltrack.training.audit.graph import draw_graph
from mtltrack.training.audit.heatmap import DECADES
from mtltrack.training.audit.readings import Verdict
from mtltrack.training.audit.report import AuditReport, Cell, StageAudit

STYLE = """
thead th { vertical-align: bottom } thead th div { writing-mode: vertical-rl; transform: rotate(180deg) }
td.none { color: #b8c0c8; text-align: center }
td.bad { background: #dc2626; color: #fff; font-weight: 600 }
tr.frozen th { color: #8a949e; font-weight: 400 } tr.first th, tr.first td { border-top: 2px solid #9aa5b1 }
.passed { color: #0f766e } .failed { color: #dc2626 }
.finding { border-left: 4px solid #dc2626; padding: 4px 10px; margin: 6px 0; background: #fef2f2 }
.finding.mild { border-color: #d97706; background: #fffbeb }
"""
LOW, MIDDLE, HIGH = (255, 247, 214), (74, 167, 164), (23, 63, 107)  # of the heat map


def save_page(report: AuditReport, path: Path) -> None:
    """Write the report as an HTML page."""
    path.write_text(page_of(report), encoding="utf-8")


def page_of(report: AuditReport) -> str:
    """Return the report as an HTML page."""
    violations = sum(finding.violation for _, finding in report.findings)
    state = (
        f'<span class="failed">{violations} violated expectation(s)</span>'
        if violations
        else '<span class="passed">every gradient is as expected</span>'
    )
    body = [
        f"<h1>Gradient audit of {escape(report.model)}: {state}</h1>",
        f"<p>{escape(report.clip)}. A cell holds the norm of a loss's gradient on a stage of the model; "
        "a dot: none, and none due. The column of a term, task/term, is unweighted, that of a task the sum "
        "of its terms, each times its weight in the task. Hold the pointer over it for more.</p>",
        *(_stage(stage) for stage in report.stages),
        _boundaries(report),
        _switches(report),
    ]
    return page(f"Gradient audit of {report.model}", body, STYLE)


def _stage(stage: StageAudit) -> str:
    losses = ", ".join(stage.losses)
    parts = [
        f"<h2>Stage '{escape(stage.name)}': trains {escape(', '.join(stage.trains))}; losses of {losses}</h2>"
    ]
    parts += [
        f'<div class="finding{"" if finding.violation else " mild"}"><b>{escape(finding.kind)}</b> '
        f"{escape(finding.where)}<br>{escape(finding.message)}</div>"
        for finding in stage.findings
    ]
    if stage.rows and stage.columns:
        parts += ['<div class="scroll">', draw_graph(stage), "</div>"]
        parts += ['<div class="scroll">', *_heat_map(stage), "</div>"]
    return "\n".join([*parts, *_facts(stage)])


def _heat_map(stage: StageAudit) -> Iterator[str]:
    norms = [cell.reading.norm for cell in stage.cells.values() if cell.reading.live]
    low, high = (math.log10(min(norms)), math.log10(max(norms))) if norms else (0.0, 1.0)
    missing = max(DECADES - (high - low), 0.0) / 2
    low, high = low - missing, high + missing
    heads = "".join(f"<th><div>{escape(column.key)}</div></th>" for column in stage.columns)
    yield f"<table><thead><tr><th>stage of the model</th>{heads}</tr></thead><tbody>"
    part = ""
    for row in stage.rows:
        classes = ([] if row.trains else ["frozen"]) + (["first"] if row.part != part else [])
        part = row.part
        cells = "".join(
            _cell(stage.cells[column.key, row.name], f"{column.key} on {row.name}", low, high)
            for column in stage.columns
        )
        yield f'<tr class="{" ".join(classes)}"><th>{escape(row.name)}</th>{cells}</tr>'
    yield "</tbody></table>"


def _cell(cell: Cell, where: str, low: float, high: float) -> str:
    reading = cell.reading
    tip = (
        f"{where}\n{cell.verdict.value}; expected: {cell.expected.need.value} ({cell.expected.why})\n"
        f"norm {reading.norm:.3e}, {reading.ratio:.2e} of the parameters'\n"
        f"zero {reading.zeros:.1%}, not finite {reading.bad:.1%}"
    )
    title = f' title="{escape(tip)}"'
    if cell.verdict.violated:
        text = cell.verdict.value if not reading.live else f"{cell.verdict.value} {reading.norm:.0e}"
        return f'<td class="bad"{title}>{text}</td>'
    if cell.verdict is Verdict.NONE:
        return f'<td class="none"{title}>{"0" if reading.graph else "&middot;"}</td>'
    share = (math.log10(reading.norm) - low) / (high - low)
    red, green, blue = _colour(share)
    ink = "#fff" if share > 0.45 else "#1f2933"
    return f'<td style="background:rgb({red},{green},{blue});color:{ink}"{title}>{reading.norm:.1e}</td>'


def _colour(share: float) -> tuple[int, int, int]:
    """Return the heat map's colour at a share of its way, in [0, 1]."""
    begin, end = (LOW, MIDDLE) if share < 0.5 else (MIDDLE, HIGH)
    way = 2 * share - (share >= 0.5)
    red, green, blue = (round(a + (b - a) * way) for a, b in zip(begin, end, strict=True))
    return red, green, blue


def _facts(stage: StageAudit) -> Iterator[str]:
    if stage.weights:
        shown = ", ".join(f"{w.task} {w.measured:.6g} (lambda {w.configured:g})" for w in stage.weights)
        yield (
            f"<p>How often each task's gradient stands in a step's: {escape(shown)}. The step's gradient "
            f"differs from the weighted sum by {stage.sum_rule:.1e}.</p>"
        )
    if stage.cosines:
        pairs = ", ".join(f"{a}/{b} {value:+.3f}" for (a, b), value in stage.cosines.items())
        yield f"<p>Cosines over all that both tasks reach: {escape(pairs)}.</p>"
    if stage.groups:
        rows = [(g.name, f"{g.rate:g}", f"{g.moved} of {g.tensors}") for g in stage.groups]
        yield table(("optimizer group", "rate", "parameters that a step moved"), rows)
    if stage.history is not None:
        frames = range(1, len(stage.history) + 1)
        history = [
            (f"loss of frame {t}", *(_number(v) for v in row))
            for t, row in zip(frames, stage.history, strict=True)
        ]
        yield "<h3>The box loss through the history</h3>"
        yield table(("", *(f"features of frame {s}" for s in frames)), history)


def _number(value: float) -> str:
    return f"{value:.1e}" if value else "·"


def _boundaries(report: AuditReport) -> str:
    rows = list(report.boundaries.items())
    return "<h2>Where no gradient passes by design</h2>" + (
        table(("boundary", "reason"), rows) if rows else "<p>Nowhere.</p>"
    )


def _switches(report: AuditReport) -> str:
    if not report.switches:
        return ""
    rows = [
        (
            switch.name,
            f"{switch.difference:.1e}",
            f"{switch.cosine:.6f}",
            str(switch.lost),
            f"{switch.memory:.1f} of {switch.plain_memory:.1f}",
            f"{switch.seconds:.2f} of {switch.plain_seconds:.2f}",
            switch.note,
        )
        for switch in report.switches
    ]
    header = ("switch", "largest difference", "cosine", "stages lost", "MiB kept", "seconds", "expected")
    return "<h2>Gradient switches, each alone beside the plain gradient</h2>" + table(header, rows)
