"""Finding one place in a fine map: queries that read tokens, an embedding of pixels, sub-cell centres."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtltrack.core.precision import full_type, in_full, run_in_full
from mtltrack.core.types import Clip
from mtltrack.models.layers.places import inverse


class QueryDecoder(nn.Module):
    """Learned queries that read one another and a map of features (a pre-norm transformer decoder).

    Args:
        width: D of queries and features.
        queries: Q, how many.
        layers: how often they read.
        heads: of each attention.
    """

    def __init__(self, width: int, queries: int, layers: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) / math.sqrt(width))
        self.layers = nn.ModuleList(_DecoderLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, grid: tuple[int, int], kept: Tensor | None) -> Tensor:
        """Read each frame on its own.

        Args:
            memory: (B, T, N, D) in grid order.
            grid: rows and columns, N = rows * columns.
            kept: (B, T, N) bool, which features may be read; None: all.

        Returns:
            (B, T, Q, D).
        """
        batch, frames = memory.shape[:2]
        values = memory.flatten(0, 1)
        keys = values + grid_encoding(grid, values.shape[-1], values.device).to(values.dtype)
        removed = None if kept is None else ~kept.flatten(0, 1)
        queries = self.queries.expand(batch * frames, -1, -1)
        for layer in self.layers:
            queries = layer(queries, keys, values, removed)
        return self.norm(queries).unflatten(0, (batch, frames))


class _DecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.among = nn.MultiheadAttention(width, heads, batch_first=True)
        self.across = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, removed: Tensor | None) -> Tensor:
        x = self.norms[0](queries)
        queries = queries + self.among(x, x, x, need_weights=False)[0]
        x = self.norms[1](queries)
        queries = queries + self.across(x, keys, values, key_padding_mask=removed, need_weights=False)[0]
        return queries + self.mlp(self.norms[2](queries))


def grid_encoding(grid: tuple[int, int], width: int, device: torch.device | None = None) -> Tensor:
    """Return sines and cosines of each cell's centre, (rows * columns, width) in [-1, 1].

    Half of the channels say the row, half the column, at wavelengths from a quarter of the map to some eight
    maps; `width` is a multiple of 4.
    """
    rates = 2 * math.pi * torch.logspace(math.log10(4.0), math.log10(0.125), width // 4, device=device)
    sides = []
    for cells in grid:
        angle = ((torch.arange(cells, device=device) + 0.5) / cells)[:, None] * rates
        sides.append(torch.cat([angle.sin(), angle.cos()], dim=1))  # (cells, width / 2)
    rows, columns = grid
    first = sides[0][:, None].expand(rows, columns, -1)
    second = sides[1][None].expand(rows, columns, -1)
    return torch.cat([first, second], dim=-1).flatten(0, 1)


class PixelEmbedding(nn.Module):
    """Embeds every cell of an image from its pixels and from coarser features of the same place.

    Two further halvings give a cell sight of its surroundings; the features join at the coarsest map.

    Args:
        context: channels of the coarser features.
        width: channels of the embedding, a multiple of 4.
        stride: pixels a cell.
    """

    def __init__(self, context: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = width // 2
        self.fine = _convolution(3, half, 2 * stride - 1, stride)
        self.middle = _convolution(half, width, 3, 2)
        self.coarse = _convolution(width, 2 * width, 3, 2)
        self.context = nn.Conv2d(context, 2 * width, 1)
        self.mix = _convolution(2 * width, width, 3, 1)
        self.middle_mix = _convolution(2 * width, width, 3, 1)
        self.fine_mix = nn.Conv2d(half + width, width, 3, padding=1)

    def forward(self, pixels: Tensor, context: Callable[[int, int], Tensor]) -> Tensor:
        """Embed images.

        Args:
            pixels: (N, 3, H, W) normalised.
            context: gives the coarser features (N, C, rows, columns) on a grid over the image.

        Returns:
            (N, width, h, w), h = H / stride rounded up.
        """
        fine = self.fine(pixels)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        coarse = self.mix(coarse + self.context(context(*coarse.shape[-2:])))
        middle = self.middle_mix(torch.cat([middle, _enlarged(coarse, middle)], dim=1))
        return self.fine_mix(torch.cat([fine, _enlarged(middle, fine)], dim=1))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2),
        nn.GroupNorm(4, outputs),
        nn.ReLU(inplace=True),
    )


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)


def view_to_search(clip: Clip) -> Tensor:
    """Return what maps [0, 1] of the clip's view to [0, 1] of its search crop, (B, T, 2, 3).

    The view is `clip.detail`, or the search crop itself where there is none. Both affines speak of pixel
    centres; an edge at u in [0, 1] lies at pixel u * size - 0.5.
    """
    batch, frames = clip.search.shape[:2]
    dtype = full_type(clip.search)
    same = torch.eye(2, 3, device=clip.search.device, dtype=dtype).expand(batch, frames, 2, 3)
    if clip.detail is None or clip.detail_affine is None:
        return same
    search, detail = clip.affine.double(), clip.detail_affine.double()
    (height, width), (view_height, view_width) = clip.search.shape[-2:], clip.detail.shape[-2:]
    back = inverse(search[..., :2])
    linear = back @ detail[..., :2]
    shift = back @ (detail[..., 2:] - search[..., 2:])  # of pixel centres
    shift = shift - 0.5 * linear.sum(-1, keepdim=True) + 0.5
    columns = linear[..., 0] * view_width, linear[..., 1] * view_height, shift[..., 0]
    x, y = torch.stack(columns, dim=-1).unbind(-2)
    return torch.stack([x / width, y / height], dim=-2).to(dtype)


def sample_maps(maps: Tensor, view: Tensor, height: int, width: int) -> Tensor:
    """Read maps at the cells of a grid over the view, bilinearly; 0 beyond the maps.

    Args:
        maps: (N, C, rows, columns) over the search crop.
        view: (N, 2, 3), from [0, 1] of the view to [0, 1] of the search crop.
        height: rows of the grid.
        width: its columns.

    Returns:
        (N, C, height, width) in full precision.
    """
    theta = view.clone()  # affine_grid counts from -1 to 1
    theta[..., 2] = 2 * view[..., 2] + view[..., :2].sum(-1) - 1
    points = [len(maps), 1, height, width]
    grid = run_in_full(lambda theta: F.affine_grid(theta, points, align_corners=False), theta)
    return F.grid_sample(in_full(maps), grid, padding_mode="zeros", align_corners=False)


def local_mean(logits: Tensor, embedding: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return where the best cell's surroundings have their mean, and what stands there.

    The softmax of the logits is cut to a window around its peak: far cells would draw the mean away.

    Args:
        logits: (B, T, h, w).
        embedding: (B, T, E, h, w).
        window: cells on each side of the best one.

    Returns:
        Centres (B, T, 2) x, y in [0, 1] of the map, mean embeddings (B, T, E), and the share (B, T) of the
        whole softmax that lies in the window.
    """
    height, width = logits.shape[-2:]
    best = logits.detach().flatten(2).argmax(-1)
    x = torch.arange(width, device=logits.device)
    y = torch.arange(height, device=logits.device)
    near_x = (x - (best % width)[..., None]).abs() <= window  # (B, T, w)
    near_y = (y - (best // width)[..., None]).abs() <= window  # (B, T, h)
    near = near_y[..., :, None] & near_x[..., None, :]
    local = logits.masked_fill(~near, -math.inf)
    weights = local.flatten(2).softmax(-1).view_as(logits)
    centre_x = (weights.sum(-2) * (x + 0.5)).sum(-1) / width
    centre_y = (weights.sum(-1) * (y + 0.5)).sum(-1) / height
    found = torch.einsum("bthw,btehw->bte", weights, embedding)
    share = (local.flatten(2).logsumexp(-1) - logits.flatten(2).logsumexp(-1)).exp()
    return torch.stack([centre_x, centre_y], dim=-1), found, share


def location_loss(logits: Tensor, centres: Tensor, view: Tensor) -> Tensor:
    """Return the divergence of the map's softmax from the true centre, (B, T), at least 0.

    The centre is shared out to the four cells around it as in bilinear interpolation, so that the mean of
    the best possible map is the centre itself (the distribution focal loss in two dimensions, less its
    entropy).

    Args:
        logits: (B, T, h, w) over the cells of the view.
        centres: (B, T, 2) x, y in [0, 1] of the search crop.
        view: (B, T, 2, 3), from [0, 1] of the view to [0, 1] of the search crop.

    Returns:
        The loss; 0 where the centre lies outside the view.
    """
    height, width = logits.shape[-2:]
    linear, shift = view[..., :2], view[..., 2]
    inside = torch.linalg.solve(linear.double(), (centres - shift).double())
    inside = inside.to(full_type(logits))  # (B, T, 2)
    seen = ((inside >= 0) & (inside <= 1)).all(-1)
    log_p = logits.flatten(2).log_softmax(-1)
    loss = torch.zeros_like(log_p[..., 0])
    for column, across in _two_cells(inside[..., 0], width):
        for row, down in _two_cells(inside[..., 1], height):
            share = across * down
            at = log_p.gather(-1, (row * width + column)[..., None]).squeeze(-1)
            loss = loss + torch.xlogy(share, share) - share * at
    return torch.where(seen, loss, torch.zeros_like(loss))


def _two_cells(place: Tensor, cells: int) -> list[tuple[Tensor, Tensor]]:
    """Return the cells before and behind places in [0, 1], and the share of each."""
    position = (place * cells - 0.5).clamp(0, cells - 1)
    first = position.floor().clamp(max=max(cells - 2, 0))
    behind = position - first
    second = (first + 1).clamp(max=cells - 1)
    return [(first.long(), 1 - behind), (second.long(), behind)]
