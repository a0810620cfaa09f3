"""A balancing rule at work in the steps of training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mtltrack.core.types import BOX
from mtltrack.training.balancing.rule import (
    BalancingRule,
    Fixed,
    GradientRule,
    Losses,
    LossRule,
    Weights,
)
from mtltrack.training.balancing.task_gradients import TaskGradients
from mtltrack.training.weighting import Counts, LossReport, world_size

REST = "rest"  # the losses that share one backward pass
Measure = Callable[[], Sequence[LossReport]]


class Balancer:
    """Makes the backward passes of a step as the rule wants them.

    With the fixed rule and no limit it is one backward pass of the total. A rule that weighs losses makes one
    of the weighted sum. A rule that weighs gradients takes each labelled task's gradient; on the parameters
    that more than one of them reaches it sums them by the rule's factors, on the others they stay as they
    are. The limits of single tasks cost a backward pass each, and hold for the gradient of
    lambda_k L_k over all parameters outside the task's own head, before the rule's factor. A task whose
    lambda is 0 counts as one without labels.

    Args:
        accelerator: precision and ranks.
        heads: the tracker's heads by task.
        parameters: that train.
        rule: of the stage.
        lambdas: weight of each task.
        clip_norms: TRAIN.TASK_CLIP_NORM.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        heads: Mapping[str, nn.Module],
        parameters: Sequence[nn.Parameter],
        rule: BalancingRule,
        lambdas: Mapping[str, float],
        clip_norms: Mapping[str, float],
    ) -> None:
        self.accelerator, self.heads, self.rule = accelerator, heads, rule
        self.lambdas = {task: float(lambdas.get(task, 1.0)) for task in heads}
        self.parameters = list(parameters)
        self.clip_norms = {task: norm for task, norm in clip_norms.items() if task in rule.tasks}
        self._own = {
            task: {id(parameter) for parameter in heads[task].parameters()} for task in self.clip_norms
        }
        self.separate = bool(self.clip_norms) or isinstance(rule, GradientRule)
        self.plain = not self.separate and isinstance(rule, Fixed)

    # ------------------------------------------------------------------------------------------------ a step

    def begin(self, counts: Counts, excluded: Collection[str], micro_batches: int, measure: Measure) -> None:
        """Begin a step.

        Args:
            counts: see `label_counts`.
            excluded: tasks that don't count.
            micro_batches: of the step.
            measure: makes the step's forward passes without gradients and returns their losses.
        """
        self._measure = measure
        self._reports: list[LossReport] = []
        self._weights: Weights | None = None
        self._factors: dict[str, float] = {}
        self._gradients = TaskGradients(self.parameters)
        self.labelled: list[str] = []
        if not self.plain:
            sums = torch.stack([count.sum() for count in counts.values()]).tolist()
            labelled = {task for task, number in zip(counts, sums, strict=True) if number > 0}
            balanced = {task for task in labelled - set(excluded) if self.lambdas[task] != 0}
            self.labelled = [task for task in self.rule.tasks if task in balanced]
        # several losses are needed before the first backward pass; not after a forward pass that still waits
        # for its own: measuring restores buffers that its graph keeps
        several = self.rule.remeasures and micro_batches > 1
        self._measured = self._read(measure()) if several else None

    @property
    def compares_losses(self) -> bool:
        """Whether `take` is a collective call for a step's first micro-batch."""
        return isinstance(self.rule, LossRule) and bool(self.labelled)

    def take(self, report: LossReport) -> None:
        """Take in the losses of a micro-batch, before its `backward`."""
        self._reports.append(report)
        if self.compares_losses:
            self._loss_weights()

    def forget(self) -> None:
        """Let go of a step that is not to be finished."""
        self._reports = []
        self._gradients = TaskGradients(self.parameters)

    def backward(self, report: LossReport) -> None:
        """Make the backward passes of a micro-batch."""
        if self.plain:
            self.accelerator.backward(report.total)
        elif not self.separate:
            self.accelerator.backward(self._sum_of(report, list(report.losses)))
        else:
            scaler = self.accelerator.scaler
            self._gradients.add(self._groups(report), None if scaler is None else scaler.scale)

    def _groups(self, report: LossReport) -> dict[str, Tensor]:
        """Return the losses whose gradients are taken one by one."""
        if isinstance(self.rule, GradientRule):
            return {task: self.lambdas[task] * report.losses[task] for task in self.labelled}
        single = [task for task in self.clip_norms if task in self.labelled]
        groups = {task: self.lambdas[task] * report.losses[task] for task in single}
        others = [task for task in report.losses if task not in single]
        return {**groups, REST: self._sum_of(report, others)} if others else groups

    def _sum_of(self, report: LossReport, tasks: Sequence[str]) -> Tensor:
        weights = self._loss_weights()
        terms = [weights.get(task, 1.0) * self.lambdas[task] * report.losses[task] for task in tasks]
        return torch.stack(terms).sum()

    def _loss_weights(self) -> Weights:
        """Return the rule's factors, the same for every micro-batch; those of gradients come at the end."""
        if self._weights is None:
            self._weights = {}
            if isinstance(self.rule, LossRule) and self.labelled:
                self._weights = self.rule.weights(self.labelled, self._losses_now)
        return self._weights

    def finish(self) -> None:
        """Put the gradients that were taken one by one together, into the parameters' own."""
        if not self.separate:
            return
        taken = self._gradients
        taken.reduce()
        scale = self._scale()
        for task, norm in self.clip_norms.items():
            if task in taken.found:
                own = {n for n, p in enumerate(self.parameters) if id(p) in self._own[task]}
                self._factors[task] = taken.limit(task, norm * scale, own)
        shared = set(range(len(self.parameters)))
        if isinstance(self.rule, GradientRule):
            shared = set(taken.shared())
            self._weights = self._gradient_weights(sorted(shared))
        weights = {name: self._loss_weights().get(name, 1.0) for name in taken.found}
        alone = dict.fromkeys(taken.found, 1.0)
        for number, parameter in enumerate(self.parameters):
            parameter.grad = taken.combined(number, weights if number in shared else alone)
        self._fill_unlabelled()

    def _gradient_weights(self, shared: Sequence[int]) -> Weights:
        ones = dict.fromkeys(self.labelled, 1.0)
        if len(self.labelled) < 2 or not isinstance(self.rule, GradientRule):
            return ones
        gramian = self._gradients.gramian(shared)
        size = gramian.diagonal().mean()
        if not (bool(torch.isfinite(gramian).all()) and size > 0):
            return ones  # nothing to balance, or a step that will be refused
        return self.rule.weights(self.labelled, gramian / size)

    def _fill_unlabelled(self) -> None:
        """Give what only unlabelled tasks reach a gradient of zeros, as the fixed rule does."""
        for task in self.rule.tasks:
            for parameter in self.heads[task].parameters() if task not in self.labelled else ():
                if parameter.requires_grad and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)

    def _scale(self) -> float:
        scaler = self.accelerator.scaler
        return 1.0 if scaler is None else float(scaler.get_scale())

    # ------------------------------------------------------------------------------------------------ losses

    def _losses_now(self) -> Losses:
        """Return the whole step's losses: from its only micro-batch, or measured before the first one."""
        return self._read(self._reports) if self._measured is None else self._measured

    def _read(self, reports: Sequence[LossReport]) -> Losses:
        """Return lambda_k L_k of the labelled tasks over the reports of a step, the same on every rank."""
        if not self.labelled:
            return {}
        sums = torch.stack([sum_of(reports, task) for task in self.labelled]).detach()
        if world_size() > 1:
            torch.distributed.all_reduce(sums)
            sums /= world_size()
        values = sums.tolist()
        return {task: self.lambdas[task] * value for task, value in zip(self.labelled, values, strict=True)}

    def before_update(self) -> None:
        """The gradients are there and finite."""
        self.rule.before_update(lambda: self._read(self._reports))

    def after_update(self) -> None:
        """The optimizer's step was made."""
        if self.rule.remeasures and self.labelled:
            self.rule.after_update(lambda: self._read(self._measure()))

    def weights(self, device: Any) -> dict[str, Tensor]:
        """Return what the rule did in the step, for the curves: "<task>", and "<task>/clip" where limited.

        The names are the same in every step of a stage; a task that wasn't labelled has 1.
        """
        if self.plain:
            return {}
        found = {task: self._loss_weights().get(task, 1.0) for task in self.rule.tasks}
        found.update({f"{task}/clip": self._factors.get(task, 1.0) for task in self.clip_norms})
        values = torch.tensor(list(found.values()), device=device).unbind()
        return dict(zip(found, values, strict=True))


def sum_of(reports: Sequence[LossReport], task: str) -> Tensor:
    """Return a task's loss over the micro-batches of a step."""
    return torch.stack([report.tasks[task] for report in reports]).sum()


def in_order(tasks: Collection[str]) -> list[str]:
    """Return tasks in one order for every rank and run: the box, then the others by name."""
    return sorted(tasks, key=lambda task: (task != BOX, task))
