"""Looking closely at a box: a picture cut out by differentiable sampling, and features of its columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtltrack.models.layers.places import inverse

OVERSAMPLE = 2  # points a pixel and direction, averaged: a box larger than the glimpse doesn't alias
LEAST = 2.0  # pixels of the view: a smaller box is enlarged to this


def boxes_in_view(boxes_cxcywh: Tensor, view: Tensor) -> Tensor:
    """Carry boxes from the search crop into a view of it.

    Args:
        boxes_cxcywh: (N, 4) in [0, 1] of the search crop.
        view: (N, 2, 3), maps [0, 1] of the view to [0, 1] of the search crop (scales and mirror images).

    Returns:
        (N, 4) cxcywh in [0, 1] of the view.
    """
    back = inverse(view[..., :2])
    centre = (back @ (boxes_cxcywh[:, :2] - view[..., 2])[..., None]).squeeze(-1)
    size = (back.abs() @ boxes_cxcywh[:, 2:, None]).squeeze(-1)
    return torch.cat([centre, size], dim=1)


def take_glimpses(
    images: Tensor, boxes_cxcywh: Tensor, size: Sequence[int], margin: float | Sequence[float] = 0.0
) -> Tensor:
    """Cut boxes out of images and bring them to one size (spatial transformer, Jaderberg et al., NIPS 2015,
    equations 1 and 5).

    Each pixel is the mean of `OVERSAMPLE` x `OVERSAMPLE` bilinear samples. The result is differentiable in
    the images and, through the positions of the samples, in the boxes; a side below `LEAST` pixels of the
    image is enlarged to that and gets no gradient. Beyond the image everything is 0.

    Args:
        images: (N, C, H, W).
        boxes_cxcywh: (N, 4) in [0, 1] of the image.
        size: height and width of a glimpse in pixels.
        margin: added on each side, a share of the box's own width and height; one value or two.

    Returns:
        (N, C, *size) in the images' type.
    """
    height, width = size
    margins = [margin] * 2 if isinstance(margin, (int, float)) else margin
    sides = [  # half of them in [-1, 1] are the same numbers
        (boxes_cxcywh[:, 2 + axis] * (1 + 2 * margins[axis])).clamp_min(LEAST / images.shape[-1 - axis])
        for axis in range(2)
    ]
    scale = torch.stack(sides, dim=1)  # (N, 2)
    shift = 2 * boxes_cxcywh[:, :2] - 1
    theta = torch.cat([torch.diag_embed(scale), shift[..., None]], dim=-1).to(images)  # (N, 2, 3)
    points = [len(images), 1, OVERSAMPLE * height, OVERSAMPLE * width]
    grid = F.affine_grid(theta, points, align_corners=False)
    samples = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(samples, OVERSAMPLE)


class ColumnEncoder(nn.Module):
    """Turns a glimpse into features of its columns, from left to right.

    Convolutions halve the height three times and the width twice; what is left of the height is joined with
    the channels, so that a column knows what stands above and what below. Normalised over the batch: with
    group normalisation every column stays blank for much longer.

    Args:
        columns: W, how many; the map's width is averaged to it.
        hidden_dim: D.
        height: of the glimpse in pixels, a multiple of 8.
        width: channels of the first convolution, a multiple of 8.
    """

    def __init__(self, columns: int, hidden_dim: int, height: int, width: int = 32) -> None:
        super().__init__()
        self.columns = columns
        self.convolutions = nn.Sequential(
            _convolution(3, width, 1),
            _convolution(width, 2 * width, 2),
            _Residual(2 * width),
            _convolution(2 * width, 4 * width, 2),
            _Residual(4 * width),
            _convolution(4 * width, 4 * width, (2, 1)),
        )
        self.project = nn.Linear(4 * width * (height // 8), hidden_dim)

    def forward(self, glimpses: Tensor) -> Tensor:
        """Encode (N, 3, H, W) -> (N, columns, D)."""
        maps = self.convolutions(glimpses)  # (N, 4 width, H / 8, W / 4)
        maps = F.adaptive_avg_pool2d(maps, (maps.shape[-2], self.columns))
        return self.project(maps.flatten(1, 2).transpose(1, 2))


def _convolution(inputs: int, outputs: int, stride: int | tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = _convolution(width, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.branch(maps)


class ColumnContext(nn.Module):
    """Lets columns ask other features (cross-attention) and look at their neighbours (convolution along x).

    Args:
        hidden_dim: D of the columns.
        context_dim: channels of the other features.
        columns: W.
        heads: of the attention; D is a multiple of it.
        dropout: share of values dropped in training.
    """

    def __init__(
        self, hidden_dim: int, context_dim: int, columns: int, heads: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(columns, hidden_dim))
        self.query_norm = nn.LayerNorm(hidden_dim)
        self.context_norm = nn.LayerNorm(context_dim)
        self.attention = nn.MultiheadAttention(
            hidden_dim, heads, kdim=context_dim, vdim=context_dim, batch_first=True
        )
        self.mix_norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(2))
        self.mixes = nn.ModuleList(nn.Conv1d(hidden_dim, hidden_dim, 5, padding=2) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, columns: Tensor, context: Tensor) -> Tensor:
        """Return (N, W, D) from columns (N, W, D) and other features (N, Q, context_dim)."""
        asked = self.context_norm(context)
        queries = self.query_norm(columns) + self.places
        columns = columns + self.attention(queries, asked, asked, need_weights=False)[0]
        for norm, mix in zip(self.mix_norms, self.mixes, strict=True):
            beside = mix(norm(columns).transpose(1, 2)).transpose(1, 2)
            columns = columns + self.dropout(F.gelu(beside))
        return self.norm(columns)
