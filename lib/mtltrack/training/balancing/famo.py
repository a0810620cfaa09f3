"""Weights that let every loss fall at the same rate, from the losses alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtltrack.core.registry import BALANCING
from mtltrack.training.balancing.rule import Losses, LossRule, Weights, need_number


@BALANCING.register_module(name="famo")
class FAMO(LossRule):
    """Fast adaptive multitask optimization: descend on the log losses, and learn their weights.

    Paper: Liu, Feng, Stone, Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, algorithm 1:
    with z = softmax(xi), the step goes along c sum_k z_k grad log l_k, 1 / c = sum_k z_k / l_k, that is, task
    k counts c z_k / l_k; here times K, so that the weights are 1 on average. After the step, xi goes
    down along J^T (log l(before) - log l(after)), J = d softmax(xi) / d xi, by Adam as in the authors' code:
    a task whose log loss fell faster than the others' counts less. l_k = lambda_k L_k + epsilon; a lambda
    cancels out of log l up to epsilon, and so acts on the scale c alone.

    The losses after the step are those of the same batches, with the same dropout: a forward pass more a
    step, and one more where TRAIN.ACCUMULATION_STEPS is above 1, because the weights of the first micro-batch
    already depend on the losses of the last.

    Args:
        tasks: see `BalancingRule`.
        lr: Adam's rate of xi.
        decay: gamma, Adam's weight decay of xi; the paper's 0.001.
        epsilon: keeps log l finite where a loss is 0.
    """

    remeasures = True

    def __init__(
        self, tasks: Sequence[str], lr: float = 0.025, decay: float = 1e-3, epsilon: float = 1e-8
    ) -> None:
        super().__init__(tasks)
        need_number("LR", lr)
        need_number("DECAY", decay, zero=True)
        need_number("EPSILON", epsilon)
        self.epsilon = epsilon
        self.logits = {task: nn.Parameter(torch.zeros((), dtype=torch.float64)) for task in tasks}
        self.optimizer = torch.optim.Adam(list(self.logits.values()), lr=lr, weight_decay=decay)
        self._before: Losses = {}

    def weights(self, tasks: Sequence[str], losses: Callable[[], Losses]) -> Weights:
        self._before = dict(losses())
        if not all(math.isfinite(value) for value in self._before.values()):
            return dict.fromkeys(tasks, 1.0)  # the step will be refused
        shares = self._shares(tasks)
        steepness = [
            share / self._shifted(self._before[task]) for task, share in zip(tasks, shares, strict=True)
        ]
        total = math.fsum(steepness)
        return {task: len(tasks) * value / total for task, value in zip(tasks, steepness, strict=True)}

    def _shifted(self, loss: float) -> float:
        return max(loss, 0.0) + self.epsilon

    def _shares(self, tasks: Sequence[str]) -> list[float]:
        logits: list[Tensor] = [self.logits[task].detach() for task in tasks]
        found: list[float] = torch.softmax(torch.stack(logits), dim=0).tolist()
        return found

    def after_update(self, losses: Callable[[], Losses]) -> None:
        after, tasks = losses(), list(self._before)
        if not all(math.isfinite(value) for value in after.values()):
            return  # the next step will say so
        fell = [
            math.log(self._shifted(self._before[task])) - math.log(self._shifted(after[task]))
            for task in tasks
        ]
        shares = self._shares(tasks)
        mean = math.fsum(share * value for share, value in zip(shares, fell, strict=True))
        for task, share, value in zip(tasks, shares, fell, strict=True):
            self.logits[task].grad = torch.tensor(share * (value - mean), dtype=torch.float64)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {"logits": dict(self.logits), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for task, logit in self.logits.items():
                logit.copy_(state["logits"][task])
        self.optimizer.load_state_dict(state["optimizer"])
