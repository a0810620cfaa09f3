"""Scaled dot-product attention in the form that is fastest where it runs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtltrack.core.kernels import is_onednn
from mtltrack.core.precision import in_full

_BY_HEAD = (torch.float32, torch.bfloat16)


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v, (B, heads, N, d) each -> (B, N, heads * d).

    Torch's fused attention never stores the (N, N) matrix of a head, but on a CPU it multiplies float32 by
    torch's default kernel, and bfloat16 hardly faster. Where oneDNN was found to be faster (see
    `mtltrack.core.kernels`) and no gradient is asked for, the heads are computed one by one: a head's matrix
    of some hundred tokens stays in the cache, and its two products run at oneDNN's speed. The logits are
    float32 in any case, as they are within fused attention.
    """
    if query.device.type == "cpu" and query.dtype in _BY_HEAD and is_onednn() and not dropout:
        if not (torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))):
            return _by_head(query, key, value)
    mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    return mixed.transpose(1, 2).flatten(2)


def _by_head(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    batch, heads, count, width = query.shape
    mixed = value.new_empty(batch, count, heads * width)
    with torch.autocast("cpu", enabled=False):
        query, key = in_full(query) * width**-0.5, in_full(key)
        for b in range(batch):
            for h in range(heads):
                weights = (query[b, h] @ key[b, h].T).softmax(-1)  # (N, N)
                mixed[b, :, h * width : (h + 1) * width] = weights.to(value.dtype) @ value[b, h]
    return mixed
