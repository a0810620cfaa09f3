"""Scaled dot-product attention in the form that is fastest where it runs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mtltrack.core.kernels import is_onednn
from mtltrack.core.precision import in_full

FEWEST_TOKENS = 256  # below, the calls of so many small products cost more than they gain
LARGEST_AT_ONCE = 2**22  # numbers of the heads' matrices; single heads are faster beyond
_BY_HEAD = (torch.float32, torch.bfloat16)


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v, (B, heads, N, d) each -> (B, N, heads * d).

    Torch's fused attention never stores the (N, N) matrix of a head, but on a CPU it multiplies float32 by
    torch's default kernel, and bfloat16 hardly faster. Where oneDNN was found to be faster (see
    `mtltrack.core.kernels`) as many heads are computed at once as have matrices that stay in the cache, and
    the products run at oneDNN's speed.
    """
    if query.device.type == "cpu" and query.dtype in _BY_HEAD and is_onednn() and not dropout:
        if query.shape[2] >= FEWEST_TOKENS:
            with torch.autocast("cpu", enabled=False):
                return AttentionByHead.apply(query, key, value)
    mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    return mixed.transpose(1, 2).flatten(2)


class AttentionByHead(torch.autograd.Function):
    """Attention with one head's matrix, or one sample's, at a time, formed again in the backward pass.

    Logits, weights and their gradients are float32, as they are within fused attention (Dao et al.,
    FlashAttention, NeurIPS 2022, section 3 and appendix B.2, whose backward pass this is without its tiles).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, count, width = query.shape
        mixed = value.new_empty(batch, count, heads, width)
        by_head = mixed.transpose(1, 2)
        for part in _parts(batch, heads, count):
            weights = _weights(query[part], key[part])  # (N, N), or (heads, N, N)
            by_head[part] = weights.to(value.dtype) @ value[part]
        ctx.save_for_backward(query, key, value, mixed)
        return mixed.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, mixed = ctx.saved_tensors
        batch, heads, count, width = query.shape
        gradient = gradient.view(batch, count, heads, width).transpose(1, 2)  # (B, heads, N, d)
        # of each query: the weights' mean gradient, which a softmax takes off
        means = (in_full(gradient) * in_full(mixed.transpose(1, 2))).sum(-1, keepdim=True)  # (B, heads, N, 1)
        by_query, by_key, by_value = (torch.empty_like(part) for part in (query, key, value))
        for part in _parts(batch, heads, count):
            weights = _weights(query[part], key[part])
            own = gradient[part]
            by_value[part] = weights.to(own.dtype).mT @ own
            by_weight = in_full(own) @ in_full(value[part]).mT
            by_logit = by_weight.sub_(means[part]).mul_(weights).mul_(width**-0.5)
            by_logit = by_logit.to(query.dtype)
            by_query[part] = by_logit @ key[part]
            by_key[part] = by_logit.mT @ query[part]
        return by_query, by_key, by_value


def _parts(batch: int, heads: int, count: int) -> list[tuple[int, ...]]:
    """Return what is computed at once: a sample's heads where they are small, else single heads."""
    if heads * count**2 <= LARGEST_AT_ONCE:
        return [(b,) for b in range(batch)]
    return [(b, h) for b in range(batch) for h in range(heads)]


def _weights(query: Tensor, key: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)), (..., N, d) each -> (..., N, N) in float32."""
    return ((in_full(query) * query.shape[-1] ** -0.5) @ in_full(key).mT).softmax(-1)
