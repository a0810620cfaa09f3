"""Every loss's gradient, taken once: on the stages of the model, and on the edges of the task graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtltrack.training.audit.expectation import Need, Wiring
from mtltrack.training.audit.inputs import Edge, HeadCall
from mtltrack.training.audit.model_stages import ModelStage
from mtltrack.training.audit.objective import Term
from mtltrack.training.audit.passes import Pass
from mtltrack.training.audit.readings import Limits, Verdict, by_size, judge, norm_of, read
from mtltrack.training.audit.report import Cell, Column, EdgeCell

Named = Mapping[str, Tensor | None]  # by parameter


@dataclass
class Measurement:
    """The gradients of one stage of training.

    Attributes:
        columns: losses, a task's terms before its sum.
        cells: by (column key, stage of the model).
        edges: of the task graph.
        scales: column key -> norm of the loss's gradient on what its head predicts.
        tasks: task -> parameter -> gradient of the task's loss.
        errors: term -> why its backward pass failed.
    """

    columns: list[Column] = field(default_factory=list)
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    edges: dict[Edge, EdgeCell] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    tasks: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    errors: dict[Term, str] = field(default_factory=dict)


def measure(tracker: Any, seen: Pass, wiring: Wiring, stages: list[ModelStage]) -> Measurement:
    """Take the gradient of every loss on every parameter and edge, and judge each by itself."""
    losses, calls = seen.losses, seen.calls
    found = Measurement()
    for task in dict.fromkeys(term.task for term in losses):
        terms = [term for term in losses if term.task == task]
        for term in terms:
            answers = [value for value in seen.outputs[task].predictions.values() if value.requires_grad]
            try:
                parameters, edges, scale = _gradients(tracker, losses[term], calls, answers)
            except RuntimeError as error:
                found.errors[term] = str(error).splitlines()[0].split(" Hint:")[0]
                continue
            _note_column(found, Column(task, term.name), parameters, wiring, stages)
            found.scales[term.key] = scale
            if task in calls:
                _note_edges(found, term, calls[task], edges, wiring)
            _add(found.tasks.setdefault(task, {}), parameters, term.weight)
        if len(terms) > 1 and task in found.tasks:
            _note_column(found, Column(task, None), found.tasks[task], wiring, stages)
            found.scales[task] = math.hypot(*(t.weight * found.scales.get(t.key, 0.0) for t in terms))
    return found


def _gradients(
    tracker: Any, loss: Tensor, calls: Mapping[str, HeadCall], answers: Sequence[Tensor]
) -> tuple[dict[str, Tensor | None], dict[Edge, Tensor | None], float]:
    """Return a loss's gradients by parameter and by edge, and the norm of that on the head's answers."""
    parameters = {name: p for name, p in tracker.named_parameters() if p.requires_grad}
    edges = {edge: t for call in calls.values() for edge, t in call.edges.items() if t.requires_grad}
    tensors = [*parameters.values(), *edges.values(), *answers]
    found: tuple[Tensor | None, ...] = (None,) * len(tensors)
    if loss.requires_grad:
        found = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
    first, second = len(parameters), len(parameters) + len(edges)
    return (
        dict(zip(parameters, found[:first], strict=True)),
        dict(zip(edges, found[first:second], strict=True)),
        norm_of(gradient for gradient in found[second:] if gradient is not None),
    )


def _add(total: dict[str, Tensor], gradients: Named, weight: float) -> None:
    for name, gradient in gradients.items():
        if gradient is not None:
            share = weight * gradient
            total[name] = total[name] + share if name in total else share


def _note_column(
    found: Measurement, column: Column, gradients: Named, wiring: Wiring, stages: list[ModelStage]
) -> None:
    found.columns.append(column)
    for stage in stages:
        reading = read(stage.parameters, gradients)
        expected = wiring.cell(column.task, column.term, stage)
        found.cells[column.key, stage.name] = Cell(reading, expected, judge(reading, expected))


def _note_edges(
    found: Measurement,
    term: Term,
    call: HeadCall,
    gradients: Mapping[Edge, Tensor | None],
    wiring: Wiring,
) -> None:
    """Note what a task's own term sends over its edges; of several terms, the worst verdict."""
    for edge, tensor in call.edges.items():
        reading = read({"": tensor}, {"": gradients.get(edge)})
        expected = wiring.edge(edge, term.name)
        item = EdgeCell(edge, reading.norm, reading.graph, expected, judge(reading, expected))
        found.edges[edge] = _joined(found.edges[edge], item) if edge in found.edges else item


def _joined(one: EdgeCell, other: EdgeCell) -> EdgeCell:
    order = [Verdict.NONE, Verdict.CONNECTED]
    verdict = max(one.verdict, other.verdict, key=lambda v: order.index(v) if v in order else len(order))
    expected = one.expected if one.expected.need is Need.REQUIRED else other.expected
    norm, graph = (one.norm**2 + other.norm**2) ** 0.5, one.graph or other.graph
    return EdgeCell(one.edge, norm, graph, expected, verdict)


def compare(found: Measurement, wiring: Wiring, stages: list[ModelStage], limits: Limits) -> None:
    """Judge what no gradient tells by itself: its size beside the others, and whole parts without any."""
    for key, name, verdict in [*_by_size(found, stages, limits), *_by_part(found, wiring, stages)]:
        cell = found.cells[key, name]
        found.cells[key, name] = Cell(cell.reading, cell.expected, verdict)


def _by_size(
    found: Measurement, stages: list[ModelStage], limits: Limits
) -> Iterator[tuple[str, str, Verdict]]:
    for column in found.columns:
        live = [stage for stage in stages if found.cells[column.key, stage.name].verdict is Verdict.CONNECTED]
        readings = [found.cells[column.key, stage.name].reading for stage in live]
        verdicts = by_size(readings, found.scales.get(column.key, 0.0), limits)
        for stage, verdict in zip(live, verdicts, strict=True):
            yield column.key, stage.name, verdict


def _by_part(
    found: Measurement, wiring: Wiring, stages: list[ModelStage]
) -> Iterator[tuple[str, str, Verdict]]:
    """Of a part that a loss reaches at least one stage must have a gradient."""
    for column in found.columns:
        for part in wiring.needed_parts(column.task, column.term):
            names = [stage.name for stage in stages if stage.part == part and wiring.trains(stage)]
            cells = {name: found.cells[column.key, name] for name in names}
            if any(cell.reading.live or cell.reading.bad for cell in cells.values()):
                continue
            for name, cell in cells.items():
                if cell.expected.need is Need.ALLOWED:
                    yield column.key, name, Verdict.MISSING
