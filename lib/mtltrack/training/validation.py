"""Validation: losses and metrics on clips that training doesn't see, and pictures of the answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from mtltrack.core.types import BOX, Clip, TaskOutput
from mtltrack.training.averages import Averages
from mtltrack.training.weighting import label_counts, total_loss

TRUTH_COLOUR = "#00ff00"
PREDICTION_COLOUR = "#ff0000"


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


@torch.no_grad()
def validate(
    tracker: Any,
    clips: Iterable[Clip],
    *,
    accelerator: Accelerator,
    lambdas: Mapping[str, float],
    mean: Sequence[float],
    std: Sequence[float],
) -> Validation:
    """Measure the tracker as it will be tested: eval mode, the keep ratio of the configuration.

    Every rank measures all clips, so that no metric has to be joined across ranks. The tracker is left in
    training mode (frozen parts stay in eval mode, see `stages.freeze`).
    """
    heads = tracker.heads()
    metrics = {task: head.metrics() for task, head in heads.items()}
    averages, images = Averages(), None
    tracker.eval()
    for raw in clips:
        clip = raw.to(accelerator.device)
        outputs = tracker(clip.normalised(list(mean), list(std)))
        counts = label_counts(list(heads), [clip], all_ranks=False)
        report = total_loss(heads, outputs, clip, lambdas, counts=counts, ranks=1)
        averages.add(report.scalars(), {task: (count.sum() > 0).float() for task, count in counts.items()})
        for task, accumulator in metrics.items():
            if task in clip.labels:
                accumulator.update(outputs[task], clip.labels[task])
        if images is None:
            images = example_images(clip, outputs)
    tracker.train()
    scalars = averages.take()
    for task, accumulator in metrics.items():
        if task in scalars:  # something was labelled
            scores = {name: float(score) for name, score in accumulator.compute().items()}
            scalars.update(
                {f"{task}/{name}": score for name, score in scores.items() if not math.isnan(score)}
            )
    return Validation(scalars, metrics, images)


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
