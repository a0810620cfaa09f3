"""Transformer blocks that can tell how much attention the search tokens receive."""

from __future__ import annotations

from functools import partial

import torch
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from mtltrack.models.layers.attention import attend
from mtltrack.models.layers.elimination import TemplateRows


class ScoringAttention(Attention):
    """timm's attention, fused, with the attention of some rows on the side.

    Fused attention never forms the attention matrix; elimination needs a few of its rows. They are computed
    apart as softmax(q[rows] k^T), without gradient: the scores only choose, and choosing has no derivative.
    """

    def forward_scored(self, tokens: Tensor, num_template: int, rows: TemplateRows) -> tuple[Tensor, Tensor]:
        """Return the attention's output (B, N, C) and the search tokens' scores (B, N - num_template)."""
        query, key, value = self._project(tokens)
        with torch.no_grad():
            scores = self._scores(query, key, num_template, rows)
        return self._attend(query, key, value), scores

    def forward(self, tokens: Tensor) -> Tensor:
        return self._attend(*self._project(tokens))

    def _project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, count, _ = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each (B, heads, N, C / heads)
        return query, key, value

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        dropout = self.attn_drop.p if self.training else 0.0
        return self.proj_drop(self.proj(attend(query, key, value, dropout)))  # (B, N, C)

    def _scores(self, query: Tensor, key: Tensor, num_template: int, rows: TemplateRows) -> Tensor:
        template = query[:, :, :num_template]
        if rows.index is not None:
            template = template.index_select(2, rows.index)  # (B, heads, R, C / heads)
        attention = ((template * self.scale) @ key.transpose(-2, -1)).float().softmax(-1)
        received = attention[..., num_template:].mean(1)  # (B, R, Ns)
        return torch.einsum("br,brn->bn", rows.weights, received)


class OneStreamBlock(Block):
    """timm's pre-norm block whose two halves can be run apart, with elimination between them."""

    def __init__(self, dim: int, num_heads: int, drop_path: float = 0.0) -> None:
        super().__init__(
            dim, num_heads, qkv_bias=True, drop_path=drop_path, norm_layer=partial(nn.LayerNorm, eps=1e-6)
        )
        self.attn = ScoringAttention(dim, num_heads=num_heads, qkv_bias=True)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.drop_path1(self.attn(self.norm1(tokens)))
        return self.feed_forward(tokens)

    def attend_scored(self, tokens: Tensor, num_template: int, rows: TemplateRows) -> tuple[Tensor, Tensor]:
        """Run the attention half; return tokens (B, N, C) and the search tokens' scores (B, Ns)."""
        mixed, scores = self.attn.forward_scored(self.norm1(tokens), num_template, rows)
        return tokens + self.drop_path1(mixed), scores

    def feed_forward(self, tokens: Tensor) -> Tensor:
        """Run the MLP half, (B, N, C) -> (B, N, C)."""
        return tokens + self.drop_path2(self.mlp(self.norm2(tokens)))
