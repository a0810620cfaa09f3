"""The real models at a small size, their stages, and clips for them."""

from __future__ import annotations

from typing import Any

import torch

from mtltrack.cli.build import build_tracker
from mtltrack.cli.train_setup import make_stages
from mtltrack.core.config import config_from_dict
from mtltrack.core.types import Clip

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG = {
    "DATA": {"SEARCH": {"SIZE": 64, "NUMBER": 2}, "TEMPLATE": {"SIZE": 32}},
    "MODEL": {
        "PRETRAIN_FILE": "",
        "NEW_HIP": True,
        "BACKBONE": {
            "TYPE": "vit_tiny_patch16_224_ce",
            "EMBED_DIM": 24,
            "DEPTH": 3,
            "NUM_HEADS": 2,
            "CE_LOC": [1],
            "CE_KEEP_RATIO": [0.7],
            "CE_TEMPLATE_RANGE": "CTR_POINT",
        },
        "HEAD": {"NUM_CHANNELS": 16},
        "HISTORY": {"KEY_DIM": 8, "ENCODER_WIDTH": 8},
    },
    "TASKS": {"cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 16, "DROPOUT": 0.1}},
    "TRAIN": {"TWO_STAGE": True, "STAGE1_EPOCHS": 1, "STAGE2_EPOCHS": 1, "DROP_PATH_RATE": 0.2},
}


def build(script: str, train: dict[str, Any] | None = None):
    values = {**CONFIG, "MODEL": dict(CONFIG["MODEL"]), "TRAIN": train or CONFIG["TRAIN"]}
    if script == "ostrack":
        del values["MODEL"]["HISTORY"], values["MODEL"]["NEW_HIP"]
    cfg = config_from_dict(values, script=script)
    torch.manual_seed(0)
    tracker = build_tracker(cfg, script)
    return tracker, {stage.name: stage for stage in make_stages(tracker, cfg, script)}


def clip(seed: int = 0, batch: int = 2, frames: int = 2) -> Clip:
    g = torch.Generator().manual_seed(seed)
    everywhere = torch.ones(batch, frames, dtype=torch.bool)
    boxes = torch.cat(
        [0.3 + 0.4 * torch.rand(batch, frames, 2, generator=g), torch.full((batch, frames, 2), 0.3)], -1
    )
    return Clip(
        template=torch.randint(0, 256, (batch, 3, 32, 32), generator=g, dtype=torch.uint8),
        template_boxes_xywh=torch.tensor([[0.25, 0.25, 0.5, 0.5]]).repeat(batch, 1),
        search=torch.randint(0, 256, (batch, frames, 3, 64, 64), generator=g, dtype=torch.uint8),
        affine=torch.zeros(batch, frames, 2, 3),
        timestamps=torch.zeros(batch, frames),
        labels={
            "box": {"valid": everywhere, "cxcywh": boxes},
            "cls": {"valid": everywhere, "index": torch.randint(0, 10, (batch, frames), generator=g)},
        },
    )
