"""The audit of one stage of training: measure, compare with what is expected, say what differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from mtltrack.core.types import BOX, Clip
from mtltrack.training.audit.expectation import Wiring
from mtltrack.training.audit.explain import Explainer
from mtltrack.training.audit.history import check_history, history_reach
from mtltrack.training.audit.loop import (
    check_modes,
    check_optimizer,
    check_step,
    observe_step,
    optimizer_groups,
)
from mtltrack.training.audit.measurement import Measurement, compare, measure
from mtltrack.training.audit.model_stages import model_stages
from mtltrack.training.audit.passes import Passes
from mtltrack.training.audit.readings import Limits, Verdict
from mtltrack.training.audit.report import Finding, Row, StageAudit
from mtltrack.training.audit.sums import check_sum, cosines, weighted_sum
from mtltrack.training.texts import listed

FLAT = 1e-6  # a loss with less of a gradient on its head's answers may not change in float32
EXPECTATIONS = {
    Verdict.MISSING: "a gradient is due and none arrives",
    Verdict.LEAKING: "a gradient arrives where none may",
    Verdict.NON_FINITE: "the gradient is not finite",
    Verdict.VANISHING: "the gradient is next to nothing beside that on what the head predicts",
    Verdict.EXPLODING: "the gradient is enormous beside that on what the head predicts",
}


@dataclass(frozen=True)
class AuditOptions:
    """How to audit.

    Attributes:
        limits: see `Limits`.
        explain: look for the place in the code of what is wrong, which runs the forward pass again.
        seed: of what is still drawn at random.
        real: the clip's labels are what data gave, and a loss may lie in a flat stretch: then sizes are told,
            and are no violation.
    """

    limits: Limits = field(default_factory=Limits)
    explain: bool = True
    seed: int = 0
    real: bool = False


class StageAuditor:
    """Audits the stage that a trainer has entered.

    Args:
        trainer: see `Trainer`.
        current: what `trainer.enter` returned.
        clip: with labels, as it comes from the loader.
        options: see `AuditOptions`.
    """

    def __init__(self, trainer: Any, current: Any, clip: Clip, options: AuditOptions) -> None:
        self.settings, self.autocast = trainer.settings, trainer.accelerator.autocast
        self.tracker, self.current, self.options = trainer.tracker, current, options
        self.stage = current.active
        self.passes = Passes(trainer, current, clip, options.seed)
        self.explainer = Explainer(self.tracker, self.passes)
        self.model_stages = model_stages(self.tracker)

    def run(self) -> StageAudit:
        """Return the audit of the stage."""
        result = StageAudit(self.stage.name, sorted(self.stage.trains), sorted(self.stage.losses))
        result.findings += check_modes(self.tracker, self.stage, self.settings.batch_norm)
        unread = set(self.tracker.unread_parameters())
        result.findings += check_optimizer(self.tracker, self.current.optimizer, unread)
        found, wiring = self._measured()
        result.rows = [
            Row(stage.name, stage.part, stage.entries, wiring.trains(stage)) for stage in self.model_stages
        ]
        result.trunk = wiring.trunk
        result.columns, result.cells = found.columns, found.cells
        result.edges = [found.edges[edge] for edge in sorted(found.edges)]
        result.cosines = cosines(found.tasks)
        result.findings += self._unlabelled(found)
        result.findings += self._errors(found)
        result.findings += self._cells(found)
        result.findings += self._edges(found, wiring)
        result.findings += self._silent_writes(found)
        result.findings += self._stale(found)
        self._check_history(result)
        self._check_step(result, found)
        return result

    def _measured(self) -> tuple[Measurement, Wiring]:
        seen = self.passes.run()
        given = {task: set(call.edges) for task, call in seen.calls.items()}
        wiring = Wiring(self.tracker, self.stage, given, self.passes.uses(seen))
        found = measure(self.tracker, seen, wiring, self.model_stages)
        compare(found, wiring, self.model_stages, self.options.limits)
        return found, wiring

    # -------------------------------------------------------------------------------------------- findings

    def _unlabelled(self, found: Measurement) -> Iterator[Finding]:
        seen = {column.task for column in found.columns} | {term.task for term in found.errors}
        for task in sorted(self.stage.losses - seen):
            message = "the clip has no label of it, so that its gradients can't be audited"
            yield Finding("unlabelled", task, message, violation=False)

    def _errors(self, found: Measurement) -> Iterator[Finding]:
        for term, error in found.errors.items():
            why = self.explainer.error(term.key) if self.options.explain else ""
            yield Finding("error", term.key, f"the backward pass fails: {error}; {why}".rstrip("; "))

    def _cells(self, found: Measurement) -> Iterator[Finding]:
        """Make one finding of all cells that say the same of one task and one part."""
        grouped: dict[tuple[str, str, Verdict], dict[str, list[str]]] = {}
        for column in found.columns:
            for stage in self.model_stages:
                verdict = found.cells[column.key, stage.name].verdict
                if not verdict.violated:
                    continue
                losses = grouped.setdefault((column.task, stage.part, verdict), {})
                if column.term is not None or not any(stage.name in names for names in losses.values()):
                    losses.setdefault(column.key, []).append(stage.name)
        told: dict[tuple[str, str, Verdict], dict[str, list[str]]] = {}  # what is said -> part -> stages
        for (_, part, verdict), losses in grouped.items():
            names = list(dict.fromkeys(name for stages in losses.values() for name in stages))
            key = next(iter(losses))
            why = found.cells[key, losses[key][0]].expected.why
            text = self._explanation(found, key, losses[key], verdict) if self.options.explain else ""
            message = f"{EXPECTATIONS[verdict]} ({why}); {text}".rstrip("; ")
            told.setdefault((", ".join(losses), message, verdict), {})[part] = names
        for (losses_text, message, verdict), parts in told.items():
            every = [name for names in parts.values() for name in names]
            where = f"{losses_text} -> {', '.join(parts)} ({listed(every, most=4)})"
            counts = not (self.options.real and verdict in (Verdict.VANISHING, Verdict.EXPLODING))
            yield Finding(verdict.value, where, message, violation=counts)

    def _explanation(self, found: Measurement, key: str, names: list[str], verdict: Verdict) -> str:
        cells = {stage: found.cells[key, stage.name] for stage in self.model_stages if stage.name in names}
        terms = [column for column in found.columns if column.task == key.split("/")[0] and column.term]
        return self.explainer.cells(key if "/" in key else terms[0].key, cells, verdict)

    def _edges(self, found: Measurement, wiring: Wiring) -> Iterator[Finding]:
        """Report edges whose fault no stage of the model shows."""
        told = {
            (key.split("/")[0], cell.verdict)
            for (key, _), cell in found.cells.items()
            if cell.verdict.violated
        }
        for edge, item in found.edges.items():
            if not item.verdict.violated or (edge.task, item.verdict) in told:
                continue
            text = ""
            if self.options.explain and item.verdict is Verdict.MISSING:
                terms = [column for column in found.columns if column.task == edge.task and column.term]
                column = next(c for c in terms if edge in wiring.edges(edge.task, c.term))
                text = self.explainer.edge(column.key, item)
            message = f"{EXPECTATIONS[item.verdict]} ({item.expected.why}); {text}".rstrip("; ")
            yield Finding(item.verdict.value, str(edge), message)

    def _silent_writes(self, found: Measurement) -> Iterator[Finding]:
        keys = [column.key for column in found.columns if column.term is not None]
        writes = self.explainer.silent_writes(keys[0]) if keys and self.options.explain else ""
        if writes:
            message = f"values change where no graph sees it, so that gradients are there and wrong: {writes}"
            yield Finding("silent write", "the forward pass", message)

    def _stale(self, found: Measurement) -> Iterator[Finding]:
        """A loss that doesn't change with the images, and still has a gradient, has it from elsewhere."""
        generator = torch.Generator().manual_seed(self.options.seed)
        clip = self.passes.normalised()
        noise: dict[str, Any] = {
            name: torch.randn(getattr(clip, name).shape, generator=generator).to(clip.search)
            for name in ("template", "search", "detail")
            if getattr(clip, name) is not None
        }
        with torch.no_grad():
            first, other = self.passes.run().losses, self.passes.run(replace(clip, **noise)).losses
        steep = {key for key, scale in found.scales.items() if scale == 0 or scale > FLAT}
        live = {key for (key, _), cell in found.cells.items() if cell.reading.live} & steep
        for term, loss in first.items():
            if term.key in live and torch.equal(loss, other[term]):
                message = (
                    "it doesn't change when the images do: it is computed from a tensor of another pass, or "
                    "what it reads is overwritten"
                )
                yield Finding("stale", term.key, message)

    # ----------------------------------------------------------------------------------- history and a step

    def _check_history(self, result: StageAudit) -> None:
        if BOX in self.stage.losses:
            with self.autocast():
                clip = self.passes.normalised()
                result.history = history_reach(self.tracker, clip, self.passes.clip)
        if result.history is not None:
            steps = getattr(self.tracker, "history_steps", None)
            result.findings += check_history(result.history, steps)

    def _check_step(self, result: StageAudit, found: Measurement) -> None:
        """Make one step as training does, and hold its gradient against the weighted sum of the tasks'."""
        lambdas = {task: float(self.settings.lambdas.get(task, 1.0)) for task in self.tracker.heads()}
        torch.manual_seed(self.options.seed)
        step = observe_step(self.tracker, self.current, self.passes.clip, None)
        expected = weighted_sum(found.tasks, lambdas)
        result.findings += check_step(self.tracker, self.current, step, expected)
        result.groups = optimizer_groups(self.tracker, self.current.optimizer, step.changed)
        if step.refused is None and found.tasks:
            total = {name: g for name, g in step.gradients.items() if bool((g != 0).any())}
            weights, difference, wrong = check_sum(total, found.tasks, lambdas, self.options.limits)
            result.weights, result.sum_rule = weights, difference
            result.findings += wrong
