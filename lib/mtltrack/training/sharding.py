"""Parameters, gradients and the optimizer's state spread over the ranks (TRAIN.FSDP)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mtltrack.core.types import Clip, TaskOutput


class ShardedTracker(nn.Module):
    """A tracker whose parameters are spread over the ranks by torch's `fully_shard`.

    Each block of the backbone is gathered when it is needed and let go again; the rest of the model is one
    more piece. Sharding needs modules that answer with plain containers, so the tracker stands inside of one
    that does, and is called through it only.

    Args:
        tracker: the model; its parameters become DTensors, under the same names.
        accelerator: device and ranks.
    """

    def __init__(self, tracker: Any, accelerator: Accelerator) -> None:
        super().__init__()
        self.plain = _PlainAnswers(tracker)
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for block in blocks_of(tracker):
            fully_shard(block, mesh=mesh)
        fully_shard(self.plain, mesh=mesh)

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

    def forward(self, clip: Clip, **options: Any) -> dict[str, tuple[Tensor | None, dict[str, Tensor]]]:
        outputs = self.tracker(clip, **options)
        return {task: (output.features, output.predictions) for task, output in outputs.items()}


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


def is_sharded(model: nn.Module) -> bool:
    """Tell whether a model's parameters are spread over ranks."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


@torch.no_grad()
def whole_state(model: nn.Module) -> dict[str, Any]:
    """Return a model's state dict with whole tensors: a collective call where the model is spread."""
    state: dict[str, Any] = gathered(model.state_dict())
    return state
