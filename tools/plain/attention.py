"""Self-attention as softmax(q k^T / sqrt(d)) v with the matrix formed, in every block.

Candidate elimination then reads the rows that it needs from the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtltrack.models.layers.blocks import ScoringAttention
from mtltrack.models.layers.elimination import TemplateRows


def attend(attention: ScoringAttention, tokens: Tensor) -> Tensor:
    """Return the attention's output, (B, N, C) -> (B, N, C)."""
    return _output(attention, *_matrix_and_values(attention, tokens))


def attend_scored(
    attention: ScoringAttention, tokens: Tensor, num_template: int, rows: TemplateRows
) -> tuple[Tensor, Tensor]:
    """Return the output (B, N, C) and the search tokens' scores (B, N - num_template).

    A score is the attention that a search token receives from the chosen template tokens, the mean over the
    heads (OSTrack, ECCV 2022, section 3.3). It only chooses, so it carries no gradient.
    """
    matrix, values = _matrix_and_values(attention, tokens)
    received = matrix.detach()[:, :, :num_template, num_template:].float().mean(1)  # (B, Nz, Ns)
    if rows.index is not None:
        received = received.index_select(1, rows.index)  # (B, R, Ns)
    return _output(attention, matrix, values), torch.einsum("br,brn->bn", rows.weights, received)


def _matrix_and_values(attention: ScoringAttention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    batch, count, _ = tokens.shape
    qkv = attention.qkv(tokens).reshape(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = qkv.unbind(0)  # each (B, heads, N, C / heads)
    return ((query @ key.transpose(-2, -1)) * attention.scale).softmax(dim=-1), value


def _output(attention: ScoringAttention, matrix: Tensor, values: Tensor) -> Tensor:
    mixed = attention.attn_drop(matrix) @ values  # (B, heads, N, C / heads)
    return attention.proj_drop(attention.proj(mixed.transpose(1, 2).flatten(2)))  # (B, N, C)


@contextmanager
def plain_attention(net: nn.Module) -> Iterator[None]:
    """Let every block of a tracker form its attention matrix while the context lasts."""
    with ExitStack() as undo:
        for module in net.modules():
            if isinstance(module, ScoringAttention):
                undo.enter_context(replaced(module, "forward", partial(attend, module)))
                undo.enter_context(replaced(module, "forward_scored", partial(attend_scored, module)))
        yield


@contextmanager
def replaced(owner: Any, name: str, function: Any) -> Iterator[None]:
    """Put a function in the place of an object's method while the context lasts; what stood there returns."""
    before = vars(owner).get(name)
    object.__setattr__(owner, name, function)
    try:
        yield
    finally:
        if before is None:
            object.__delattr__(owner, name)
        else:
            object.__setattr__(owner, name, before)
