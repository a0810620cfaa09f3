"""Validation: losses and metrics on clips that training doesn't see, and pictures of the answers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from mtltrack.core.types import BOX, Clip, TaskOutput
from mtltrack.training.frozen_features import FrozenFeatures
from mtltrack.training.weighting import label_counts, total_loss, world_size

TRUTH_COLOUR = "#00ff00"
PREDICTION_COLOUR = "#ff0000"
TOTAL = "total"


@dataclass
class Validation:
    """What a validation found.

    Attributes:
        scalars: losses ("total", "<task>", "<task>/<term>") and metrics ("<task>/<metric>").
        metrics: the heads' accumulators by task, still filled.
        images: (N, 3, H, W) uint8 search crops with boxes, or None.
    """

    scalars: dict[str, float]
    metrics: dict[str, Any] = field(default_factory=dict)
    images: Tensor | None = None


@dataclass
class LossRow:
    """The losses of a validation batch.

    Attributes:
        names: of the scalars.
        values: (2, names) the scalars, and 1 for those that were measured, 0 where nothing was labelled.
    """

    names: tuple[str, ...]
    values: Tensor


@torch.no_grad()
def validate(
    tracker: Any,
    clips: Iterable[Clip],
    *,
    accelerator: Accelerator,
    lambdas: Mapping[str, float],
    mean: Sequence[float],
    std: Sequence[float],
    shared: bool = False,
    features: FrozenFeatures | None = None,
) -> Validation:
    """Measure the tracker as it will be tested: eval mode, the keep ratio of the configuration.

    The figures don't depend on the number of processes: each batch is measured by one of them, as it would be
    by a single process, and what was counted is put together in the batches' order. The tracker is left in
    training mode (frozen parts stay in eval mode, see `stages.freeze`).

    Args:
        tracker: the model as it is called.
        clips: batches; with `shared` those of this rank, which come before those of the next.
        accelerator: device and precision.
        lambdas: weight of each task.
        mean: DATA.MEAN.
        std: DATA.STD.
        shared: the ranks share the batches: a collective call. If not, every rank measures all of them.
        features: knows what frozen parts have answered before, or None.
    """
    heads = tracker.heads()
    metrics = {task: head.metrics() for task, head in heads.items()}
    rows: list[LossRow] = []
    images = None
    tracker.eval()
    for raw in clips:
        clip = raw.to(accelerator.device)
        inputs = clip.normalised(list(mean), list(std))
        known = {} if features is None else features.known(clip, inputs, None)
        outputs = tracker(inputs, **known)
        counts = label_counts(list(heads), [clip], all_ranks=False)
        report = total_loss(heads, outputs, clip, lambdas, counts=counts, ranks=1)
        rows.append(_row(report.scalars(), {task for task in heads if bool(counts[task].sum() > 0)}))
        for task, accumulator in metrics.items():
            if task in clip.labels:
                accumulator.update(outputs[task], clip.labels[task])
        if images is None:
            images = example_images(clip, outputs)
    tracker.train()
    if shared and world_size() > 1:
        rows, metrics = _of_all_ranks(rows, metrics, {task: head.metrics() for task, head in heads.items()})
    scalars = _means(rows)
    for task, accumulator in metrics.items():
        if task in scalars:  # something was labelled
            scores = {name: float(score) for name, score in accumulator.compute().items()}
            scalars.update(
                {f"{task}/{name}": score for name, score in scores.items() if not math.isnan(score)}
            )
    return Validation(scalars, metrics, images)


def shares_validation(tracker: Any, fsdp: bool) -> bool:
    """Tell whether several processes share the batches of a validation.

    Not with TRAIN.FSDP, where all take part in each forward pass, and not with a head whose metrics can't be
    put together.
    """
    return not fsdp and all(
        hasattr(metrics, "merge") and hasattr(metrics, "collected")
        for metrics in (head.metrics() for head in tracker.heads().values())
    )


def _row(scalars: Mapping[str, Tensor], labelled: Collection[str]) -> LossRow:
    names = tuple(scalars)
    known = [float(name == TOTAL or name.split("/")[0] in labelled) for name in names]
    values = torch.stack([scalars[name].detach().double() for name in names])
    return LossRow(names, torch.stack([values, values.new_tensor(known)]))


def _means(rows: Sequence[LossRow]) -> dict[str, float]:
    """Return the mean of each scalar over the batches that measured it, where there was one."""
    found: dict[str, list[float]] = {}
    for row in rows:
        values, known = row.values.tolist()
        for name, value, weight in zip(row.names, values, known, strict=True):
            found.setdefault(name, []).extend([value] if weight > 0 else [])
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def _of_all_ranks(
    rows: Sequence[LossRow], metrics: Mapping[str, Any], empty: Mapping[str, Any]
) -> tuple[list[LossRow], dict[str, Any]]:
    """Return the losses of all ranks and their metrics in `empty` ones, in the order of the ranks."""
    own = [LossRow(row.names, row.values.cpu()) for row in rows]
    collected = {task: accumulator.collected() for task, accumulator in metrics.items()}
    every: list[LossRow] = []
    for others, counts in gather_object([(own, collected)]):
        every += others
        for task, accumulator in empty.items():
            accumulator.merge(counts[task])
    return every, dict(empty)


def example_images(clip: Clip, outputs: Mapping[str, TaskOutput], most: int = 4) -> Tensor | None:
    """Draw the labelled box (green) and the predicted one (red) into the first search frame of some clips.

    Args:
        clip: the batch as it came from the loader, uint8 images.
        outputs: the heads' answers.
        most: number of clips drawn.

    Returns:
        (N, 3, H, W) uint8 on the CPU, or None when the images aren't uint8 or no box was predicted.
    """
    if clip.search.dtype != torch.uint8 or BOX not in outputs:
        return None
    frames = clip.search[:most, 0].cpu()
    size = frames.shape[-1]
    predicted = _in_pixels(outputs[BOX].predictions["boxes_cxcywh"][:most, 0], size)
    labels = clip.labels.get(BOX)
    drawn = []
    for index, frame in enumerate(frames):
        picture = frame
        if labels is not None and bool(labels["valid"][index, 0]):
            truth = _in_pixels(labels["cxcywh"][index : index + 1, 0], size)
            picture = draw_bounding_boxes(picture, truth, colors=TRUTH_COLOUR, width=2)
        drawn.append(
            draw_bounding_boxes(picture, predicted[index : index + 1], colors=PREDICTION_COLOUR, width=2)
        )
    return torch.stack(drawn)


def _in_pixels(boxes_cxcywh: Tensor, size: int) -> Tensor:
    """Turn boxes (N, 4) cxcywh in [0, 1] into corners in pixels inside the crop, ready for drawing."""
    boxes = torch.nan_to_num(boxes_cxcywh.detach().float().cpu()) * size
    centre, half = boxes[:, :2], boxes[:, 2:].abs() / 2
    return torch.cat([centre - half, centre + half], dim=1).clamp(0, size - 1)
