"""Parameters, gradients and the optimizer's state spread over the ranks (TRAIN.FSDP)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mtltrack.core.types import Clip, TaskOutput
from mtltrack.training.refusals import local


class ShardedTracker(nn.Module):
    """A tracker whose parameters are spread over the ranks by torch's `fully_shard`.

    Each block of the backbone is gathered when it is needed and let go again; the rest of the model is one
    more piece. A single number can't be spread: every rank holds it, and its gradient is averaged apart.
    Sharding needs modules that answer with plain containers, so the tracker stands inside of one that does,
    and is called through it only.

    Args:
        tracker: the model; its parameters become DTensors, under the same names.
        accelerator: device and ranks.
    """

    def __init__(self, tracker: Any, accelerator: Accelerator) -> None:
        super().__init__()
        self.plain = _PlainAnswers(tracker)
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        scalars = {parameter for parameter in tracker.parameters() if parameter.dim() == 0}
        for block in blocks_of(tracker):
            fully_shard(block, mesh=mesh, ignored_params=scalars)
        fully_shard(self.plain, mesh=mesh, ignored_params=scalars)

    def heads(self) -> dict[str, nn.Module]:
        return self.plain.tracker.heads()

    def forward(self, clip: Clip, **options: Any) -> dict[str, TaskOutput]:
        return {
            task: TaskOutput(features, predictions)
            for task, (features, predictions) in self.plain(clip, **options).items()
        }


class _PlainAnswers(nn.Module):
    def __init__(self, tracker: nn.Module) -> None:
        super().__init__()
        self.tracker: Any = tracker

    def forward(self, clip: Clip, **options: Any) -> dict[str, tuple[Tensor | None, dict[str, Any]]]:
        outputs = self.tracker(clip, **options)
        return {
            task: (_own(output.features), {name: _own(value) for name, value in output.predictions.items()})
            for task, output in outputs.items()
        }


def _own(value: Tensor | None) -> Tensor | None:
    """Return a tensor that is no view of another: changing a view would lose sight of the backward pass."""
    return value.clone() if value is not None and value.requires_grad else value


def blocks_of(tracker: Any) -> list[nn.Module]:
    """Return the blocks of the tracker's backbone, each of which is gathered by itself."""
    blocks = getattr(tracker.tracker_parts().get("backbone"), "blocks", ())
    return list(blocks)


def gathered(tree: Any) -> Any:
    """Return nested containers with whole tensors in place of shares: a collective call, if there are any."""
    if isinstance(tree, DTensor):
        return tree.full_tensor()
    if isinstance(tree, Mapping):
        return {key: gathered(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(gathered(value) for value in tree)
    return tree


def spread(state: Mapping[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """Return an optimizer's state with shares in place of whole tensors, as its parameters are spread.

    Args:
        state: `optimizer.state_dict()`, `gathered`.
        parameters: of the optimizer, in the order of its groups.
    """

    def share(value: Any, like: Tensor) -> Any:
        if isinstance(value, Tensor) and isinstance(like, DTensor) and value.shape == like.shape:
            return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
        return value

    shares = {
        number: {name: share(value, parameters[number]) for name, value in entry.items()}
        for number, entry in state["state"].items()
    }
    return {**state, "state": shares}


def unspread(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return the parameters that every rank holds whole."""
    return [parameter for parameter in parameters if not isinstance(parameter, DTensor)]


def total_norm(gradients: Iterable[Tensor], device: torch.device) -> Tensor:
    """Return the norm of all gradients, some of them spread over the ranks: a collective call."""
    squares = torch.zeros(2, dtype=torch.float64, device=device)  # of shares, of what every rank holds
    for gradient in gradients:
        whole = not isinstance(gradient, DTensor)
        squares[int(whole)] += local(gradient).double().square().sum()
    torch.distributed.all_reduce(squares[:1])
    return squares.sum().sqrt().float()


def limit_norm(gradients: Iterable[Tensor], most: float, norm: Tensor) -> None:
    """Scale gradients of the norm `norm`, some of them spread over the ranks, down to `most`."""
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        local(gradient).mul_(factor)


@torch.no_grad()
def whole_state(model: nn.Module) -> dict[str, Any]:
    """Return a model's state dict with whole tensors: a collective call where the model is spread."""
    state: dict[str, Any] = gathered(model.state_dict())
    return state
