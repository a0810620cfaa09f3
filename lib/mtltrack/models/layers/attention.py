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
_BY_HEAD = (torch.float32, torch.bfloat16)


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v, (B, heads, N, d) each -> (B, N, heads * d).

    Torch's fused attention never stores the (N, N) matrix of a head, but on a CPU it multiplies float32 by
    torch's default kernel, and bfloat16 hardly faster. Where oneDNN was found to be faster (see
    `mtltrack.core.kernels`) the heads are computed one by one: a head's matrix of some hundred tokens stays
    in the cache, and its products run at oneDNN's speed.
    """
    if query.device.type == "cpu" and query.dtype in _BY_HEAD and is_onednn() and not dropout:
        if query.shape[2] >= FEWEST_TOKENS:
            with torch.autocast("cpu", enabled=False):
                return AttentionByHead.apply(query, key, value)
    mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    return mixed.transpose(1, 2).flatten(2)


class AttentionByHead(torch.autograd.Function):
    """Attention with one head's matrix at a time, formed again in the backward pass.

    Logits, weights and their gradients are float32, as they are within fused attention (Dao et al.,
    FlashAttention, NeurIPS 2022, section 3 and appendix B.2, whose backward pass this is without its tiles).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, count, width = query.shape
        mixed = value.new_empty(batch, count, heads, width)
        for b in range(batch):
            for h in range(heads):
                weights = _weights(query[b, h], key[b, h])  # (N, N)
                mixed[b, :, h] = weights.to(value.dtype) @ value[b, h]
        ctx.save_for_backward(query, key, value, mixed)
        return mixed.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, mixed = ctx.saved_tensors
        batch, heads, count, width = query.shape
        gradient = gradient.view(batch, count, heads, width)
        # of each query: the weights' mean gradient, which a softmax takes off
        means = (in_full(gradient) * in_full(mixed)).sum(-1)  # (B, N, heads)
        by_query, by_key, by_value = (torch.empty_like(part) for part in (query, key, value))
        for b in range(batch):
            for h in range(heads):
                weights = _weights(query[b, h], key[b, h])
                own = gradient[b, :, h]
                by_value[b, h] = weights.to(own.dtype).T @ own
                by_weight = in_full(own) @ in_full(value[b, h]).T
                by_logit = by_weight.sub_(means[b, :, h, None]).mul_(weights).mul_(width**-0.5)
                by_logit = by_logit.to(query.dtype)
                by_query[b, h] = by_logit @ key[b, h]
                by_key[b, h] = by_logit.T @ query[b, h]
        return by_query, by_key, by_value


def _weights(query: Tensor, key: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) of one head, (N, d) each -> (N, N) in float32."""
    return ((in_full(query) * query.shape[-1] ** -0.5) @ in_full(key).T).softmax(-1)
