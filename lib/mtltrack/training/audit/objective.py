"""The losses as the audit takes them: reduced by its own code, against which training's is checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtltrack.core.types import Clip, TaskOutput
from mtltrack.training.weighting import term_values, valid_labels


@dataclass(frozen=True)
class Term:
    """One loss term: its task, its name and its weight in the task's loss."""

    task: str
    name: str
    weight: float

    @property
    def key(self) -> str:
        return f"{self.task}/{self.name}"


def reduced_terms(
    heads: Mapping[str, nn.Module], outputs: Mapping[str, TaskOutput], clip: Clip, tasks: Collection[str]
) -> dict[Term, Tensor]:
    """Return the terms of `tasks` with graphs: mean over a frame's labelled samples, summed over frames.

    A task without any label in the clip has none.
    """
    losses: dict[Term, Tensor] = {}
    for task, head in heads.items():
        valid = valid_labels(clip, task)
        if task not in tasks or valid is None or not bool(valid.any()):
            continue
        losses.update(terms_of(task, head, outputs[task], clip))
    return losses


def terms_of(task: str, head: Any, output: TaskOutput, clip: Clip) -> dict[Term, Tensor]:
    """Return the reduced terms of one task; see `reduced_terms`."""
    valid = valid_labels(clip, task)
    assert valid is not None
    found: dict[Term, Tensor] = {}
    for name, values in term_values(task, head, output, clip).items():
        term = Term(task, name, float(head.term_weights[name]))
        found[term] = frame_means(values, valid).sum()
    return found


def frame_means(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean over each frame's labelled samples, (B, T) and (B, T) bool -> (T,); 0 without any."""
    return torch.stack([_mean(values[:, t], valid[:, t]) for t in range(valid.shape[1])])


def head_terms(task: str, head: Any, clip: Clip) -> Callable[[TaskOutput], dict[str, Tensor]]:
    """Return what turns the head's output into its reduced terms by name."""
    return lambda output: {term.name: value for term, value in terms_of(task, head, output, clip).items()}


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the labelled samples, 0 without any; what stands in the others, NaN too, is left out."""
    if not bool(valid.any()):
        return torch.where(valid, values, torch.zeros_like(values)).sum()
    return torch.where(valid, values, torch.zeros_like(values)).sum() / valid.sum()
