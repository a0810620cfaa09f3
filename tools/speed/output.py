"""What was measured, as tables for people and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mtltrack.cli.command import say, show
from speed.frames import HeadCost
from speed.limit import Limit
from speed.rounds import Comparison

COLUMNS = (
    "",
    "ms",
    "plain, ms",
    "plain / ours",
    "quartiles",
    "a second",
    "GFLOP",
    "GFLOP/s",
    "plain",
    "of the limit",
    "memory, MB",
    "plain",
)


@dataclass
class Findings:
    """Everything that a run measured.

    Attributes:
        setting: model, device, precision, versions.
        limit: of the device; None where nothing is held against it.
        comparisons: "frame", "train" or "load" -> what was compared.
        heads: what task heads add to a frame, or None.
    """

    setting: dict[str, Any]
    limit: Limit | None = None
    comparisons: dict[str, list[Comparison]] = field(default_factory=dict)
    heads: HeadCost | None = None


def row_of(found: Comparison, limit: float | None) -> list[str]:
    """Return the cells of a comparison, in the order of COLUMNS; "" for what isn't known."""
    ratio, rates = found.ratio, [found.rate(form) for form in ("ours", "plain")]
    share = found.share(limit)
    return [
        found.name,
        *(f"{1000 * found.seconds(form):.1f}" for form in ("ours", "plain")),
        f"{ratio.median:.2f}",
        f"{ratio.low:.2f} to {ratio.high:.2f}",
        f"{1 / found.seconds('ours'):.2f}",
        "" if found.operations is None else f"{found.operations / 1e9:.1f}",
        *("" if rate is None else f"{rate / 1e9:.0f}" for rate in rates),
        "" if share is None else f"{100 * share:.0f} %",
        *(f"{found.memory[form] / 1e6:.0f}" if form in found.memory else "" for form in ("ours", "plain")),
    ]


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def limit_table(limit: Limit) -> Table:
    """Lay out what large products reach."""
    kernels = list(limit.rates)
    table = _table(f"limit: GFLOP/s of F.linear, {limit.precision}", ("rows x inputs x outputs", *kernels))
    for shape in limit.rates[kernels[0]]:
        rates = (f"{limit.median(kernel, shape) / 1e9:.0f}" for kernel in kernels)
        table.add_row(" x ".join(map(str, shape)), *rates)
    return table


def print_findings(console: Console, findings: Findings) -> None:
    """Print the tables."""
    setting = findings.setting
    say(console, ", ".join(f"{name} {value}" for name, value in setting.items()))
    best = None
    if findings.limit is not None:
        best = findings.limit.best
        show(console, limit_table(findings.limit))
        for kernel, why in findings.limit.refused.items():
            say(console, f"{kernel} isn't counted: {why}")
        say(console, f"the limit: {best / 1e9:.0f} GFLOP/s")
    for kind, comparisons in findings.comparisons.items():
        table = _table(f"{kind}: ours ({setting['precision']}) and the plain form (fp32)", COLUMNS)
        for found in comparisons:
            table.add_row(*row_of(found, best))
        show(console, table)
    if findings.heads is not None:
        extra = findings.heads.extra
        say(
            console,
            f"the heads {', '.join(findings.heads.tasks)} together: {extra.median:.1f} % of the tracker's "
            f"frame more (quartiles {extra.low:.1f} to {extra.high:.1f})",
        )


def as_json(findings: Findings) -> str:
    """Return everything as JSON: seconds, bytes and operations a second as they are."""
    limit = findings.limit
    best = None if limit is None else limit.best
    content: dict[str, Any] = {"setting": findings.setting}
    if limit is not None:
        rates = [
            {
                "kernel": kernel,
                "shape": shape,
                "flops_per_second": limit.median(kernel, shape),
                "rounds": found,
            }
            for kernel, shapes in limit.rates.items()
            for shape, found in shapes.items()
        ]
        content["limit"] = {"best": best, "rates": rates, "refused": limit.refused}
    for kind, comparisons in findings.comparisons.items():
        content[kind] = [
            {
                **asdict(found),
                "seconds": {form: found.seconds(form) for form in ("ours", "plain")},
                "ratio": asdict(found.ratio),
                "flops_per_second": {form: found.rate(form) for form in ("ours", "plain")},
                "share": found.share(best),
            }
            for found in comparisons
        ]
    if findings.heads is not None:
        content["heads"] = {**asdict(findings.heads), "extra_percent": asdict(findings.heads.extra)}
    return json.dumps(content, indent=2) + "\n"
