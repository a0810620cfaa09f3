"""Where a target is: boxes taken from crops to frames, the mean cell of a score map, the box of a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from mtltrack.core.precision import full_type


def boxes_in_frame(boxes_cxcywh: Tensor, affine: Tensor, crop_size: tuple[int, int]) -> Tensor:
    """Map boxes from crops to frames.

    Args:
        boxes_cxcywh: (..., 4) in [0, 1] of the crop.
        affine: (..., 2, 3) crop pixel (x, y, 1) to frame pixel; a mirrored crop has a negative number in it.
        crop_size: height and width of the crop in pixels.

    Returns:
        (..., 4) cxcywh in frame pixels, in full precision; the sides are positive, mirrored or not.
    """
    height, width = crop_size
    cx, cy, w, h = boxes_cxcywh.unbind(-1)
    x, y = cx * width - 0.5, cy * height - 0.5  # affines speak of pixels' centres, boxes of places between
    w, h = w * width, h * height
    rows = affine.to(full_type(boxes_cxcywh)).unbind(-2)  # (..., 3) each
    centre = [row[..., 0] * x + row[..., 1] * y + row[..., 2] + 0.5 for row in rows]
    sides = [row[..., 0].abs() * w + row[..., 1].abs() * h for row in rows]
    return torch.stack(centre + sides, dim=-1)


def mean_cell(score_map: Tensor, offset_map: Tensor) -> Tensor:
    """Return the mean place of a score map's cells, each weighed by its odds s / (1 - s): a soft-argmax.

    Odds let one cell near 1 outweigh hundreds near 0, which the scores themselves don't.

    Args:
        score_map: (B, T, 1, h, w) in (0, 1).
        offset_map: (B, T, 2, h, w) in cells.

    Returns:
        (B, T, 2) x, y in [0, 1] of the crop.
    """
    rows, columns = score_map.shape[-2:]
    weights = torch.softmax(torch.logit(score_map).flatten(2), dim=-1)[:, :, None]  # (B, T, 1, h w)
    y, x = torch.meshgrid(
        torch.arange(rows, device=score_map.device, dtype=score_map.dtype),
        torch.arange(columns, device=score_map.device, dtype=score_map.dtype),
        indexing="ij",
    )
    places = (torch.stack([x, y]) + offset_map).flatten(3)  # (B, T, 2, h w)
    across, down = (weights * places).sum(-1).unbind(-1)
    return torch.stack([across / columns, down / rows], dim=-1)


def inverse(matrices: Tensor) -> Tensor:
    """Return the inverses of matrices (..., 2, 2); `torch.linalg.inv` makes the host wait for a GPU's check.

    That of a matrix without an inverse isn't finite.
    """
    (a, b), (c, d) = (row.unbind(-1) for row in matrices.unbind(-2))
    adjugate = torch.stack([torch.stack([d, -b], dim=-1), torch.stack([-c, a], dim=-1)], dim=-2)
    return adjugate / (a * d - b * c)[..., None, None]


def mask_boxes(logits: Tensor, boxes_cxcywh: Tensor) -> Tensor:
    """Return the boxes that have the masks' first and second moments.

    A uniform rectangle w wide has the variance w^2 / 12, so w = sqrt(12 var); a vehicle's mask gives a box a
    little smaller than its outermost pixels. Pixels count by how far their probability is above one half, so
    that the background has no say.

    Args:
        logits: (B, T, h, w) of the crop.
        boxes_cxcywh: (B, T, 4) in [0, 1] of the crop, the answer where a mask is empty.

    Returns:
        (B, T, 4) cxcywh in [0, 1] of the crop.
    """
    weights = (2 * logits.sigmoid() - 1).clamp(min=0)
    mass = weights.sum((-2, -1))  # (B, T)
    some = mass > 0
    weights = weights / torch.where(some, mass, torch.ones_like(mass))[..., None, None]
    centres, sides = [], []
    for axis in (-1, -2):
        cells = logits.shape[axis]
        line = weights.sum(-3 - axis)  # (B, T, cells)
        place = (torch.arange(cells, device=line.device, dtype=line.dtype) + 0.5) / cells
        centre = (line * place).sum(-1)
        variance = (line * (place - centre[..., None]) ** 2).sum(-1) + 1 / (12 * cells**2)
        centres.append(centre)
        sides.append((12 * variance).sqrt())
    return torch.where(some[..., None], torch.stack(centres + sides, dim=-1), boxes_cxcywh)
