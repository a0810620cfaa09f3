"""Heat maps of target centres, and the focal loss on them."""

from __future__ import annotations

import torch
from torch import Tensor

from mtltrack.core.precision import in_full


def gaussian_radius(sizes: Tensor, min_overlap: float = 0.7) -> Tensor:
    """Radius within which a shifted box still overlaps the target, (N, 2) sizes in cells -> (N,) cells.

    The three cases are CornerNet's (Law and Deng, ECCV 2018) in the form that all trackers of this family
    use. Its roots lack the division by 2a of the quadratic formula in two of three cases; the published
    weights were trained with these radii, so they stay.
    """
    height, width = sizes[:, 1], sizes[:, 0]
    total, product = height + width, width * height
    linear = (total, 2 * total, -2 * min_overlap * total)
    leading = (1.0, 4.0, 4 * min_overlap)
    constant = (
        product * (1 - min_overlap) / (1 + min_overlap),
        (1 - min_overlap) * product,
        (min_overlap - 1) * product,
    )
    roots = [
        (b + torch.sqrt(b**2 - 4 * a * c)) / 2 for a, b, c in zip(leading, linear, constant, strict=True)
    ]
    return torch.stack(roots).amin(0)


def gaussian_heatmap(boxes_xywh: Tensor, size: int, min_overlap: float = 0.7) -> Tensor:
    """Draw one Gaussian a box, its peak of 1 on the cell nearest the box's centre.

    Args:
        boxes_xywh: (N, 4) in [0, 1] of the crop.
        size: cells along each side of the map.
        min_overlap: overlap that defines the radius.

    Returns:
        (N, size, size) float32 in [0, 1]; a box whose centre lies outside leaves only what reaches into the
        map.
    """
    cells = in_full(boxes_xywh) * size
    sizes = cells[:, 2:]
    centres = (cells[:, :2] + sizes / 2).round()  # (N, 2)
    radius = gaussian_radius(sizes, min_overlap).clamp_min(0).trunc()[:, None, None]  # (N, 1, 1)
    grid = torch.arange(size, device=cells.device, dtype=cells.dtype)
    dx = grid[None, None, :] - centres[:, 0, None, None]  # (N, 1, size)
    dy = grid[None, :, None] - centres[:, 1, None, None]  # (N, size, 1)
    sigma = (2 * radius + 1) / 6
    heat = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))  # (N, size, size)
    return torch.where((dx.abs() <= radius) & (dy.abs() <= radius), heat, torch.zeros_like(heat))


def heatmap_focal_loss(probabilities: Tensor, target: Tensor, reduction: str = "sample") -> Tensor:
    """Penalty-reduced focal loss of a heat map (CenterNet, Zhou et al. 2019, eq. 1; alpha 2, beta 4).

    Args:
        probabilities: (N, ...) in (0, 1), already clamped away from 0 and 1.
        target: (N, ...) in [0, 1]; cells that are exactly 1 are positives.
        reduction: "sample" divides each sample by its own number of positives; "batch" divides the sum by the
            batch's number of positives, as the published trackers do. The two agree where each sample has
            one.

    Returns:
        (N,) for "sample", a scalar for "batch". Without a positive only the negative term is left, undivided.
    """
    if reduction not in ("sample", "batch"):
        raise ValueError(f"reduction must be 'sample' or 'batch', found {reduction!r}")
    probabilities = in_full(probabilities).flatten(1)  # (N, cells)
    target = target.to(probabilities.dtype).flatten(1)
    positive = target.eq(1)
    positive_term = torch.log(probabilities) * (1 - probabilities) ** 2 * positive
    negative_term = torch.log(1 - probabilities) * probabilities**2 * (1 - target) ** 4 * ~positive
    loss = -(positive_term + negative_term).sum(1)  # (N,)
    count = positive.sum(1)
    if reduction == "batch":
        loss, count = loss.sum(), count.sum()
    return loss / count.clamp_min(1)
