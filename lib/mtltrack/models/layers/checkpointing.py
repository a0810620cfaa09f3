"""Activation checkpointing: a call keeps its inputs only, and runs again when its gradient is wanted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_checkpointed(module: nn.Module, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)` without keeping what happens inside for the backward pass.

    Random numbers are drawn alike the second time, and batch norms update their running statistics the first
    time only, so that training is that without checkpointing, to rounding. Without gradients it is a plain
    call.

    Args:
        module: whose function it is.
        function: the module, or one of its methods.
        arguments: tensors among them.
    """
    if not torch.is_grad_enabled():
        return function(*arguments)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), StatisticsHeld(module)

    return checkpoint(function, *arguments, use_reentrant=False, context_fn=contexts)


class StatisticsHeld:
    """Undoes what the batch norms that train add to their running statistics while it is entered.

    It may be entered again and again: where the gradients of several losses are taken one by one, each
    backward pass runs the call again.

    Args:
        module: that holds the batch norms.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._values: list[tuple[Tensor, Tensor]] = []

    def __enter__(self) -> None:
        norms = [norm for norm in self.module.modules() if isinstance(norm, _BatchNorm) and norm.training]
        self._values = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]

    def __exit__(self, *error: object) -> None:
        for buffer, value in self._values:
            buffer.copy_(value)
        self._values = []
