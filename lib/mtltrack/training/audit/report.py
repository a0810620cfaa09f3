"""What an audit found: per stage of training a matrix of gradients, the edges of the task graph, findings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtltrack.training.audit.expectation import Expected
from mtltrack.training.audit.inputs import Edge
from mtltrack.training.audit.readings import Reading, Verdict


@dataclass(frozen=True)
class Finding:
    """A violated expectation, or something that couldn't be checked.

    Attributes:
        kind: "missing", "leaking", "vanishing", "exploding", "non-finite", "silent write", "stale",
            "sum rule", "lambda", "step", "optimizer", "unmoved", "moved", "mode", "history", "error",
            "unlabelled".
        where: the task, term or module, and the stages of the model.
        message: what is wrong, what was expected and why, and where in the code.
        violation: whether the audit fails by it.
    """

    kind: str
    where: str
    message: str
    violation: bool = True

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.message}"


@dataclass(frozen=True)
class Row:
    """A stage of the model, as a row of the matrix."""

    name: str
    part: str
    entries: int
    trains: bool


@dataclass(frozen=True)
class Column:
    """A loss, as a column of the matrix: one term, or all of a task's together (`term` is None)."""

    task: str
    term: str | None

    @property
    def key(self) -> str:
        return self.task if self.term is None else f"{self.task}/{self.term}"


@dataclass(frozen=True)
class Cell:
    """The gradient of one loss on one stage of the model."""

    reading: Reading
    expected: Expected
    verdict: Verdict


@dataclass(frozen=True)
class EdgeCell:
    """The gradient that a task's own loss sends over one edge of the task graph."""

    edge: Edge
    norm: float
    graph: bool
    expected: Expected
    verdict: Verdict


@dataclass(frozen=True)
class Weight:
    """A task's lambda: as configured, and as the gradient of the total shows it (NaN: it can't be told)."""

    task: str
    configured: float
    measured: float


@dataclass(frozen=True)
class Group:
    """An optimizer group: its rate, and how many of its parameters moved in one step."""

    name: str
    rate: float
    tensors: int
    moved: int


@dataclass(frozen=True)
class Switch:
    """A switch, measured.

    Attributes:
        name: what is switched.
        difference: largest |g - g0| / |g0| over the stages of the model that have a gradient both ways.
        cosine: of both gradients over these stages.
        lost: stages whose gradient it takes away.
        memory: MiB kept for the backward pass.
        plain_memory: without the switch.
        seconds: of a forward and a backward pass; of the processor on a CPU.
        plain_seconds: without the switch.
        note: what is to be expected.
    """

    name: str
    difference: float
    cosine: float
    lost: int
    memory: float
    plain_memory: float
    seconds: float
    plain_seconds: float
    note: str = ""


@dataclass
class StageAudit:
    """The audit of one stage of training.

    Attributes:
        name: of the stage.
        trains: parts that train.
        losses: tasks whose losses count.
        trunk: parts before the heads, in order.
        rows: stages of the model.
        columns: losses.
        cells: by (column key, row name).
        edges: of the task graph.
        weights: lambdas.
        sum_rule: largest relative difference of the total's gradient from the weighted sum of the parts'.
        cosines: of the tasks' gradients over everything that both reach, by (task, task).
        groups: of the optimizer.
        history: norm of the gradient of the box loss at frame t (row) on the features of frame s (column),
            None where the tracker has no history.
        findings: see `Finding`.
    """

    name: str
    trains: list[str]
    losses: list[str]
    trunk: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    edges: list[EdgeCell] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    sum_rule: float = math.nan
    cosines: dict[tuple[str, str], float] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    history: list[list[float]] | None = None
    findings: list[Finding] = field(default_factory=list)

    def column(self, key: str) -> list[Cell]:
        """Return the cells of one loss in the order of the rows."""
        return [self.cells[key, row.name] for row in self.rows]


@dataclass
class AuditReport:
    """The audit of a model in every stage of its training.

    Attributes:
        model: what was audited.
        clip: what it was audited on.
        stages: of training.
        boundaries: where no gradient passes by design, each with the reason.
        switches: what the gradient switches change and save; empty when they weren't measured.
    """

    model: str
    clip: str
    stages: list[StageAudit] = field(default_factory=list)
    boundaries: dict[str, str] = field(default_factory=dict)
    switches: Sequence[Switch] = ()

    @property
    def findings(self) -> list[tuple[str, Finding]]:
        """All findings, each with its stage of training."""
        return [(stage.name, finding) for stage in self.stages for finding in stage.findings]

    @property
    def passed(self) -> bool:
        """Whether no expectation is violated."""
        return not any(finding.violation for _, finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain types; what isn't a number (NaN, infinity) is None."""
        plain: dict[str, Any] = _plain(
            {
                "model": self.model,
                "clip": self.clip,
                "passed": self.passed,
                "boundaries": self.boundaries,
                "stages": [_stage_json(stage) for stage in self.stages],
                "switches": [asdict(switch) for switch in self.switches],
            }
        )
        return plain

    def save_json(self, path: Path) -> None:
        """Write the report to a file."""
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")


def _stage_json(stage: StageAudit) -> dict[str, Any]:
    return {
        "name": stage.name,
        "trains": stage.trains,
        "losses": stage.losses,
        "trunk": stage.trunk,
        "rows": [asdict(row) for row in stage.rows],
        "columns": [{**asdict(column), "key": column.key} for column in stage.columns],
        "cells": [
            {
                "loss": loss,
                "stage": row,
                **asdict(cell.reading),
                "expected": cell.expected.need.value,
                "why": cell.expected.why,
                "verdict": cell.verdict.value,
            }
            for (loss, row), cell in stage.cells.items()
        ],
        "edges": [
            {
                **asdict(item.edge),
                "norm": item.norm,
                "graph": item.graph,
                "expected": item.expected.need.value,
                "why": item.expected.why,
                "verdict": item.verdict.value,
            }
            for item in stage.edges
        ],
        "weights": [asdict(weight) for weight in stage.weights],
        "sum_rule": stage.sum_rule,
        "cosines": {f"{a}_{b}": value for (a, b), value in stage.cosines.items()},
        "optimizer": [asdict(group) for group in stage.groups],
        "history": stage.history,
        "findings": [asdict(finding) for finding in stage.findings],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
