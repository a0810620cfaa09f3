"""Classification losses, one value a sample, by the names that TRAIN.CLS_LOSS_TYPE gives them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtltrack.core.conditions import UNLABELLED
from mtltrack.core.precision import in_full
from mtltrack.core.registry import LOSSES


@LOSSES.register_module(name="CE")
def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, (N, K) logits and (N,) classes -> (N,); 0 where the class is -100."""
    return F.cross_entropy(in_full(logits), target, ignore_index=UNLABELLED, reduction="none")


@LOSSES.register_module(name="LABEL_SMOOTH")
def label_smoothed_cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy against `1 - smoothing` on the class, `smoothing / K` on all: (N, K), (N,) -> (N,)."""
    return F.cross_entropy(
        in_full(logits), target, ignore_index=UNLABELLED, reduction="none", label_smoothing=smoothing
    )


@LOSSES.register_module(name="FOCAL")
def softmax_focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss `-alpha (1 - p_t)^gamma log p_t` of a softmax (Lin et al., ICCV 2017).

    Args:
        logits: (N, K).
        target: (N,) classes, -100 ignored (loss 0).
        alpha: one factor for all classes.
        gamma: at least 0; below 1 the slope at p_t = 1 is infinite, so 1 - p_t is kept above 1e-6.

    Returns:
        (N,) losses.
    """
    known = target != UNLABELLED
    log_p = F.log_softmax(in_full(logits), dim=-1)
    log_pt = log_p.gather(1, target.clamp_min(0)[:, None]).squeeze(1)
    rest = (1 - log_pt.exp()).clamp_min(1e-6)
    return torch.where(known, -alpha * rest**gamma * log_pt, torch.zeros_like(log_pt))


@LOSSES.register_module(name="BCE")
def multi_label_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy over the known ones of K independent labels; 0 where none is known.

    Args:
        logits: (N, K).
        target: (N, K) bool, or 0 and 1 with -100 where a label isn't known.

    Returns:
        (N,) losses.
    """
    known = target != UNLABELLED
    logits = in_full(logits)
    wanted = torch.where(known, target, torch.zeros_like(target)).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (loss * known).sum(-1) / known.sum(-1).clamp_min(1)
