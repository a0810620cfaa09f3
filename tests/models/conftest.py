"""Small trackers for the model tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mtltrack.core.types import Clip
from mtltrack.models.backbones.vit import OneStreamViT
from mtltrack.models.history import HistoryNetwork
from mtltrack.models.tracker import HistorySettings, Tracker
from mtltrack.tasks.box import CenterHead
from mtltrack.tasks.cls import ClsHead


@pytest.fixture
def make_tracker() -> Callable[..., Tracker]:
    """Build a tracker of some ten thousand parameters; search 64 px, template 32 px, width 24."""

    def make(
        history: bool = True, width: int = 24, search: int = 64, frames_at_once: bool | None = None
    ) -> Tracker:
        torch.manual_seed(0)
        backbone = OneStreamViT(
            width, 3, 2, search // 2, search, ce_loc=[1], ce_keep_ratio=[0.5], temporal_embedding=history
        )
        return Tracker(
            backbone,
            CenterHead(width, search // 16, hidden=16),
            HistoryNetwork(width, key_dim=8, encoder_width=4) if history else None,
            heads={"cls": ClsHead(width, hidden_dim=12, dropout=0.0)},
            frames_at_once=frames_at_once,
            history_settings=HistorySettings(update_interval=4, max_memory=3),
        )

    return make


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """Build a random normalised clip with a box label on every frame."""

    def make(batch: int = 2, frames: int = 3, search: int = 64, seed: int = 0) -> Clip:
        generator = torch.Generator().manual_seed(seed)
        size = torch.rand(batch, frames, 2, generator=generator) * 0.2 + 0.2
        centre = torch.rand(batch, frames, 2, generator=generator) * 0.4 + 0.3
        return Clip(
            template=torch.randn(batch, 3, search // 2, search // 2, generator=generator),
            template_boxes_xywh=torch.tensor([[0.25, 0.25, 0.5, 0.5]]).expand(batch, 4),
            search=torch.randn(batch, frames, 3, search, search, generator=generator),
            affine=torch.zeros(batch, frames, 2, 3),
            timestamps=torch.arange(frames, dtype=torch.float64).expand(batch, frames) / 30,
            labels={
                "box": {
                    "valid": torch.ones(batch, frames, dtype=torch.bool),
                    "cxcywh": torch.cat([centre, size], dim=-1),
                }
            },
        )

    return make
