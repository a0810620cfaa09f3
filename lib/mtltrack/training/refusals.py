"""Steps that aren't finite: whose fault it was, and no trace of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtltrack.core.types import Clip, TaskOutput
from mtltrack.training.weighting import LossReport

Forward = Callable[[Clip], tuple[Mapping[str, TaskOutput], LossReport]]


def culprits(report: LossReport, clip: Clip) -> list[str]:
    """Return one text a loss term and sample that isn't finite: the task, the term and what the sample is."""
    found = []
    for name, values in report.per_sample.items():
        bad = (~torch.isfinite(values)).any(dim=1)  # (B,)
        for row in bad.nonzero().flatten().tolist():
            found.append(f"task {name.replace('/', ' (', 1)}) at {_sample(clip, row)}")
    return found


def gradient_culprits(
    forward: Forward, clips: Sequence[Clip], parameters: Sequence[nn.Parameter]
) -> list[str]:
    """Return one text a task and sample whose own gradient isn't finite though the loss is.

    It costs the step's forward pass, a backward pass a task, and a pass a sample where a task is at fault.

    Args:
        forward: makes a micro-batch's forward pass again.
        clips: the step's micro-batches.
        parameters: that train.
    """
    found = []
    for clip in clips:
        losses = forward(clip)[1].losses
        tasks = [
            task for task, loss in losses.items() if loss.requires_grad and not _is_smooth(loss, parameters)
        ]
        del losses
        for task in tasks:
            rows = [
                row
                for row in range(clip.batch_size)
                if not _row_is_smooth(forward, clip, row, task, parameters)
            ]
            found += [f"task {task} at {_sample(clip, row)}" for row in rows or range(clip.batch_size)]
    return found


def _row_is_smooth(
    forward: Forward, clip: Clip, row: int, task: str, parameters: Sequence[nn.Parameter]
) -> bool:
    """Tell whether one clip alone has a finite gradient; in a batch, one's NaN would show in all.

    It comes twice, because a batch norm takes statistics of more than one.
    """
    return _is_smooth(forward(clip.rows([row, row]))[1].losses[task], parameters)


def _is_smooth(loss: Tensor, parameters: Sequence[nn.Parameter]) -> bool:
    """Tell whether a loss has a finite gradient; its graph is kept."""
    found = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True)
    return all(bool(torch.isfinite(gradient).all()) for gradient in found if gradient is not None)


def bad_gradients(model: nn.Module) -> list[str]:
    """Return the names of the parameters whose gradient, or this rank's share of it, isn't finite."""
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not bool(torch.isfinite(local(parameter.grad)).all())
    ]


def local(tensor: Tensor) -> Tensor:
    """Return this rank's share of a tensor that is spread over ranks; other tensors as they are."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _sample(clip: Clip, row: int) -> str:
    return describe(clip.sources[row]) if row < len(clip.sources) else f"sample {row} of the batch"


def describe(source: Mapping[str, Any]) -> str:
    """Return a sample's origin as a person would name it: data set, sequence, frames, number in the epoch."""
    parts = [str(source[key]) for key in ("dataset", "sequence") if source.get(key) is not None]
    frames = [f"{key.replace('_', ' ')} {source[key]}" for key in source if "frame" in str(key)]
    number = [f"(sample {source['index']})"] if "index" in source else []
    return " ".join([" / ".join(parts), *frames, *number]).strip() or str(dict(source))


class BatchStatistics:
    """Remembers the statistics of the BatchNorms that train, so that a step not made leaves no trace."""

    def __init__(self, model: nn.Module) -> None:
        modules = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
        self._live = [buffer for module in modules for buffer in module.buffers()]
        self._saved = [buffer.clone() for buffer in self._live]

    def remember(self) -> None:
        for saved, live in zip(self._saved, self._live, strict=True):
            saved.copy_(live)

    def restore(self) -> None:
        for saved, live in zip(self._saved, self._live, strict=True):
            live.copy_(saved)
