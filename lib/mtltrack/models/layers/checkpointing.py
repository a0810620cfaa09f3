"""Activation checkpointing: a call keeps its inputs only, and runs again when its gradient is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
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
        return nullcontext(), statistics_held(module)

    return checkpoint(function, *arguments, use_reentrant=False, context_fn=contexts)


@contextmanager
def statistics_held(module: nn.Module) -> Iterator[None]:
    """Undo what the batch norms that train add to their running statistics."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    values = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, value in values:
            buffer.copy_(value)
