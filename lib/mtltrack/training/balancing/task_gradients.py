"""The gradients of single tasks in a step, summed over micro-batches and averaged over ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtltrack.training.weighting import world_size

Found = list[Tensor | None]  # one a parameter


class TaskGradients:
    """Collects the gradient of each of several losses: a backward pass and a copy of the gradients a loss.

    Taken with `torch.autograd.grad`, so that DDP, which listens to `backward`, doesn't average anything:
    `reduce` does.

    Args:
        parameters: by which the losses are differentiated.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.found: dict[str, Found] = {}

    def add(self, losses: Mapping[str, Tensor], scale: Callable[[Tensor], Tensor] | None = None) -> None:
        """Add the gradients of one micro-batch; frees its graph.

        Args:
            losses: scalars by name; those without a graph are left out.
            scale: scales a loss for half precision; the gradients stay scaled.
        """
        live = {name: loss for name, loss in losses.items() if loss.requires_grad}
        for number, (name, loss) in enumerate(live.items(), start=1):
            gradients = torch.autograd.grad(
                loss if scale is None else scale(loss),
                self.parameters,
                retain_graph=number < len(live),
                allow_unused=True,
            )
            before = self.found.get(name, [None] * len(self.parameters))
            self.found[name] = [_sum(one, other) for one, other in zip(before, gradients, strict=True)]

    def reduce(self) -> None:
        """Average over the ranks: a collective call a loss; a loss reaches the same parameters on each."""
        if world_size() == 1:
            return
        for gradients in self.found.values():
            there = [gradient for gradient in gradients if gradient is not None]
            if not there:
                continue
            flat = torch.cat([gradient.flatten() for gradient in there])
            torch.distributed.all_reduce(flat)
            flat /= world_size()
            pieces = flat.split([gradient.numel() for gradient in there])
            for gradient, piece in zip(there, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    def limit(self, name: str, largest: float, apart: Collection[int]) -> float:
        """Scale a loss's gradient down to a norm of at most `largest`, but for the parameters `apart`.

        Args:
            name: of the loss.
            largest: norm, of the gradients as they are (scaled).
            apart: numbers of the parameters that are left out.

        Returns:
            the factor; 1 also where the norm isn't finite: the step will be refused.
        """
        gradients = [
            gradient
            for number, gradient in enumerate(self.found[name])
            if gradient is not None and number not in apart
        ]
        norm = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
        if not (math.isfinite(norm) and norm > largest):
            return 1.0
        for gradient in gradients:
            gradient.mul_(largest / norm)
        return largest / norm

    def shared(self) -> list[int]:
        """Return the numbers of the parameters that more than one of the losses reaches."""
        return [
            number
            for number in range(len(self.parameters))
            if sum(gradients[number] is not None for gradients in self.found.values()) > 1
        ]

    def gramian(self, numbers: Sequence[int]) -> Tensor:
        """Return the scalar products of the losses' gradients on some parameters: (K, K) float64, CPU."""
        losses = list(self.found.values())
        device = self.parameters[0].device
        total = torch.zeros(len(losses), len(losses), dtype=torch.float64, device=device)
        for number in numbers:
            here = [gradients[number] for gradients in losses]
            zero = torch.zeros_like(self.parameters[number])
            rows = torch.stack([zero if row is None else row for row in here]).flatten(1).double()
            total += rows @ rows.T
        return total.cpu()

    def combined(self, number: int, weights: Mapping[str, float]) -> Tensor | None:
        """Return the weighted sum of the losses' gradients on a parameter, None where none reaches it."""
        total: Tensor | None = None
        for name, gradients in self.found.items():
            gradient = gradients[number]
            if gradient is not None:
                total = _sum(total, gradient * weights[name])
        return total


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
