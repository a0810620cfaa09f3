"""Losses of a mask, one value a sample.

They take logits and work in full precision whatever the precision around them. A target is a mask, or a share
in [0, 1] of each pixel; a mask without a pixel is a target like any other.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mtltrack.core.precision import in_full

EMPTY = 1.0  # the `e` of the Dice loss in pixels: an empty mask's loss is defined, and 0 at best


def mask_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, mean over the pixels: `-[q log p + (1 - q) log(1 - p)]`, p = sigmoid(logits).

    Its gradient on a logit is (p - q) / pixels. Against a share q it is least, but not 0, at p = q.

    Args:
        logits: (N, H, W).
        target: (N, H, W) in [0, 1].

    Returns:
        (N,) losses.
    """
    logits = in_full(logits)
    loss = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return loss.flatten(1).mean(1)


def dice_loss(logits: Tensor, target: Tensor, empty: float = EMPTY) -> Tensor:
    """Dice loss `1 - (2 sum(p q) + e) / (sum p + sum q + e)`, p = sigmoid(logits).

    The soft Dice of V-Net (Milletari et al., 3DV 2016, eq. 2-3) with plain sums below the line in place of
    sums of squares, and with e, which makes the loss of an empty mask sum p / (sum p + e) instead of
    undefined.

    Args:
        logits: (N, H, W).
        target: (N, H, W) in [0, 1].
        empty: e, above 0, in pixels.

    Returns:
        (N,) losses in [0, 1).
    """
    share = in_full(logits).sigmoid().flatten(1)
    target = target.to(share.dtype).flatten(1)
    common = (share * target).sum(1)
    return 1 - (2 * common + empty) / (share.sum(1) + target.sum(1) + empty)
