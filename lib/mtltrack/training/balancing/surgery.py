"""Rules that resolve conflicts between the tasks' gradients, solved by TorchJD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtltrack.core.errors import ConfigError
from mtltrack.core.registry import BALANCING
from mtltrack.training.balancing.rule import GradientRule, Weights, need_number


class Surgery(GradientRule):
    """A rule of TorchJD's `aggregation`: the step's gradient is a weighted sum of the tasks' gradients."""

    def _build(self, name: str, **arguments: Any) -> Any:
        """Return TorchJD's weighting of that name; imported here, as it is an extra.

        Raises:
            ConfigError: TorchJD, or the solver that the weighting needs, isn't installed.
        """
        try:
            from torchjd import aggregation

            return getattr(aggregation, name)(**arguments)
        except ImportError as error:
            raise ConfigError(
                f"it needs TorchJD and its solvers ({error}); install them with pip install 'mtltrack[mtl]', "
                "or choose fixed, uncertainty, dwa or famo"
            ) from error


@BALANCING.register_module(name="pcgrad")
class PCGrad(Surgery):
    """Projects each task's gradient off those that it conflicts with, in random order, and sums them.

    Paper: Yu and others, "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, algorithm 1. The order is
    drawn from a generator of its own, seeded by the number of the step in the stage: the same on every rank
    and in a resumed run.

    Args:
        tasks: see `BalancingRule`.
        seed: of the order.
    """

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(tasks)
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"SEED is {seed!r}; wanted a whole number of at least 0")
        self.seed, self._steps = seed, 0
        self._weighting = self._build("PCGradWeighting")

    def weights(self, tasks: Sequence[str], gramian: Tensor) -> Weights:
        kept = torch.get_rng_state()
        torch.default_generator.manual_seed(self.seed + self._steps)
        found = self._weighting(gramian)
        torch.set_rng_state(kept)
        self._steps += 1
        return dict(zip(tasks, found.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = int(state["steps"])


@BALANCING.register_module(name="cagrad")
class CAGrad(Surgery):
    """The direction near the mean gradient that helps the worst-off task most.

    Paper: Liu and others, "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021,
    algorithm 1, without the rescaling by 1 / (1 + c^2) of the authors' code; times K, so that c = 0 is
    the sum of the gradients.

    Args:
        tasks: see `BalancingRule`.
        c: radius of the search, relative to the norm of the mean gradient.
    """

    def __init__(self, tasks: Sequence[str], c: float = 0.4) -> None:
        super().__init__(tasks)
        need_number("C", c, zero=True)
        self._weighting = self._build("CAGradWeighting", c=c)

    def weights(self, tasks: Sequence[str], gramian: Tensor) -> Weights:
        return dict(zip(tasks, (len(tasks) * self._weighting(gramian)).tolist(), strict=True))


@BALANCING.register_module(name="upgrad")
class UPGrad(Surgery):
    """Projects each task's gradient onto the cone of directions that harm no task, and sums them.

    Paper: Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, with uniform
    preference; times K, so that without a conflict it is the sum of the gradients.

    Args:
        tasks: see `BalancingRule`.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks)
        self._weighting = self._build("UPGradWeighting")

    def weights(self, tasks: Sequence[str], gramian: Tensor) -> Weights:
        return dict(zip(tasks, (len(tasks) * self._weighting(gramian)).tolist(), strict=True))
