"""Gradients watched in training: cheap norms and cosines often, the whole matrix now and then.

A look takes gradients from the graph of the step that is being made, before its own backward pass, and adds
to no parameter's: a training with it and one without end with the same weights, bit for bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from mtltrack.core.types import Clip
from mtltrack.training.audit.expectation import Need, Wiring
from mtltrack.training.audit.heatmap import heatmap_figure
from mtltrack.training.audit.inputs import Edge, used_edges, watched_inputs
from mtltrack.training.audit.model_stages import ModelStage, model_stages
from mtltrack.training.audit.objective import head_terms
from mtltrack.training.audit.readings import Reading, norm_of, read
from mtltrack.training.audit.state import chance_and_buffers_kept
from mtltrack.training.stages import Stage
from mtltrack.training.weighting import LossReport, valid_labels

PATIENCE = (
    3  # looks in a row in which a gradient is zero before it is told: a batch may have nothing to teach
)


class GradientWatch:
    """Looks at the gradients of one stage of training.

    Args:
        trainer: see `Trainer`.
        stage: as it is now.
        interval: steps between looks at the last shared stage of the model, and at one task's head. Of more
            than three tasks a look takes more than half, in turn, so that each pair meets in some looks.
        full_interval: steps between looks at the whole matrix.
    """

    def __init__(self, trainer: Any, stage: Stage, interval: int, full_interval: int) -> None:
        self.trainer, self.tracker, self.stage = trainer, trainer.tracker, stage
        self.interval, self.full_interval = interval, full_interval
        self.model_stages = [item for item in model_stages(self.tracker) if item.part in stage.trains]
        self.shared = last_shared(self.tracker, self.model_stages)
        self._given: dict[str, set[Edge]] = {}
        self._uses: dict[str, dict[str, set[Edge]]] = {}
        self._known: set[str] = set()
        self._looks = 0
        self._zeros: Counter[tuple[str, str]] = Counter()
        self._told: set[tuple[str, str]] = set()

    # ----------------------------------------------------------------------------------------------- a step

    def prepare(self, clip: Clip) -> None:
        """Find out what the heads read, before a step that is looked at; once for each task that has labels.

        Args:
            clip: of that step, as it comes from the loader.
        """
        if not (self._due(self.interval) or self._due(self.full_interval)):
            return
        new = [task for task in _labelled(clip, self.stage.losses) if task not in self._known]
        self._known.update(new)
        called = {task: head for task, head in self.tracker.task_parts().items() if task in new}
        if not called:
            return
        heads, settings, few = self.tracker.heads(), self.trainer.settings, _some_rows(clip, new)
        with chance_and_buffers_kept(self.tracker), torch.no_grad(), self.trainer.accelerator.autocast():
            with watched_inputs(called) as calls:
                self.tracker(few.normalised(list(settings.mean), list(settings.std)))
            for task, call in calls.items():
                self._given[task] = set(call.edges)
                self._uses[task] = used_edges(call, head_terms(task, heads[task], few))

    def look(self, report: LossReport, clip: Clip) -> None:
        """Take the gradients of a step's last batch, if it is time, and tell the monitors.

        Args:
            report: with the losses' graphs, which are kept.
            clip: with its labels.
        """
        full, some = self._due(self.full_interval), self._due(self.interval)
        if not (full or some):
            return
        labelled = _labelled(clip, report.losses)
        looked_at = self._choose([task for task in report.losses if task in labelled], full)
        gradients = {task: self._gradients(report.losses[task], items) for task, items in looked_at.items()}
        readings = {
            (task, item.name): read(item.parameters, gradients[task])
            for task, items in looked_at.items()
            for item in items
        }
        values = {
            f"grad/{task}/{name}": reading.norm for (task, name), reading in readings.items() if reading.graph
        }
        values.update(self._conflicts(gradients))
        step = self.trainer.position.step + 1
        self.trainer.monitors.tell(lambda monitor: monitor.gradients(values, step))
        if full:
            names = [item.name for item in self.model_stages]
            norms = {key: reading.norm for key, reading in readings.items()}
            figure = heatmap_figure(norms, list(gradients), names, f"gradient norms, step {step}")
            self.trainer.monitors.tell(lambda monitor: monitor.figure("grad/matrix", figure, step))
        self._warn(readings, step)

    def _due(self, interval: int) -> bool:
        return interval > 0 and (self.trainer.position.step + 1) % interval == 0

    def _choose(self, tasks: list[str], full: bool) -> dict[str, list[ModelStage]]:
        """Return which tasks are looked at, and where."""
        if full or not tasks:
            return dict.fromkeys(tasks, self.model_stages)
        first = self._looks % len(tasks)
        self._looks += 1
        some = (tasks * 2)[first : first + (len(tasks) if len(tasks) <= 3 else len(tasks) // 2 + 1)]
        head = [item for item in self.model_stages if item.part == some[0]]
        shared = [] if self.shared is None else [self.shared]
        return {task: shared + (head if task == some[0] else []) for task in some}

    def _gradients(self, loss: Tensor, items: Sequence[ModelStage]) -> dict[str, Tensor | None]:
        parameters = {
            name: parameter
            for item in items
            for name, parameter in item.parameters.items()
            if parameter.requires_grad
        }
        if not parameters or not loss.requires_grad:
            return {}
        scaler = self.trainer.accelerator.scaler
        scale = 1.0 if scaler is None else float(scaler.get_scale())  # small ones would vanish in fp16
        found = torch.autograd.grad(
            loss * scale, list(parameters.values()), retain_graph=True, allow_unused=True
        )
        return {
            name: None if gradient is None else gradient / scale
            for name, gradient in zip(parameters, found, strict=True)
        }

    def _conflicts(self, gradients: Mapping[str, Mapping[str, Tensor | None]]) -> dict[str, float]:
        """Return the cosine of each pair of tasks on the last shared stage."""
        if self.shared is None:
            return {}
        flat = {task: self._flat(found, self.shared) for task, found in gradients.items()}
        units: dict[str, Tensor] = {}
        for task, vector in flat.items():
            size = 0.0 if vector is None else norm_of([vector])
            if vector is not None and size > 0 and math.isfinite(size):
                units[task] = vector.double().div_(size)
        return {
            f"conflict/{one}_{other}": float(torch.dot(units[one], units[other]))
            for one, other in combinations(units, 2)
        }

    @staticmethod
    def _flat(found: Mapping[str, Tensor | None], shared: ModelStage) -> Tensor | None:
        parts = [(found.get(name), parameter) for name, parameter in shared.parameters.items()]
        if all(gradient is None for gradient, _ in parts):
            return None
        return torch.cat(
            [
                (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
                for gradient, parameter in parts
            ]
        )

    # ---------------------------------------------------------------------------------------------- warnings

    def state_dict(self) -> dict[str, Any]:
        """Return what earlier looks have left, as plain types."""
        uses = [
            [task, term, _rows(edges)] for task, terms in self._uses.items() for term, edges in terms.items()
        ]
        return {
            "given": {task: _rows(edges) for task, edges in self._given.items()},
            "uses": uses,
            "known": sorted(self._known),
            "looks": self._looks,
            "zeros": [[*key, count] for key, count in self._zeros.items()],
            "told": [list(key) for key in sorted(self._told)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._given = {task: {Edge(*edge) for edge in edges} for task, edges in state["given"].items()}
        self._uses = {task: {} for task in self._given}
        for task, term, edges in state["uses"]:
            self._uses[task][term] = {Edge(*edge) for edge in edges}
        self._known, self._looks = set(state["known"]), state["looks"]
        self._zeros = Counter({(task, name): count for task, name, count in state["zeros"]})
        self._told = {(task, name) for task, name in state["told"]}

    def _warn(self, readings: Mapping[tuple[str, str], Reading], step: int) -> None:
        wiring = Wiring(self.tracker, self.stage, self._given, self._uses)
        items = {item.name: item for item in self.model_stages}
        for key, reading in readings.items():
            task, name = key
            due = task in self._known and wiring.cell(task, None, items[name]).need is Need.REQUIRED
            if key in self._told or not due:
                continue
            self._zeros[key] = 0 if reading.norm > 0 else self._zeros[key] + 1
            if reading.bad > 0:
                self._tell(key, f"is not finite at step {step} ({reading.bad:.1%} of its entries)")
            elif self._zeros[key] == PATIENCE:
                self._tell(key, f"was zero at {PATIENCE} looks in a row, the last at step {step}")

    def _tell(self, key: tuple[str, str], what: str) -> None:
        self._told.add(key)
        self.trainer.monitors.message(
            f"warning: the gradient of task {key[0]} on {key[1]}, where one is due, {what}; "
            "tools/audit_gradients.py says why"
        )


def _rows(edges: Collection[Edge]) -> list[list[str]]:
    return [[edge.source, edge.name, edge.task] for edge in sorted(edges)]


def last_shared(tracker: Any, stages: Sequence[ModelStage]) -> ModelStage | None:
    """Return the last of the stages that stand before all heads and hold a matrix, or None."""
    heads = set(tracker.heads())
    shared = [
        item
        for item in stages
        if item.part not in heads and any(parameter.dim() > 1 for parameter in item.parameters.values())
    ]
    return shared[-1] if shared else None


def _some_rows(clip: Clip, tasks: Collection[str]) -> Clip:
    """Return a few clips of a batch, among them one with a label of each task."""
    rows = {0, min(1, clip.batch_size - 1)}  # two, where batch norms take statistics
    for task in tasks:
        valid = valid_labels(clip, task)
        assert valid is not None
        rows.add(int(valid.any(1).nonzero()[0]))
    return clip.rows(sorted(rows))


def _labelled(clip: Clip, tasks: Any) -> set[str]:
    found = {task: valid_labels(clip, task) for task in tasks}
    return {task for task, valid in found.items() if valid is not None and bool(valid.any())}
