"""The one-stream ViT: template and search tokens in one sequence, with candidate elimination.

Ye et al., Joint Feature Learning and Relation Modeling for Tracking: A One-Stream Framework, ECCV 2022.
Parameter names are those of the published OSTrack and HIPTrack checkpoints (timm's names plus `pos_embed_z`,
`pos_embed_x`, and for HIPTrack the two `temporal_pos_embed_*`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers import PatchEmbed, build_sincos2d_pos_embed, resample_abs_pos_embed, trunc_normal_
from torch import Tensor, nn

from mtltrack.core.registry import BACKBONES
from mtltrack.models.layers.blocks import OneStreamBlock
from mtltrack.models.layers.checkpointing import run_checkpointed
from mtltrack.models.layers.elimination import TemplateRows, eliminate

PRETRAINING_GRID = 14  # 224 px / 16: the position table of every ImageNet and MAE checkpoint


@dataclass
class OneStreamFeatures:
    """Output of one pass: template (B, Nz, C), search (B, Nx, C) with zeros where tokens were removed.

    `removed` holds one (B, n) tensor of token numbers an elimination that removed something.
    """

    template: Tensor
    search: Tensor
    removed: list[Tensor]


class OneStreamViT(nn.Module):
    """One-stream vision transformer.

    Args:
        embed_dim: C.
        depth: number of blocks.
        num_heads: attention heads.
        template_size: pixels, a multiple of `patch_size`.
        search_size: pixels, a multiple of `patch_size`.
        patch_size: pixels a token (MODEL.BACKBONE.STRIDE).
        ce_loc: blocks after whose attention tokens are removed.
        ce_keep_ratio: share kept at each of them.
        drop_path_rate: stochastic depth of the last block; the earlier ones rise linearly to it.
        temporal_embedding: HIPTrack's additional position vector for template and search tokens.

    `checkpoint_activations`, False at first, runs each block as `run_checkpointed` does.
    """

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        num_heads: int,
        template_size: int,
        search_size: int,
        patch_size: int = 16,
        ce_loc: Sequence[int] = (),
        ce_keep_ratio: Sequence[float] = (),
        drop_path_rate: float = 0.0,
        temporal_embedding: bool = False,
    ) -> None:
        super().__init__()
        if len(ce_loc) != len(ce_keep_ratio):
            raise ValueError(
                f"CE_LOC {list(ce_loc)} and CE_KEEP_RATIO {list(ce_keep_ratio)} differ in length"
            )
        if any(not 0 <= location < depth for location in ce_loc):
            raise ValueError(f"CE_LOC {list(ce_loc)} must name blocks 0 to {depth - 1}")
        self.embed_dim, self.patch_size = embed_dim, patch_size
        self.template_grid, self.search_grid = template_size // patch_size, search_size // patch_size
        self.elimination = dict(zip(ce_loc, ce_keep_ratio, strict=True))
        self.patch_embed = PatchEmbed(None, patch_size, 3, embed_dim, strict_img_size=False)
        # no path reads these two: they are kept for the files' sake
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim), requires_grad=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, PRETRAINING_GRID**2 + 1, embed_dim), requires_grad=False)
        self.pos_embed_z = nn.Parameter(torch.zeros(1, self.template_grid**2, embed_dim))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, self.search_grid**2, embed_dim))
        if temporal_embedding:
            self.temporal_pos_embed_z = nn.Parameter(torch.zeros(1, 1, embed_dim))
            self.temporal_pos_embed_x = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.temporal_embedding = temporal_embedding
        self.checkpoint_activations = False
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(OneStreamBlock(embed_dim, num_heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        trunc_normal_(self.cls_token, std=0.02)
        # MAE's table: a model that starts from nothing knows its neighbours from the first step
        table = build_sincos2d_pos_embed([PRETRAINING_GRID] * 2, self.embed_dim)
        with torch.no_grad():
            self.pos_embed[0, 1:] = table.to(self.pos_embed)
        self.resize_position_tables()

    @torch.no_grad()
    def resize_position_tables(self) -> None:
        """Fill `pos_embed_z` and `pos_embed_x` from `pos_embed`, the 14 x 14 table of a pre-training.

        Bicubic without anti-aliasing: the published trackers were fine-tuned from exactly these tables.
        """
        table = self.pos_embed[:, 1:]
        for target, grid in ((self.pos_embed_z, self.template_grid), (self.pos_embed_x, self.search_grid)):
            resized = resample_abs_pos_embed(
                table, [grid, grid], old_size=[PRETRAINING_GRID] * 2, num_prefix_tokens=0, antialias=False
            )
            target.copy_(resized)

    def forward(
        self, template: Tensor, search: Tensor, rows: TemplateRows | None = None, ratio: float | None = None
    ) -> OneStreamFeatures:
        """Run one template and one search frame a sample.

        Args:
            template: (B, 3, Hz, Wz) normalised.
            search: (B, 3, H, W) normalised.
            rows: the template tokens whose attention decides on elimination; needed where `ce_loc` isn't
                empty.
            ratio: share of search tokens kept at every elimination; None takes each one's own, 1 keeps all.
        """
        if self.elimination and rows is None:
            raise ValueError("this backbone eliminates candidates: give `rows` (see template_rows)")
        tokens = torch.cat(
            [self._embed_template(template), self._embed_search(search)], dim=1
        )  # (B, Nz + Nx, C)
        num_template, num_search = self.template_grid**2, self.search_grid**2
        numbers = torch.arange(num_search, device=tokens.device).expand(len(tokens), -1)  # (B, Nx)
        removed: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            keep = self._keep_ratio(i, ratio)
            if keep >= 1 or rows is None:
                tokens = self._run(block, block, tokens)
                continue
            tokens, scores = self._run(block, block.attend_scored, tokens, num_template, rows)
            outcome = eliminate(scores, tokens, num_template, keep, numbers)
            tokens, numbers = self._run(block, block.feed_forward, outcome.tokens), outcome.kept
            if outcome.removed is not None:
                removed.append(outcome.removed)
        tokens = self.norm(tokens)
        left = tokens[:, num_template:]
        if removed:
            where = numbers[..., None].expand(-1, -1, self.embed_dim)
            left = left.new_zeros(len(left), num_search, self.embed_dim).scatter(1, where, left)  # (B, Nx, C)
        return OneStreamFeatures(tokens[:, :num_template], left, removed)

    def _run(self, block: nn.Module, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.checkpoint_activations:
            return run_checkpointed(block, function, *arguments)
        return function(*arguments)

    def _keep_ratio(self, block: int, ratio: float | None) -> float:
        own = self.elimination.get(block, 1.0)
        return own if ratio is None or own >= 1 else ratio

    def _embed_template(self, template: Tensor) -> Tensor:
        tokens = self.patch_embed(template) + self.pos_embed_z
        return tokens + self.temporal_pos_embed_z if self.temporal_embedding else tokens

    def _embed_search(self, search: Tensor) -> Tensor:
        tokens = self.patch_embed(search) + self.pos_embed_x
        return tokens + self.temporal_pos_embed_x if self.temporal_embedding else tokens


_SIZES = {  # embed_dim, depth, num_heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}


def _build(size: tuple[int, int, int], eliminates: bool, **arguments: object) -> OneStreamViT:
    for name, default in zip(("embed_dim", "depth", "num_heads"), size, strict=True):
        if arguments.get(name) is None:
            arguments[name] = default
    if not eliminates:
        arguments.update(ce_loc=(), ce_keep_ratio=())
    return OneStreamViT(**arguments)  # type: ignore[arg-type]


for _name, _size in _SIZES.items():
    for _suffix, _eliminates in (("_ce", True), ("", False)):
        BACKBONES.register_module(
            name=f"vit_{_name}_patch16_224{_suffix}", module=partial(_build, _size, _eliminates)
        )
