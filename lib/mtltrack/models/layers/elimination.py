"""Candidate elimination: dropping search tokens that the template doesn't attend to.

From OSTrack: Ye et al., Joint Feature Learning and Relation Modeling for Tracking, ECCV 2022, section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPLATE_RANGES = ("ALL", "CTR_POINT", "CTR_REC", "GT_BOX")


@dataclass
class TemplateRows:
    """The template tokens whose attention decides.

    Attributes:
        index: (R,) token numbers whose attention rows must be computed; None for all of them.
        weights: (B, R) weights that sum to 1 over R: the mean over the chosen tokens of each sample.
    """

    index: Tensor | None
    weights: Tensor

    def repeated(self, times: int) -> TemplateRows:
        """Repeat each sample's rows for `times` frames, (B, R) -> (B * times, R)."""
        return TemplateRows(self.index, self.weights.repeat_interleave(times, dim=0))


def python_slice_mask(start: Tensor, stop: Tensor, size: int) -> Tensor:
    """Return which of `size` positions Python's slice [start:stop] takes, (N,) and (N,) -> (N, size).

    Negative numbers count from the end, as they do in the published code that slices with box corners.
    """
    start = torch.where(start < 0, (start + size).clamp_min(0), start)[:, None]
    stop = torch.where(stop < 0, (stop + size).clamp_min(0), stop)[:, None]
    position = torch.arange(size, device=start.device)[None]
    return (position >= start) & (position < stop)


def template_mask(kind: str, boxes_xywh: Tensor, template_size: int, stride: int) -> Tensor | None:
    """Choose the template tokens whose attention decides (MODEL.BACKBONE.CE_TEMPLATE_RANGE).

    Args:
        kind: ALL (every token), CTR_POINT (the token left and above of the centre, or the centre of an odd
            grid), CTR_REC (the central 2 x 2, the centre of an odd grid), GT_BOX (tokens that the target's
            box touches).
        boxes_xywh: (B, 4) target box in [0, 1] of the template crop; only its batch size counts except for
            GT_BOX.
        template_size: pixels.
        stride: pixels a token.

    Returns:
        (B, Nz) bool, or None for ALL.

    Raises:
        ValueError: unknown `kind`.
    """
    grid, batch = template_size // stride, boxes_xywh.shape[0]
    if kind == "ALL":
        return None
    if kind == "GT_BOX":
        boxes = boxes_xywh * template_size
        start, stop = boxes[:, :2].trunc(), (boxes[:, :2] + boxes[:, 2:] - 1).trunc()
        columns = python_slice_mask(start[:, 0], stop[:, 0], template_size)
        rows = python_slice_mask(start[:, 1], stop[:, 1], template_size)
        inside = (rows[:, None, :, None] & columns[:, None, None, :]).float()  # (B, 1, size, size)
        return F.interpolate(inside, scale_factor=1.0 / stride, mode="bilinear").flatten(1) > 0
    first, last = _central_cells(kind, grid)
    mask = torch.zeros(batch, grid, grid, dtype=torch.bool, device=boxes_xywh.device)
    mask[:, first:last, first:last] = True
    return mask.flatten(1)


def template_rows(kind: str, boxes_xywh: Tensor, template_size: int, stride: int) -> TemplateRows:
    """Like `template_mask`, as the attention rows to compute and their weights.

    The tokens of ALL, CTR_POINT and CTR_REC are the same for every sample, so only those rows are computed;
    GT_BOX computes all rows and weighs them, which spares a copy from the device.
    """
    batch, grid = boxes_xywh.shape[0], template_size // stride
    if kind == "GT_BOX":
        mask = template_mask(kind, boxes_xywh, template_size, stride)
        assert mask is not None
        return TemplateRows(None, mask / mask.sum(1, keepdim=True).clamp_min(1))
    if kind == "ALL":
        return TemplateRows(None, boxes_xywh.new_full((batch, grid**2), 1.0 / grid**2))
    first, last = _central_cells(kind, grid)
    line = torch.arange(first, last, device=boxes_xywh.device)
    index = (line[:, None] * grid + line).flatten()
    return TemplateRows(index, boxes_xywh.new_full((batch, len(index)), 1.0 / len(index)))


def _central_cells(kind: str, grid: int) -> tuple[int, int]:
    """Return where the central cells of a row of `grid` begin and end.

    Raises:
        ValueError: `kind` is neither CTR_POINT nor CTR_REC.
    """
    if kind not in ("CTR_POINT", "CTR_REC"):
        raise ValueError(f"CE_TEMPLATE_RANGE is '{kind}'; known: {', '.join(TEMPLATE_RANGES)}")
    first = (grid - 1) // 2
    return first, first + (1 if kind == "CTR_POINT" or grid % 2 else 2)


def keep_rate(epoch: int, start: int, total: int, base: float, highest: float = 1.0) -> float:
    """Share of search tokens kept at `epoch`: `highest` before `start`, a cosine down to `base` at `total`.

    Args:
        epoch: 1-based.
        start: CE_START_EPOCH.
        total: CE_START_EPOCH + CE_WARM_EPOCH.
        base: CE_KEEP_RATIO.
        highest: share before `start`.
    """
    if epoch < start:
        return 1.0
    if epoch >= total:
        return base
    progress = (epoch - start) / (total - start)
    return base + (highest - base) * (math.cos(progress * math.pi) + 1) * 0.5


@dataclass
class Elimination:
    """What an elimination did: tokens (B, Nz + n, C), kept (B, n) and removed (B, m) token numbers."""

    tokens: Tensor
    kept: Tensor
    removed: Tensor | None


def eliminate(
    scores: Tensor, tokens: Tensor, num_template: int, ratio: float, numbers: Tensor
) -> Elimination:
    """Keep the best `ceil(ratio * Ns)` search tokens.

    Args:
        scores: (B, Ns) attention that each search token receives from the chosen template tokens.
        tokens: (B, Nz + Ns, C), template first.
        num_template: Nz.
        ratio: share kept, in (0, 1].
        numbers: (B, Ns) each token's number in the full search grid.

    Returns:
        The remaining tokens; `removed` is None when all stay.
    """
    count = scores.shape[1]
    keep = math.ceil(ratio * count)
    if keep == count:
        return Elimination(tokens, numbers, None)
    order = scores.sort(dim=1, descending=True).indices
    best = order[:, :keep]
    channels = tokens.shape[-1]
    search = tokens[:, num_template:].gather(1, best[..., None].expand(-1, -1, channels))
    return Elimination(
        torch.cat([tokens[:, :num_template], search], dim=1),  # (B, Nz + keep, C)
        numbers.gather(1, best),
        numbers.gather(1, order[:, keep:]),
    )
