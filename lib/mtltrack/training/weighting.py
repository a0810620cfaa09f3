"""From the heads' loss terms to the one number that training minimises.

One reduction for every task: a term is computed per sample and frame, averaged over the labelled samples of a
frame (counted over the micro-batches of a step and over all ranks), then summed over the clip's frames.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mtltrack.core.errors import TrainingError
from mtltrack.core.types import BOX, Clip, TaskOutput

FILLER = 0.5  # as a box in [0, 1]: in the middle, half as wide as the crop

Counts = dict[str, Tensor]


@dataclass
class LossReport:
    """The losses of one batch.

    With several ranks or micro-batches, `tasks` and `terms` are this batch's share, scaled so that the mean
    over the ranks and the sum over the step's micro-batches is the step's loss.

    Attributes:
        total: scalar with a graph, what `backward` gets: L_box + sum of lambda_k L_k over the tasks that
            count.
        tasks: scalar a task, detached, before its lambda.
        terms: scalar for "<task>/<term>", detached, before its weight.
        per_sample: (B, T) for "<task>/<term>", detached, unlabelled entries zero; names the culprits when a
            loss is not finite.
        losses: scalar a task that counts, with its graph, before its lambda.
    """

    total: Tensor
    tasks: dict[str, Tensor] = field(default_factory=dict)
    terms: dict[str, Tensor] = field(default_factory=dict)
    per_sample: dict[str, Tensor] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)

    def scalars(self) -> dict[str, Tensor]:
        """Return every scalar by its logging name: "total", "<task>" and "<task>/<term>"."""
        return {"total": self.total.detach(), **self.tasks, **self.terms}


def label_counts(tasks: Sequence[str], clips: Sequence[Clip], *, all_ranks: bool = True) -> Counts:
    """Count the labelled samples of each frame, over the micro-batches of a step and over all ranks.

    Args:
        tasks: task names, in the same order on every rank.
        clips: the step's micro-batches, all with T frames.
        all_ranks: sum over the ranks: a collective call, every rank must make it.

    Returns:
        One float32 (T,) tensor a task, zero where nothing is labelled or the clips don't know the task.
    """
    frames, device = clips[0].num_frames, clips[0].search.device
    counts = torch.zeros(len(tasks), frames, device=device)
    for row, task in enumerate(tasks):
        for clip in clips:
            valid = valid_labels(clip, task)
            if valid is not None:
                counts[row] += valid.sum(dim=0)  # (T,)
    if all_ranks and world_size() > 1:
        torch.distributed.all_reduce(counts)
    return dict(zip(tasks, counts, strict=True))


def world_size() -> int:
    """Return the number of training processes, 1 when training isn't distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def total_loss(
    heads: Mapping[str, nn.Module],
    outputs: Mapping[str, TaskOutput],
    clip: Clip,
    lambdas: Mapping[str, float],
    *,
    excluded: Collection[str] = (),
    counts: Counts | None = None,
    ranks: int | None = None,
) -> LossReport:
    """Weigh the heads' loss terms: L_total = L_box + sum_k lambda_k L_k.

    A task without any label gives a zero that hangs on the graph: its gradients are zeros, neither None nor
    NaN.

    Args:
        heads: the tracker's heads by task; each has `loss_terms` and `term_weights`.
        outputs: the heads' answers by task.
        clip: the batch with its labels.
        lambdas: the weight of each task; the box may be left out, it weighs 1.
        excluded: tasks that are only measured: no graph, no share of the total.
        counts: labelled samples (T,) a task over the whole step, from `label_counts`; None counts this batch
            on all ranks (a collective call: every rank must make it).
        ranks: number of ranks that `counts` covers; the loss is scaled by it because DDP averages gradients
            over the ranks. None takes the number of processes.

    Raises:
        TrainingError: a head's terms have another shape than (B, T), a term has no weight, a task has no
            lambda.
    """
    if counts is None:
        counts = label_counts(list(heads), [clip])
    scale = float(world_size() if ranks is None else ranks)
    report = LossReport(total=torch.zeros((), device=clip.search.device))
    for task, head in heads.items():
        with torch.no_grad() if task in excluded else nullcontext():
            loss = _task_loss(task, head, outputs[task], clip, counts[task], scale, report)
        report.tasks[task] = loss.detach()
        if task not in excluded:
            report.losses[task] = loss
            report.total = report.total + _weight_of(task, lambdas) * loss
    return report


def _weight_of(task: str, lambdas: Mapping[str, float]) -> float:
    if task in lambdas:
        return lambdas[task]
    if task == BOX:
        return 1.0
    raise TrainingError(
        f"no weight for the loss of task '{task}'; set TRAIN.{task.upper()}_WEIGHT. "
        f"Known weights: {', '.join(lambdas) or 'none'}."
    )


def valid_labels(clip: Clip, task: str) -> Tensor | None:
    """Return which (B, T) carry the task's label, or None when the batch doesn't know the task."""
    labels = clip.labels.get(task)
    return None if labels is None else labels["valid"]


def _task_loss(
    task: str, head: Any, output: TaskOutput, clip: Clip, count: Tensor, scale: float, report: LossReport
) -> Tensor:
    """Return the scalar loss of one task and note its terms in `report`."""
    weights: Mapping[str, float] = head.term_weights
    anchor = _zero_with_graph(output, clip)
    report.terms.update(
        {f"{task}/{term}": anchor.detach() for term in weights}
    )  # the same names on every rank
    valid = valid_labels(clip, task)
    loss = anchor
    for term, values in term_values(task, head, output, clip).items():
        assert valid is not None
        labelled = torch.where(valid, values, torch.zeros_like(values))  # (B, T)
        reduced = scale * (labelled.sum(dim=0) / count.clamp(min=1)).sum()
        report.terms[f"{task}/{term}"] = reduced.detach()
        report.per_sample[f"{task}/{term}"] = labelled.detach()
        loss = loss + weights[term] * reduced
    return loss


def term_values(task: str, head: Any, output: TaskOutput, clip: Clip) -> dict[str, Tensor]:
    """Return the head's loss terms, each (B, T), unreduced and unweighted; without labels none.

    Raises:
        TrainingError: a term has another shape than (B, T), or no weight.
    """
    valid = valid_labels(clip, task)
    if valid is None or _knows_no_labels(clip, task):
        return {}
    terms: dict[str, Tensor] = head.loss_terms(_in_float32(output), _harmless(clip.labels[task], valid))
    for term, values in terms.items():
        _check_term(task, term, values, valid, head.term_weights)
    return terms


def _harmless(labels: Mapping[str, Tensor], valid: Tensor) -> dict[str, Tensor]:
    """Return the labels with `FILLER` for the numbers in entries that aren't valid.

    Masking the loss isn't enough: the gradient of a masked NaN is 0 * NaN.
    """

    def fill(value: Tensor) -> Tensor:
        if not value.is_floating_point() or value.shape[: valid.dim()] != valid.shape:
            return value
        mask = valid.reshape(*valid.shape, *[1] * (value.dim() - valid.dim()))
        return torch.where(mask, value, torch.full_like(value, FILLER))

    return {name: fill(value) for name, value in labels.items()}


def _knows_no_labels(clip: Clip, task: str) -> bool:
    """Tell whether no data set of this run labels the task: then there are no values to hand to the head."""
    labels = clip.labels[task]
    return set(labels) == {"valid"} and not bool(labels["valid"].any())


def _check_term(task: str, term: str, values: Tensor, valid: Tensor, weights: Mapping[str, float]) -> None:
    if values.shape != valid.shape:
        raise TrainingError(
            f"the head of task '{task}' answers loss term '{term}' with shape {tuple(values.shape)}; wanted "
            f"one value a sample and frame, (B, T) = {tuple(valid.shape)}: leave the reduction to the trainer"
        )
    if term not in weights:
        raise TrainingError(
            f"the head of task '{task}' answers loss term '{term}', which its term_weights don't weigh; "
            f"they hold: {', '.join(weights) or 'nothing'}"
        )


def _zero_with_graph(output: TaskOutput, clip: Clip) -> Tensor:
    """Return a zero whose gradient reaches everything that made the predictions, as exact zeros.

    Filling instead of multiplying by zero keeps an infinite prediction from turning it into NaN.
    """
    zero = torch.zeros((), device=clip.search.device)
    for prediction in output.predictions.values():
        if prediction.requires_grad:
            everywhere = torch.ones_like(prediction, dtype=torch.bool)
            zero = zero + prediction.masked_fill(everywhere, 0.0).sum().float()
    return zero


def _in_float32(output: TaskOutput) -> TaskOutput:
    """Return the output with half-precision values as float32: losses are computed in full precision."""

    def widen(value: Tensor) -> Tensor:
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value

    features = None if output.features is None else widen(output.features)
    return TaskOutput(features, {name: widen(value) for name, value in output.predictions.items()})
