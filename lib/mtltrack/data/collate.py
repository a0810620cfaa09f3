"""Samples and their join to a batch: labels that a sample lacks become fillers with `valid` False."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from mtltrack.core.conditions import UNLABELLED
from mtltrack.core.types import Clip, Labels
from mtltrack.data.augment import CutFrame
from mtltrack.data.sampling import FrameChoice
from mtltrack.data.sequences import SequenceInfo

ZONES, CORNERS = "zones", 2  # label, and its dimension, that are padded with their last entry


@dataclass
class Sample:
    """One clip before it joins a batch; the attributes are those of `Clip` without B.

    Attributes:
        template: (3, Hz, Wz) uint8.
        template_box_xywh: (4,) in [0, 1] of the template crop.
        search: (T, 3, H, W) uint8.
        affine: (T, 2, 3) float32.
        timestamps: (T,) float64 seconds.
        labels: one entry a task, arrays with leading T.
        template_brightness: () factor.
        search_brightness: (T,) factors.
        source: data set, sequence, frames (counted from 1), `bad` (messages about draws that were replaced).
        detail: (T, 3, Hd, Wd) uint8, or None.
        detail_affine: (T, 2, 3), or None.
    """

    template: Tensor
    template_box_xywh: Tensor
    search: Tensor
    affine: Tensor
    timestamps: Tensor
    labels: Labels
    template_brightness: Tensor
    search_brightness: Tensor
    source: dict[str, Any]
    detail: Tensor | None = None
    detail_affine: Tensor | None = None


def build_sample(
    template: CutFrame,
    search: Sequence[CutFrame],
    info: SequenceInfo,
    choice: FrameChoice,
    dataset: str,
    labels: Labels,
) -> Sample:
    """Put crops, boxes, labels and times of one clip together."""
    details = [frame.detail for frame in search if frame.detail is not None]
    detail_affines = [frame.detail_affine for frame in search if frame.detail_affine is not None]
    return Sample(
        template=_channels_first([template.image])[0],
        template_box_xywh=template.box_xywh,
        search=_channels_first([frame.image for frame in search]),
        affine=_stacked([frame.affine for frame in search]),
        timestamps=torch.from_numpy(clip_times(info, choice)),
        labels=labels,
        template_brightness=torch.tensor(template.brightness),
        search_brightness=torch.tensor([frame.brightness for frame in search]),
        source={
            "dataset": dataset,
            "sequence": info.name,
            "template_frame": choice.template + info.first_frame,
            "search_frames": [frame + info.first_frame for frame in choice.search],
        },
        detail=_channels_first(details) if details else None,
        detail_affine=_stacked(detail_affines) if detail_affines else None,
    )


def clip_times(info: SequenceInfo, choice: FrameChoice) -> np.ndarray:
    """Return (T,) float64 seconds that never go back.

    A still image repeats with a frame's time between; a clip played backwards gets mirrored times.
    """
    times = info.times()[choice.search]
    if not info.is_video:
        return times + np.arange(len(times)) / info.fps
    return times[0] + times[-1] - times if choice.reversed else times


def _channels_first(images: Sequence[np.ndarray]) -> Tensor:
    """Return (T, 3, H, W) uint8; OpenCV takes channels apart faster than a transposed copy does."""
    planes = np.empty((len(images), 3, *images[0].shape[:2]), dtype=np.uint8)
    for target, image in zip(planes, images, strict=True):
        for plane, channel in zip(target, cv2.split(image), strict=True):
            plane[:] = channel
    return torch.from_numpy(planes)


def _stacked(matrices: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(matrices).astype(np.float32))


def _filler(like: Tensor, name: str) -> Tensor:
    return torch.full_like(like, UNLABELLED) if name == "index" else torch.zeros_like(like)


def _joined(values: Sequence[Tensor], name: str) -> Tensor:
    """Stack a value of all samples; what differs in size is padded to the largest."""
    if all(value.shape == values[0].shape for value in values):
        return torch.stack(list(values))
    largest = [max(sides) for sides in zip(*(value.shape for value in values), strict=True)]
    return torch.stack([_padded(value, largest, name) for value in values])


def _padded(value: Tensor, sides: Sequence[int], name: str) -> Tensor:
    """Pad with zeros behind; the corners of zones (T, Z, V, 2) by repeating each zone's last."""
    if name == ZONES:
        more = sides[CORNERS] - value.shape[CORNERS]
        last = value[:, :, -1:]
        value = torch.cat((value, last.expand(-1, -1, more, -1)), dim=CORNERS)
    result = value.new_zeros(list(sides))
    result[tuple(slice(side) for side in value.shape)] = value
    return result


def collate_labels(samples: Sequence[Labels]) -> Labels:
    """Join the labels of several samples; each task that any of them carries gets an entry for all.

    A value that a sample lacks is filled (index: -100, else 0) and the sample's `valid` is False there. Texts
    and zones become as long as the longest of the batch.
    """
    joined: Labels = {}
    for task in dict.fromkeys(task for labels in samples for task in labels):
        entries = [labels.get(task, {}) for labels in samples]
        models = {name: value for entry in entries for name, value in entry.items()}
        joined[task] = {
            name: _joined([entry.get(name, _filler(model, name)) for entry in entries], name)
            for name, model in models.items()
        }
        lacking = torch.tensor([any(name not in entry for name in models) for entry in entries])
        joined[task]["valid"] &= ~lacking[:, None]
    return joined


def collate(samples: Sequence[Sample]) -> Clip:
    """Join samples to a batch: uint8 images, brightness factors apart, labels with masks.

    Raises:
        ValueError: only some of the samples have a detail view.
    """
    with_detail = [sample.detail is not None for sample in samples]
    if any(with_detail) != all(with_detail):
        raise ValueError("either all samples of a batch have a detail view or none has")
    return Clip(
        template=torch.stack([sample.template for sample in samples]),
        template_boxes_xywh=torch.stack([sample.template_box_xywh for sample in samples]),
        search=torch.stack([sample.search for sample in samples]),
        affine=torch.stack([sample.affine for sample in samples]),
        timestamps=torch.stack([sample.timestamps for sample in samples]),
        labels=collate_labels([sample.labels for sample in samples]),
        template_brightness=torch.stack([sample.template_brightness for sample in samples]),
        search_brightness=torch.stack([sample.search_brightness for sample in samples]),
        detail=torch.stack([s.detail for s in samples if s.detail is not None]) if all(with_detail) else None,
        detail_affine=(
            torch.stack([s.detail_affine for s in samples if s.detail_affine is not None])
            if all(with_detail)
            else None
        ),
        sources=[sample.source for sample in samples if sample.source],  # a filler has none
    )
