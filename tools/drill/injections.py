"""Faults put into single tasks and single passes of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mtltrack.core.types import Clip, TaskOutput

LOSS, GRADIENT = "loss", "gradient"
FORWARD, BACKWARD = "forward", "backward"
NO_MEMORY = "made-up device has no memory left"
MARK = "marked"  # beside a task's labels: which of them are to be faulty


def mark(clip: Clip, task: str, row: int) -> Clip:
    """Mark a clip of a batch for `not_finite`."""
    marks = torch.zeros_like(clip.labels[task]["valid"])
    marks[row] = clip.labels[task]["valid"][row]
    clip.labels[task][MARK] = marks
    return clip


@contextmanager
def not_finite(head: Any, kind: str, value: float) -> Iterator[None]:
    """Let a head's loss of marked clips be `value`, or have a gradient that isn't finite.

    Args:
        head: of the task.
        kind: LOSS or GRADIENT.
        value: NaN or inf, of the loss.
    """
    whole = head.loss_terms

    def faulty(output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = whole(output, labels)
        name = next(iter(terms))
        there = labels.get(MARK, torch.zeros_like(labels["valid"]))
        if kind == LOSS:
            fault = torch.where(there, torch.full_like(terms[name], value), torch.zeros_like(terms[name]))
        else:  # the root of 0 has no slope
            fault = torch.zeros_like(terms[name])
            fault[there] = (terms[name][there] * 0.0).abs().sqrt()
        return {**terms, name: terms[name] + fault}

    head.loss_terms = faulty
    try:
        yield
    finally:
        del head.loss_terms


class _Bomb(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor, blow: Callable[[], None]) -> Tensor:
        context.blow = blow
        return value.view_as(value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        context.blow()
        return gradient, None


@contextmanager
def little_memory(tracker: Any, when: str, most: int) -> Iterator[None]:
    """Let a tracker's passes of more than `most` clips run out of memory.

    Args:
        tracker: whose `forward` is watched.
        when: FORWARD or BACKWARD.
        most: clips that fit.
    """
    whole = tracker.forward

    def blow() -> None:
        raise torch.OutOfMemoryError(NO_MEMORY)

    def limited(clip: Any, *arguments: Any, **options: Any) -> Any:
        outputs = whole(clip, *arguments, **options)
        if clip.batch_size > most:
            if when == FORWARD:
                blow()
            predictions = outputs["box"].predictions
            for name, value in predictions.items():
                if value.requires_grad:
                    predictions[name] = _Bomb.apply(value, blow)
        return outputs

    tracker.forward = limited
    try:
        yield
    finally:
        del tracker.forward
