"""The centre head whose sizes are distributions, learned with the distribution focal loss."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from mtltrack.core.precision import in_full, run_in_full
from mtltrack.core.registry import HEADS
from mtltrack.core.types import TaskOutput
from mtltrack.losses.boxes import boxes_xyxy_to_cxcywh, distribution_focal_loss
from mtltrack.tasks.box import SCORE_FLOOR, CenterHead, corner_boxes


@HEADS.register_module(name="DFL")
class DistributionHead(CenterHead):
    """The centre head with a distribution over sizes in place of one number.

    Li et al., "Generalized Focal Loss", NeurIPS 2020, equations 5 and 6: a side is the mean of a softmax over
    bins, which the loss draws to the two bins around the true value. There it is the distance from a cell to
    each side of the box; here it is width and height, because the centre comes from the score and offset
    maps: all else stays the centre head's, and only the last convolution of the size branch is larger. Bin k
    stands for k cells, k from 0 to `grid`.

    Predictions beside the centre head's: `size_logits` (B, T, 2 (grid + 1), h, w), first the width's bins.

    The loss is taken where the box is read, at the best-scored cell, as the overlap loss and L1 are.

    Args:
        channels: C of the features.
        grid: cells along each side.
        dfl_weight: TRAIN.DFL_WEIGHT; by default an eighth of the overlap loss's, as in the paper.
        head: what the centre head takes.
    """

    reaches: ClassVar[dict[str, tuple[str, ...]]] = {**CenterHead.reaches, "dfl": ("size",)}

    def __init__(self, channels: int, grid: int, dfl_weight: float = 0.25, **head: Any) -> None:
        self.bins = grid + 1
        super().__init__(channels, grid, **head)
        self.term_weights["dfl"] = dfl_weight

    def size_channels(self) -> int:
        return 2 * self.bins

    def read_sizes(self, logits: Tensor) -> dict[str, Tensor]:
        logits = in_full(logits)
        shares = logits.unflatten(1, (2, self.bins)).softmax(2)  # (B, 2, bins, h, w)
        sizes = torch.arange(self.bins, device=shares.device, dtype=shares.dtype) / (self.bins - 1)
        size_map = run_in_full(_mean_size, shares, sizes).clamp(SCORE_FLOOR, 1 - SCORE_FLOOR)
        return {"size_map": size_map, "size_logits": logits}

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = super().loss_terms(output, labels)
        logits = output.predictions["size_logits"].flatten(3)  # (B, T, 2 bins, h w)
        best = output.predictions["score_map"].flatten(2).argmax(2)  # (B, T)
        where = best[..., None, None].expand(-1, -1, logits.shape[2], -1)
        read = logits.gather(3, where).squeeze(3).unflatten(2, (2, self.bins))  # (B, T, 2, bins)
        _, target_xyxy = corner_boxes(output, labels)
        sides = boxes_xyxy_to_cxcywh(target_xyxy)[..., 2:] * (self.bins - 1)  # (B, T, 2) in cells
        loss = distribution_focal_loss(read.flatten(0, 2), sides.flatten())
        terms["dfl"] = loss.view(sides.shape).mean(2)
        return terms


def _mean_size(shares: Tensor, sizes: Tensor) -> Tensor:
    """Return the sizes weighed by their shares, (B, 2, bins, h, w) and (bins,) -> (B, 2, h, w)."""
    return torch.einsum("bskhw,k->bshw", shares, sizes)
