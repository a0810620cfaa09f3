"""What a balancing rule is: the two kinds, and the rule that leaves everything as the lambdas say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mtltrack.core.registry import BALANCING

Losses = Mapping[str, float]  # task -> lambda_k L_k of the whole step
Weights = dict[str, float]


def need_number(key: str, value: Any, *, zero: bool = False) -> None:
    """Make sure that an argument is a finite number above 0, or at least 0.

    Raises:
        ValueError: it isn't.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (is_number and (value > 0 or (zero and value == 0))):
        wanted = "a number of at least 0" if zero else "a number above 0"
        raise ValueError(f"{key} is {value!r}; wanted {wanted}")


class BalancingRule:
    """A factor for each task of a step. The base counts every task as its lambda says.

    The lambdas come first in every rule: what a rule is shown of task k is lambda_k L_k, or the gradient of
    that, and its factor is applied on top. The factors of a step are 1 on average wherever the published rule
    leaves their scale open, so that learning rates and TRAIN.GRAD_CLIP_NORM keep their meaning.

    A rule belongs to one stage of training and is shown only tasks that have a label in the step (on any
    rank, in any micro-batch): the others are neither weighed nor remembered. Numbers are on the host and the
    same on every rank.

    Args:
        tasks: whose losses count in the stage.
    """

    remeasures = False  # `after_update` asks for the losses again

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = list(tasks)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what the stage's optimizer trains for the rule, by task; it gets a group of its own."""
        return {}

    def rate(self, stage_rate: float) -> float:
        """Return the learning rate of `parameters`."""
        return stage_rate

    def before_update(self, losses: Callable[[], Losses]) -> None:
        """The step's gradients are there and finite; the optimizer's step comes next.

        Args:
            losses: returns those of the step; costs a wait for the device.
        """

    def after_update(self, losses: Callable[[], Losses]) -> None:
        """The optimizer's step was made.

        Args:
            losses: returns those of the same batches now; costs a forward pass.
        """

    def end_epoch(self) -> None:
        """An epoch is over."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain types and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""


class LossRule(BalancingRule):
    """A rule that weighs the losses: one backward pass, whatever the number of tasks."""

    def weights(self, tasks: Sequence[str], losses: Callable[[], Losses]) -> Weights:
        """Return the factors of this step's labelled tasks.

        Args:
            tasks: the labelled ones.
            losses: returns those of the step.
        """
        raise NotImplementedError


class GradientRule(BalancingRule):
    """A rule that weighs the tasks' gradients on shared parameters: a backward pass a task."""

    def weights(self, tasks: Sequence[str], gramian: Tensor) -> Weights:
        """Return the factors of this step's labelled tasks.

        Args:
            tasks: the labelled ones, at least two.
            gramian: (K, K) float64 on the CPU, scalar products of their gradients, finite, of mean diagonal
                1.
        """
        raise NotImplementedError


@BALANCING.register_module(name="fixed")
class Fixed(BalancingRule):
    """Every task counts as its lambda says: L_total = L_box + sum_k lambda_k L_k."""
