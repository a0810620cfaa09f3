"""From search tokens to an embedding of every pixel, and from a head's features to a query for it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtltrack.core.precision import in_full

FARTHEST = 2.0  # places are told in half sizes of the box up to so many from its centre


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution with group normalisation, which doesn't depend on the batch, and ReLU."""
    groups = next(count for count in (8, 4, 2, 1) if outputs % count == 0)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(groups, outputs),
        nn.ReLU(inplace=True),
    )


class PixelDecoder(nn.Module):
    """From search tokens to an embedding of every pixel of a finer map.

    The tokens' map is enlarged step by step; each step joins what a few light convolutions see in the search
    region's own pixels, because edges are finer than a token, and where the pixel lies relative to the box.

    Args:
        channels: C of the tokens.
        width: of the embedding.
        stem: channels of the first convolution over the pixels; each next one has twice as many.
        stride: pixels of the search region a cell of the result.
    """

    def __init__(self, channels: int, width: int, stem: int, stride: int) -> None:
        super().__init__()
        levels = 3 if stride == 2 else 2  # maps at 8 and 4, or at 8, 4 and 2 pixels a cell
        widths = [stem * 2**level for level in range(3)]
        self.stem = nn.ModuleList(
            _convolution(inputs, outputs, stride=2)
            for inputs, outputs in zip([3, *widths], widths, strict=False)
        )
        self.enter = nn.Conv2d(channels, width, 1)
        self.steps = nn.ModuleList(_convolution(width + skip + 2, width) for skip in widths[::-1][:levels])
        self.leave = nn.Conv2d(width, width, 1)

    def forward(self, maps: Tensor, pixels: Tensor, boxes_cxcywh: Tensor) -> Tensor:
        """Return the embedding (N, width, h, w).

        Args:
            maps: (N, C, rows, columns) tokens.
            pixels: (N, 3, H, W) normalised search region.
            boxes_cxcywh: (N, 4) in [0, 1] of the region.
        """
        skips = []
        for convolution in self.stem:
            pixels = convolution(pixels)
            skips.append(pixels)
        x = self.enter(maps)
        for step, skip in zip(self.steps, skips[::-1], strict=False):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = step(torch.cat([x, skip, relative_places(boxes_cxcywh, skip.shape[-2:]).to(x.dtype)], dim=1))
        return self.leave(x)


def relative_places(boxes_cxcywh: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Return where each cell lies: its distance to the box's centre in half sizes of the box.

    Args:
        boxes_cxcywh: (N, 4) in [0, 1] of the region.
        size: rows and columns.

    Returns:
        (N, 2, rows, columns) x and y in [-2, 2]; on the box's edge 1 or -1.
    """
    axes = []
    boxes_cxcywh = in_full(boxes_cxcywh)
    for axis, count in enumerate((size[1], size[0])):
        middle = (torch.arange(count, device=boxes_cxcywh.device) + 0.5) / count
        half = boxes_cxcywh[:, axis + 2, None] / 2
        place = (middle - boxes_cxcywh[:, axis, None]) / half.clamp_min(1e-3)
        axes.append(place.clamp(-FARTHEST, FARTHEST))  # (N, count)
    x = axes[0][:, None, None, :].expand(-1, 1, size[0], -1)
    y = axes[1][:, None, :, None].expand(-1, 1, -1, size[1])
    return torch.cat([x, y], dim=1)


class TargetQuery(nn.Module):
    """What the box head's features say about the target, as one vector.

    Attention pooling: a cell weighs by a learned score times the box head's own score of the cell, where it
    has a score map. That score only says where to look: no gradient goes into it.

    Args:
        channels: Cb of the box head's features.
        width: of the vector.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(channels, 1, bias=False)  # the same for every cell would change nothing
        self.project = nn.Sequential(
            nn.Linear(channels, width), nn.LayerNorm(width), nn.ReLU(inplace=True), nn.Linear(width, width)
        )

    def forward(self, features: Tensor, scores: Tensor | None) -> Tensor:
        """Return (N, width).

        Args:
            features: (N, Nx, Cb).
            scores: (N, Nx) in (0, 1], or None.
        """
        weights = in_full(self.weigh(features)).squeeze(2)  # (N, Nx)
        if scores is not None:
            weights = weights + in_full(scores.detach()).log()
        pooled = (weights.softmax(1)[:, None].to(features.dtype) @ features).squeeze(1)  # (N, Cb)
        return self.project(pooled)
