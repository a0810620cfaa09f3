"""The audit for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group as Rendered
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mtltrack.training.audit.expectation import UNUSED
from mtltrack.training.audit.readings import Verdict
from mtltrack.training.audit.report import AuditReport, Cell, Column, StageAudit

STYLES = {
    Verdict.CONNECTED: "green",
    Verdict.NONE: "dim",
    Verdict.MISSING: "bold red",
    Verdict.LEAKING: "bold magenta",
    Verdict.VANISHING: "bold yellow",
    Verdict.EXPLODING: "bold yellow",
    Verdict.NON_FINITE: "bold red",
}


def render_stage(stage: StageAudit, width: int = 140) -> RenderableType:
    """Return one stage of training as tables: the matrix, the edges, weights and groups, the findings.

    Args:
        stage: of training.
        width: characters that a line holds; a wider matrix is shown in several tables.
    """
    title = f"stage '{stage.name}': trains {', '.join(stage.trains)}; losses of {', '.join(stage.losses)}"
    chunks = list(_fitting(stage, width))
    matrices = [_matrix(stage, columns, every_row=len(chunks) == 1) for columns in chunks]
    parts = (Text(title, style="bold"), *matrices, _edges(stage), *_lines(stage))
    return Rendered(*(part for part in parts if part is not None))


def _fitting(stage: StageAudit, width: int) -> Iterator[list[Column]]:
    """Split the columns so that each table fits into a line."""
    space = 3  # between columns
    first = max((len(row.name) for row in stage.rows), default=0) + space
    chunk: list[Column] = []
    used = first
    for column in stage.columns:
        cells = [cell_text(cell).cell_len for cell in stage.column(column.key)]
        needed = max(len(column.key), *cells) + space
        if chunk and used + needed > width:
            yield chunk
            chunk, used = [], first
        chunk.append(column)
        used += needed
    if chunk:
        yield chunk


def _matrix(stage: StageAudit, columns: list[Column], *, every_row: bool) -> Table:
    """Lay some losses out; without `every_row` stages on which none of them has a gradient are left out."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("gradient norm", no_wrap=True)
    for column in columns:
        table.add_column(column.key, justify="right", no_wrap=True)
    for row in stage.rows:
        found = [stage.cells[column.key, row.name] for column in columns]
        if not every_row and all(cell.verdict is Verdict.NONE for cell in found):
            continue
        cells = [cell_text(cell) for cell in found]
        table.add_row(Text(row.name, style="" if row.trains else "dim"), *cells)
    return table


def cell_text(cell: Cell) -> Text:
    """Return a cell as people read it: the norm where it is due, else the verdict."""
    if cell.verdict is Verdict.NONE:
        return Text("." if not cell.reading.graph else "0", style=STYLES[cell.verdict])
    if cell.verdict is Verdict.CONNECTED:
        return Text(f"{cell.reading.norm:.1e}", style=STYLES[cell.verdict])
    return Text(f"{cell.verdict.value} {cell.reading.norm:.0e}", style=STYLES[cell.verdict])


def _edges(stage: StageAudit) -> Table | None:
    if not stage.edges:
        return None
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("edge of the task graph", "gradient norm", "verdict", "why"):
        table.add_column(name, justify="right" if name == "gradient norm" else "left")
    for item in stage.edges:
        if item.expected.why == UNUSED and not item.graph:
            continue  # a head is given more than it reads
        style = STYLES[item.verdict]
        norm = f"{item.norm:.1e}" if item.norm else "."
        table.add_row(str(item.edge), norm, item.verdict.value, item.expected.why, style=style)
    return table


def _lines(stage: StageAudit) -> Iterator[RenderableType]:
    if stage.weights:
        shown = ", ".join(
            f"{weight.task} {weight.measured:.6g} (lambda {weight.configured:g})" for weight in stage.weights
        )
        yield Text(f"weights in the step's gradient: {shown}; sum rule off by {stage.sum_rule:.1e}")
    if stage.cosines:
        pairs = ", ".join(f"{a}/{b} {value:+.3f}" for (a, b), value in stage.cosines.items())
        yield Text(f"cosines over what both reach: {pairs}")
    if stage.groups:
        groups = ", ".join(
            f"{group.name} {group.moved}/{group.tensors} moved at {group.rate:g}" for group in stage.groups
        )
        yield Text(f"optimizer groups: {groups}")
    if stage.history is not None:
        yield Text("history: gradient of the box loss at frame t (row) on the features of frame s (column)")
        for number, row in enumerate(stage.history, start=1):
            yield Text(f"  {number}: " + "  ".join("." if not value else f"{value:.1e}" for value in row))
    for finding in stage.findings:
        yield Text(str(finding), style="bold red" if finding.violation else "yellow")
    yield Text("")


def render_switches(report: AuditReport) -> RenderableType:
    """Return what the gradient switches change and save."""
    table = Table(
        title="gradient switches, each alone", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("switch", no_wrap=True)
    for name in ("largest difference", "cosine", "stages lost", "MiB kept", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("expected")
    for switch in report.switches:
        table.add_row(
            switch.name,
            f"{switch.difference:.1e}",
            f"{switch.cosine:.6f}",
            str(switch.lost),
            f"{switch.memory:.1f} of {switch.plain_memory:.1f}",
            f"{switch.seconds:.2f} of {switch.plain_seconds:.2f}",
            switch.note,
        )
    return table


def render_boundaries(report: AuditReport) -> RenderableType:
    """Return where no gradient passes by design."""
    lines = [f"  {name}: {reason}" for name, reason in report.boundaries.items()]
    return Text("\n".join(["declared boundaries, where no gradient passes:", *(lines or ["  none"])]))


def verdict_line(report: AuditReport) -> Text:
    """Return the last line: passed, or how many expectations are violated."""
    violations = sum(finding.violation for _, finding in report.findings)
    connected = sum(
        cell.verdict is Verdict.CONNECTED for stage in report.stages for cell in stage.cells.values()
    )
    if violations:
        return Text(f"FAILED: {violations} violated expectation(s)", style="bold red")
    return Text(f"passed: {connected} gradients as expected, no other", style="bold green")


def log_norm(value: float) -> float:
    """Return the decimal logarithm of a norm, NaN for 0."""
    return math.log10(value) if value > 0 else math.nan
