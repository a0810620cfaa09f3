"""Weights from a learned uncertainty of each task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mtltrack.core.registry import BALANCING
from mtltrack.training.balancing.rule import Losses, LossRule, Weights, need_number


@BALANCING.register_module(name="uncertainty")
class Uncertainty(LossRule):
    """Uncertainty weighting: minimise sum_k exp(-s_k) lambda_k L_k + s_k over the weights and s.

    Paper: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
    and Semantics", CVPR 2018, equation 7 for regression with s = log sigma^2, doubled for every task: with
    s = 0, where it begins, the model's gradient is that of fixed weights. (The paper takes exp(-s) L + s/2
    for classification, which only moves the optimum of s by log 2.)

    The gradient of s_k, 1 - exp(-s_k) lambda_k L_k, is taken from the step's whole loss; a task without a
    label in a step has none, so that its s stays where it is. The s train in the stage's optimizer, without
    weight decay, at the stage's rate and schedule.

    Args:
        tasks: see `BalancingRule`.
        lr: learning rate of s; None for the stage's.
    """

    def __init__(self, tasks: Sequence[str], lr: float | None = None) -> None:
        super().__init__(tasks)
        if lr is not None:
            need_number("LR", lr)
        self.lr = lr
        self.log_variances = {task: nn.Parameter(torch.zeros(())) for task in tasks}

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.log_variances

    def rate(self, stage_rate: float) -> float:
        return stage_rate if self.lr is None else self.lr

    def weights(self, tasks: Sequence[str], losses: Callable[[], Losses]) -> Weights:  # noqa: ARG002
        return {task: math.exp(-self.log_variances[task].item()) for task in tasks}

    def before_update(self, losses: Callable[[], Losses]) -> None:
        for task, loss in losses().items():
            variance = self.log_variances[task]
            variance.grad = 1 - torch.exp(-variance.detach()) * loss

    def state_dict(self) -> dict[str, Any]:
        return {"log_variances": dict(self.log_variances)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for task, variance in self.log_variances.items():
            variance.copy_(state["log_variances"][task])
