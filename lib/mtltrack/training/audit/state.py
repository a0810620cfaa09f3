"""Leaving the model as it was found, and taking chance out of it while it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from mtltrack.training.randomness import random_state, restore_random_state

CHANCE = ("drop_prob", "dropout", "jitter")  # where drop path, attention and heads keep how much they draw


@contextmanager
def chance_and_buffers_kept(model: nn.Module) -> Iterator[None]:
    """Restore every random generator and the buffers afterwards: a pass without gradients leaves no trace."""
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]
    random = random_state()
    try:
        yield
    finally:
        for buffer, value in values:
            buffer.copy_(value)
        restore_random_state(random)


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Restore weights, buffers, gradients, modes, what is frozen, and every random generator afterwards."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    gradients = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    modes = [(module, module.training, module.__dict__.get("train")) for module in model.modules()]
    plain = [(module, _plain(module)) for module in model.modules()]  # how far a head's schedule has come
    random = random_state()
    for parameter in model.parameters():
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(values[name])
        for parameter, required, gradient in gradients:
            parameter.requires_grad_(required)
            parameter.grad = gradient
        for module, training, held in modes:
            module.__dict__.pop("train", None)
            if held is not None:
                module.__dict__["train"] = held
            module.training = training
        for module, attributes in plain:
            module.__dict__.update(attributes)
        restore_random_state(random)


def _plain(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, (int, float, str))}


@contextmanager
def without_chance(model: nn.Module) -> Iterator[None]:
    """Set every probability of dropping something, and every jitter, to 0; the modes stay as they are."""
    changed: list[tuple[Any, str, Any]] = []
    for module in model.modules():
        for name in (*CHANCE, "p") if isinstance(module, _DropoutNd) else CHANCE:
            value = module.__dict__.get(name)
            if isinstance(value, float):
                changed.append((module, name, value))
                setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)


def end_schedules(tracker: Any) -> None:
    """Tell the heads that their learning time is over: then they read others' answers, not the truth."""
    for head in tracker.task_parts().values():
        if hasattr(head, "schedule"):
            head.schedule(1.0)
