"""The audit of one stage of training: measure, compare with what is expected, explain what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mtltrack.core.types import Clip
from mtltrack.training.audit.cuts import Trace, record, why_leaking, why_missing, why_not_finite
from mtltrack.training.audit.expectation import Need, Wiring
from mtltrack.training.audit.inputs import Edge, HeadCall, used_edges, watched_inputs
from mtltrack.training.audit.loop import (
    check_modes,
    check_optimizer,
    check_step,
    observe_step,
    optimizer_groups,
)
from mtltrack.training.audit.model_stages import model_stages
from mtltrack.training.audit.objective import Term, head_terms, reduced_terms
from mtltrack.training.audit.readings import Limits, Verdict, judge, read, sizes
from mtltrack.training.audit.report import Cell, Column, EdgeCell, Finding, Row, StageAudit
from mtltrack.training.audit.sums import check_sum, cosines, weighted_sum
from mtltrack.training.texts import listed


@dataclass(frozen=True)
class AuditOptions:
    """How to audit.

    Attributes:
        limits: see `Limits`.
        explain: look for the place in the code of what is wrong, which runs the forward pass again.
        seed: of what is still drawn at random.
    """

    limits: Limits = field(default_factory=Limits)
    explain: bool = True
    seed: int = 0


class StageAuditor:
    """Audits the stage that a trainer has entered.

    Args:
        trainer: see `Trainer`.
        current: what `trainer.enter` returned.
        clip: with labels, as it comes from the loader.
        options: see `AuditOptions`.
    """

    def __init__(self, trainer: Any, current: Any, clip: Clip, options: AuditOptions) -> None:
        self.trainer, self.current, self.options = trainer, current, options
        self.tracker = trainer.tracker
        self.stage = current.active
        self.clip = clip.to(trainer.accelerator.device)
        self.model_stages = model_stages(self.tracker)
        self.result = StageAudit(self.stage.name, sorted(self.stage.trains), sorted(self.stage.losses))
        self.losses: dict[Term, Tensor] = {}
        self.calls: dict[str, HeadCall] = {}
        self.tasks: dict[str, dict[str, Tensor]] = {}  # task -> parameter -> gradient of the task's loss
        self._traces: dict[tuple[str, bool], Trace] = {}

    def run(self) -> StageAudit:
        """Return the audit of the stage."""
        found = self.result.findings
        found += check_modes(self.tracker, self.stage, self.trainer.settings.batch_norm)
        found += check_optimizer(self.tracker, self.current.optimizer, set(self.tracker.unread_parameters()))
        self.losses, self.calls = self._forward(watch=True)
        self._note_unlabelled()
        self.wiring = Wiring(self.tracker, self.stage, self._uses())
        self.result.rows = [
            Row(
                item.name,
                item.part,
                sum(parameter.numel() for parameter in item.parameters.values()),
                self.wiring.trains(item),
            )
            for item in self.model_stages
        ]
        self._measure()
        self.losses, self.calls = {}, {}  # lets go of the graph
        self._compare_sizes()
        self._need_one_stage()
        self._report_cells()
        self._check_stale()
        self._check_step()
        self._traces.clear()
        return self.result

    # --------------------------------------------------------------------------------------------- forward

    def _normalised(self) -> Clip:
        settings = self.trainer.settings
        return self.clip.normalised(list(settings.mean), list(settings.std))

    def _forward(
        self, *, watch: bool, clip: Clip | None = None
    ) -> tuple[dict[Term, Tensor], dict[str, HeadCall]]:
        """Run the model as training does and return the losses that count, and how the heads were called."""
        torch.manual_seed(self.options.seed)
        heads = self.tracker.task_parts() if watch else {}
        clip = clip or self._normalised()
        with watched_inputs(heads) as calls:
            outputs = self.current.model(clip, keep_rate=None)
        return reduced_terms(self.tracker.heads(), outputs, self.clip, self.stage.losses), calls

    def _uses(self) -> dict[str, dict[str, set[Edge]]]:
        """Find out what each head reads; those of tasks without labels, by what the others' losses need."""
        heads, uses = self.tracker.heads(), {}
        labelled = {term.task for term in self.losses}
        with self.trainer.accelerator.autocast():
            for task, call in self.calls.items():
                if task in labelled:
                    uses[task] = used_edges(call, head_terms(task, heads[task], self.clip))
        return uses

    def _note_unlabelled(self) -> None:
        labelled = {term.task for term in self.losses}
        for task in sorted(self.stage.losses - labelled):
            message = "the clip has no label of it, so that its gradients can't be audited"
            self.result.findings.append(Finding("unlabelled", task, message, violation=False))

    # ----------------------------------------------------------------------------------------- measurement

    def _measure(self) -> None:
        """Take every loss's gradient once, on the parameters and on the edges."""
        for term, loss in self.losses.items():
            try:
                parameters, edges = self._gradients(loss)
            except RuntimeError as error:
                self._report_error(term, error)
                continue
            column = Column(term.task, term.name)
            self._note_column(column, parameters)
            self._note_edges(term, edges)
            own = self.tasks.setdefault(term.task, {})
            for name, gradient in parameters.items():
                if gradient is not None:
                    share = term.weight * gradient
                    own[name] = own[name] + share if name in own else share
        for task, gradients in self.tasks.items():
            if sum(term.task == task for term in self.losses) > 1:
                self._note_column(Column(task, None), gradients)
        self.result.cosines = cosines(self.tasks)

    def _gradients(self, loss: Tensor) -> tuple[dict[str, Tensor | None], dict[Edge, Tensor | None]]:
        parameters = {name: p for name, p in self.tracker.named_parameters() if p.requires_grad}
        edges = {edge: t for call in self.calls.values() for edge, t in call.edges.items() if t.requires_grad}
        found: tuple[Tensor | None, ...] = (None,) * (len(parameters) + len(edges))
        if loss.requires_grad:
            tensors = [*parameters.values(), *edges.values()]
            found = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
        split = len(parameters)
        return (
            dict(zip(parameters, found[:split], strict=True)),
            dict(zip(edges, found[split:], strict=True)),
        )

    def _note_column(self, column: Column, gradients: Mapping[str, Tensor | None]) -> None:
        self.result.columns.append(column)
        for item in self.model_stages:
            reading = read(item.parameters, gradients)
            expected = self.wiring.cell(column.task, column.term, item)
            self.result.cells[column.key, item.name] = Cell(reading, expected, judge(reading, expected))

    def _note_edges(self, term: Term, gradients: Mapping[Edge, Tensor | None]) -> None:
        call = self.calls.get(term.task)
        for edge in call.edges if call is not None else ():
            gradient = gradients.get(edge)
            reading = read({"": call.edges[edge]}, {"": gradient})  # type: ignore[union-attr]
            expected = self.wiring.edge(edge, term.name)
            cell = EdgeCell(edge, reading.norm, expected, judge(reading, expected))
            before = next((item for item in self.result.edges if item.edge == edge), None)
            if before is None:
                self.result.edges.append(cell)
            else:
                self.result.edges[self.result.edges.index(before)] = _joined(before, cell)

    # ------------------------------------------------------------------------------------------ comparison

    def _replace(self, key: tuple[str, str], verdict: Verdict) -> None:
        self.result.cells[key] = replace(self.result.cells[key], verdict=verdict)

    def _compare_sizes(self) -> None:
        for column in self.result.columns:
            live = [
                (row, cell)
                for row, cell in zip(self.result.rows, self.result.column(column.key), strict=True)
                if cell.verdict is Verdict.CONNECTED
            ]
            verdicts = sizes([(cell.reading, row.entries) for row, cell in live], self.options.limits)
            for (row, _), verdict in zip(live, verdicts, strict=True):
                self._replace((column.key, row.name), verdict)

    def _need_one_stage(self) -> None:
        """Of a part that a loss reaches, at least one stage must have a gradient."""
        for column in self.result.columns:
            for part in self.wiring.needed_parts(column.task, column.term):
                keys = [(column.key, row.name) for row in self.result.rows if row.part == part and row.trains]
                cells = [self.result.cells[key] for key in keys]
                if not any(cell.reading.live or cell.reading.bad for cell in cells):
                    for key, cell in zip(keys, cells, strict=True):
                        if cell.expected.need is Need.ALLOWED:
                            self._replace(key, Verdict.MISSING)

    def _report_cells(self) -> None:
        """Make one finding of all cells that say the same of one task and one part."""
        grouped: dict[tuple[str, str, Verdict], dict[str, list[str]]] = {}
        for column in self.result.columns:
            for row, cell in zip(self.result.rows, self.result.column(column.key), strict=True):
                if not cell.verdict.violated:
                    continue
                by_loss = grouped.setdefault((column.task, row.part, cell.verdict), {})
                if column.term is not None or not any(row.name in stages for stages in by_loss.values()):
                    by_loss.setdefault(column.key, []).append(row.name)
        for (task, part, verdict), by_loss in grouped.items():
            stages = list(dict.fromkeys(name for names in by_loss.values() for name in names))
            losses = ", ".join(by_loss)
            why = self.result.cells[next(iter(by_loss)), stages[0]].expected.why
            text = self._explain(task, next(iter(by_loss)), stages, verdict)
            message = f"{_expectation(verdict)} ({why}); {text}".rstrip("; ")
            where = f"{losses} -> {part} ({listed(stages, most=4)})"
            self.result.findings.append(Finding(verdict.value, where, message))
        told = {(task, verdict) for task, _, verdict in grouped}
        for item in self.result.edges:
            if item.verdict.violated and (item.edge.task, item.verdict) not in told:
                message = f"{_expectation(item.verdict)} ({item.expected.why})"
                self.result.findings.append(Finding(item.verdict.value, str(item.edge), message))

    # ------------------------------------------------------------------------------------------ explanation

    def _trace(self, key: str, gradients: bool) -> Trace:
        if (key, gradients) not in self._traces:
            run = self._losses_by_key
            self._traces[key, gradients] = record(self.tracker, run, key, gradients=gradients)
        return self._traces[key, gradients]

    def _losses_by_key(self) -> dict[str, Tensor]:
        return {term.key: loss for term, loss in self._forward(watch=False)[0].items()}

    def _explain(self, task: str, key: str, names: list[str], verdict: Verdict) -> str:
        """Say where in the code it happens."""
        if not self.options.explain:
            return ""
        if "/" not in key:
            key = next(column.key for column in self.result.columns if column.task == task)
        sources = [
            parameter
            for item in self.model_stages
            if item.name in names
            for parameter in item.parameters.values()
        ]
        zeros = any(
            self.result.cells[key, name].reading.graph for name in names if (key, name) in self.result.cells
        )
        explanations: dict[Verdict, Callable[[], str]] = {
            Verdict.MISSING: lambda: why_missing(self._trace(key, True), sources, zeros=zeros),
            Verdict.LEAKING: lambda: why_leaking(self._trace(key, False), sources, task),
            Verdict.NON_FINITE: lambda: why_not_finite(self._trace(key, True)),
        }
        return explanations[verdict]() if verdict in explanations else self._sizes_of(key, names)

    def _sizes_of(self, key: str, names: list[str]) -> str:
        rows = {row.name: row for row in self.result.rows}
        texts = [
            f"{name} {self.result.cells[key, name].reading.norm:.2e} over {rows[name].entries:,} parameters"
            for name in names
            if (key, name) in self.result.cells
        ]
        return f"norms: {listed(texts, most=4)}"

    def _report_error(self, term: Term, error: RuntimeError) -> None:
        message = f"the backward pass fails: {str(error).splitlines()[0]}"
        if self.options.explain:
            writes = [
                str(operation)
                for operation in self._trace(term.key, False).operations
                if operation.in_place and operation.needed
            ]
            message += f"; writes in place: {listed(writes, '; ', most=3)}" if writes else ""
        self.result.findings.append(Finding("error", term.key, message))

    # ---------------------------------------------------------------------------------------- further checks

    def _check_stale(self) -> None:
        """A loss that doesn't change with the images, and still has a gradient, has it from elsewhere."""
        generator = torch.Generator().manual_seed(self.options.seed)
        clip = self._normalised()
        noise: dict[str, Any] = {
            name: torch.randn(getattr(clip, name).shape, generator=generator).to(clip.search)
            for name in ("template", "search", "detail")
            if getattr(clip, name) is not None
        }
        with torch.no_grad():
            first = self._forward(watch=False)[0]
            other = self._forward(watch=False, clip=replace(clip, **noise))[0]
        for term, loss in first.items():
            live = any(
                self.result.cells[term.key, row.name].reading.live
                for row in self.result.rows
                if (term.key, row.name) in self.result.cells
            )
            if live and torch.equal(loss, other[term]):
                message = "it doesn't change when the images do: it is computed from a tensor of another pass"
                self.result.findings.append(Finding("stale", term.key, message))

    def _check_step(self) -> None:
        """Make one step and hold its gradient against the weighted sum."""
        lambdas = {task: float(self.trainer.settings.lambdas.get(task, 1.0)) for task in self.tracker.heads()}
        torch.manual_seed(self.options.seed)
        step = observe_step(self.tracker, self.current, self.clip, None)
        expected = weighted_sum(self.tasks, lambdas)
        found = self.result.findings
        found += check_step(self.tracker, self.current, step, expected)
        self.result.groups = optimizer_groups(self.tracker, self.current.optimizer, step.changed)
        if step.refused is None and self.tasks:
            live = {name: g for name, g in step.gradients.items() if bool((g != 0).any())}
            weights, difference, wrong = check_sum(live, self.tasks, lambdas, self.options.limits)
            self.result.weights, self.result.sum_rule = weights, difference
            found += wrong


def _joined(one: EdgeCell, other: EdgeCell) -> EdgeCell:
    """Join what two terms of a task send over an edge: the worse verdict, the norms' root sum of squares."""
    order = [Verdict.NONE, Verdict.CONNECTED]
    verdict = max(one.verdict, other.verdict, key=lambda v: order.index(v) if v in order else len(order))
    expected = one.expected if one.expected.need is Need.REQUIRED else other.expected
    return EdgeCell(one.edge, (one.norm**2 + other.norm**2) ** 0.5, expected, verdict)


def _expectation(verdict: Verdict) -> str:
    return {
        Verdict.MISSING: "a gradient is due and none arrives",
        Verdict.LEAKING: "a gradient arrives where none may",
        Verdict.NON_FINITE: "the gradient is not finite",
        Verdict.VANISHING: "the gradient is next to nothing beside the loss's others",
        Verdict.EXPLODING: "the gradient is enormous beside the loss's others",
    }[verdict]
