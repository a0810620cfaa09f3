"""The three values that travel between the rooms: a clip, its tokens, a head's output.

Shapes: B clips, T search frames a clip, N tokens, C channels, H x W pixels or cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BOX = "box"  # the task that every tracker has: configured by MODEL.HEAD, never listed in TASKS
Labels = dict[str, dict[str, Tensor]]


@dataclass
class Clip:
    """A batch of clips: what the loader hands to the model.

    Attributes:
        template: (B, 3, Hz, Wz); uint8 RGB from the loader, float32 normalised once `normalised` was called.
        template_boxes_xywh: (B, 4) target box in [0, 1] of the template crop.
        search: (B, T, 3, H, W), like `template`.
        affine: (B, T, 2, 3) maps a search crop's pixel (x, y, 1) to the frame's pixel.
        timestamps: (B, T) seconds.
        labels: one entry a task; each holds `valid` (B, T) bool and the task's tensors, all with leading
            (B, T):
            box `cxcywh` (4) in [0, 1] of the search crop;
            cls `index` () int64 (-100 where absent), `flags` (K) bool and `known` (K) bool, which flags the
            source can tell;
            seg `mask` (H, W) uint8, 1 on the target, in pixels of the search crop;
            plate `present` () bool and `cxcywh` (4) in [0, 1] of the search crop;
            ocr `codes` (L) int64 (0 behind the text's end), `length` () int64 and `cxcywh` (4), the plate's
            box in [0, 1] of the search crop;
            alert `zones` (Z, V, 2) polygons in frame pixels (the last vertex repeated, absent zones all 0),
            `target` () bool and `stopped` () float32, the seconds that the target has been standing still.
        template_brightness: (B,) factor of the template's pixels, applied by `normalised`.
        search_brightness: (B, T) the same for the search crops and their detail views.
        detail: (B, T, 3, Hd, Wd) higher-resolution view around the target, or None.
        detail_affine: (B, T, 2, 3), or None.
        sources: per clip, what it was made of (data set, sequence, frame numbers); for messages, never for
            training.
    """

    template: Tensor
    template_boxes_xywh: Tensor
    search: Tensor
    affine: Tensor
    timestamps: Tensor
    labels: Labels = field(default_factory=dict)
    template_brightness: Tensor | None = None
    search_brightness: Tensor | None = None
    detail: Tensor | None = None
    detail_affine: Tensor | None = None
    sources: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.template.ndim != 4 or self.search.ndim != 5 or self.template.shape[0] != self.search.shape[0]:
            raise ValueError(
                "a clip needs template (B, 3, Hz, Wz) and search (B, T, 3, H, W); found "
                f"{tuple(self.template.shape)} and {tuple(self.search.shape)}"
            )

    @property
    def batch_size(self) -> int:
        return self.search.shape[0]

    @property
    def num_frames(self) -> int:
        return self.search.shape[1]

    def _map(self, function: Any) -> Clip:
        changed: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                changed[item.name] = function(value)
        changed["labels"] = {
            task: {name: function(value) for name, value in entry.items()}
            for task, entry in self.labels.items()
        }
        return replace(self, **changed)

    def rows(self, indices: Sequence[int]) -> Clip:
        """Return some of the batch's clips."""
        chosen = list(indices)
        picked = self._map(lambda tensor: tensor[chosen])
        picked.sources = [self.sources[index] for index in chosen if index < len(self.sources)]
        return picked

    def to(self, device: torch.device | str) -> Clip:
        """Return the clip on `device`; copies from pinned memory don't block."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Clip:
        """Return the clip in page-locked memory (the loader calls this)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def normalised(self, mean: list[float], std: list[float]) -> Clip:
        """Return the clip with float32 images: scaled to [0, 1], brightness applied and clamped, (x - mean)
        / std.

        Args:
            mean: three channel means in [0, 1], DATA.MEAN.
            std: three channel deviations, DATA.STD.
        """
        if self.template.is_floating_point():
            return self
        detail = None if self.detail is None else normalise(self.detail, mean, std, self.search_brightness)
        return replace(
            self,
            template=normalise(self.template, mean, std, self.template_brightness),
            search=normalise(self.search, mean, std, self.search_brightness),
            detail=detail,
            template_brightness=None,
            search_brightness=None,
        )


def normalise(
    images: Tensor, mean: list[float], std: list[float], brightness: Tensor | None = None
) -> Tensor:
    """Turn uint8 RGB images (..., 3, H, W) into the network's float32 input.

    Args:
        images: uint8, 0 to 255.
        mean: three channel means in [0, 1].
        std: three channel deviations.
        brightness: (...) one factor an image; the product is clamped to [0, 1].
    """
    scaled = images.float().div_(255.0)
    if brightness is not None:
        scaled = scaled.mul_(brightness[..., None, None, None]).clamp_(0.0, 1.0)
    return scaled.sub_(_channels(mean, images)).div_(_channels(std, images))


def _channels(values: Sequence[float], images: Tensor) -> Tensor:
    """Return one number a channel, (3, 1, 1), made on the images' device: a copy there would wait for it."""
    return torch.stack([images.new_full((1, 1), value, dtype=torch.float32) for value in values])


@dataclass
class Tokens:
    """What a backbone hands on.

    Attributes:
        template: (B, Nz, C), of the clip's first frame (a one-stream backbone sees the template anew with
            each frame).
        search: (B, T, Nx, C) in grid order, removed tokens zero; fused by the history where there is one.
        grid: (rows, columns) of the search tokens, Nx = rows * columns.
        removed: token numbers that each elimination removed, one (B, T, n) int64 tensor an elimination;
            empty when nothing was removed.
        kept: (B, T, Nx) bool, which search tokens hold features; None when all do (nothing removed, or
            fused).
        pyramid: feature maps of a pyramid backbone, finest first; empty for a ViT.
    """

    template: Tensor
    search: Tensor
    grid: tuple[int, int]
    removed: list[Tensor] = field(default_factory=list)
    kept: Tensor | None = None
    pyramid: list[Tensor] = field(default_factory=list)

    def search_maps(self) -> Tensor:
        """Return the search tokens as feature maps (B, T, C, rows, columns)."""
        batch, frames, _, channels = self.search.shape
        return self.search.transpose(2, 3).reshape(batch, frames, channels, *self.grid)


@dataclass
class TaskOutput:
    """What a head answers.

    Attributes:
        features: (B, T, Q, C) for other heads to attend to, or None when the head offers none (box: Q = Nx).
        predictions: named tensors with leading (B, T); each head documents its own.
    """

    features: Tensor | None
    predictions: dict[str, Tensor]


@dataclass(frozen=True)
class FrameContext:
    """A frame of a video as the tracker left it: what a head's session turns its answer into a result with.

    Attributes:
        index: 1 for the first frame after the one that the tracker was started on.
        timestamp: seconds.
        size: width and height of the frame in pixels.
        box_xywh: the tracker's box in 0-based frame pixels.
        score: the tracker's score in [0, 1].
        affine: (2, 3) float64, pixel (x, y, 1) of the search crop -> pixel of the frame.
        crop_size: side of the search crop in pixels.
        results: task -> result of this frame, of the heads that ran before.
    """

    index: int
    timestamp: float
    size: tuple[int, int]
    box_xywh: tuple[float, float, float, float]
    score: float
    affine: NDArray[np.float64]
    crop_size: int
    results: Mapping[str, Any] = field(default_factory=dict)


class HeadSession(Protocol):
    """What a head keeps from frame to frame of one video. A head that has one offers
    `session(zones: Mapping[str, NDArray]) -> HeadSession`; it is made anew for every video. One with
    `start(box_xywh, timestamp)` is told the box that the tracker is started with."""

    def update(self, answer: Any, frame: FrameContext) -> dict[str, Any]:
        """Return the frame's result, plain JSON types, from what `decode` said of the crop."""
        ...
