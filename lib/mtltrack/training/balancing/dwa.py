"""Weights from how fast each loss has fallen over the last epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mtltrack.core.registry import BALANCING
from mtltrack.training.balancing.rule import Losses, LossRule, Weights, need_number


@BALANCING.register_module(name="dwa")
class DynamicWeightAverage(LossRule):
    """Dynamic weight average: a task whose loss falls slower than the others' counts more.

    Paper: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, section 3.2:
    w_k(t) = K exp(r_k / T) / sum_i exp(r_i / T), r_k = L_k(t-1) / L_k(t-2), L_k(t) the mean loss of epoch t;
    the first two epochs of a stage count all tasks alike. Here the mean is over the steps with a label of the
    task, K and the sum are over the tasks with a label in the step, and a task without two epochs that had
    one has r = 1. A lambda cancels out of r.

    Args:
        tasks: see `BalancingRule`.
        temperature: T; the larger, the more alike the weights.
    """

    def __init__(self, tasks: Sequence[str], temperature: float = 2.0) -> None:
        super().__init__(tasks)
        need_number("TEMPERATURE", temperature)
        self.temperature = temperature
        self._means: dict[str, list[float]] = {}  # of the last two epochs with a label, the older first
        self._sums: dict[str, list[float]] = {}  # of this epoch: losses, steps

    def weights(self, tasks: Sequence[str], losses: Callable[[], Losses]) -> Weights:  # noqa: ARG002
        ratios = torch.tensor([self._ratio(task) for task in tasks], dtype=torch.float64)
        found = len(tasks) * torch.softmax(ratios / self.temperature, dim=0)
        return dict(zip(tasks, found.tolist(), strict=True))

    def _ratio(self, task: str) -> float:
        older, *newer = self._means.get(task, [0.0])
        return newer[0] / older if newer and older > 0 else 1.0

    def before_update(self, losses: Callable[[], Losses]) -> None:
        for task, loss in losses().items():
            total, steps = self._sums.get(task, [0.0, 0.0])
            self._sums[task] = [total + loss, steps + 1]

    def end_epoch(self) -> None:
        for task, (total, steps) in self._sums.items():
            self._means[task] = [*self._means.get(task, []), total / steps][-2:]
        self._sums = {}

    def state_dict(self) -> dict[str, Any]:
        return {"means": self._means, "sums": self._sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._means = {task: list(means) for task, means in state["means"].items()}
        self._sums = {task: list(sums) for task, sums in state["sums"].items()}
