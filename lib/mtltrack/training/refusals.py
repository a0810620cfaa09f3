"""Steps that aren't finite: whose fault it was, and no trace of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtltrack.core.types import Clip, TaskOutput
from mtltrack.training.weighting import LossReport, term_values, valid_labels

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
    heads: Mapping[str, nn.Module],
    forward: Forward,
    clips: Sequence[Clip],
    parameters: Sequence[nn.Parameter],
) -> list[str]:
    """Return one text a task and sample whose own gradient isn't finite though the loss is.

    It costs a forward pass, a backward pass a task, and one a sample for each task at fault.

    Args:
        heads: the tracker's heads by task.
        forward: makes a micro-batch's forward pass again, with the step's random numbers.
        clips: the step's micro-batches.
        parameters: that train.
    """
    found = []
    for clip in clips:
        outputs, report = forward(clip)
        for task, loss in report.losses.items():
            if loss.requires_grad and not _is_smooth(loss, parameters):
                rows = _rows_at_fault(task, heads[task], outputs[task], clip, parameters)
                found += [f"task {task} at {_sample(clip, row)}" for row in rows]
    return found


def _rows_at_fault(
    task: str, head: Any, output: TaskOutput, clip: Clip, parameters: Sequence[nn.Parameter]
) -> list[int]:
    """Return the samples whose loss has a gradient that isn't finite; all of them if it is none's alone."""
    valid = valid_labels(clip, task)
    terms = term_values(task, head, output, clip)
    everyone = range(clip.batch_size)
    if valid is None or not terms:
        return list(everyone)
    weighted = torch.stack([head.term_weights[name] * values for name, values in terms.items()]).sum(0)
    losses = torch.where(valid, weighted, torch.zeros_like(weighted)).sum(1)  # (B,)
    rows = [row for row in everyone if bool(valid[row].any()) and not _is_smooth(losses[row], parameters)]
    return rows or list(everyone)


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
