"""Small trackers with every head, and clips with every label."""

from __future__ import annotations

import torch

from mtltrack.cli.build import build_tracker
from mtltrack.cli.train_setup import make_stages
from mtltrack.core.config import config_from_dict
from mtltrack.core.types import Clip

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TASKS = ("cls", "seg", "plate", "ocr", "alert")
LAMBDAS = dict.fromkeys(TASKS, 1.0)
SIZE = 64


def settings(script: str, detach: dict[str, list[str]]) -> dict:
    model = {
        "PRETRAIN_FILE": "",
        "BACKBONE": {"TYPE": "vit_tiny_patch16_224", "EMBED_DIM": 24, "DEPTH": 2, "NUM_HEADS": 2},
        "HEAD": {"NUM_CHANNELS": 16},
    }
    if script == "hiptrack":
        model |= {"NEW_HIP": True, "HISTORY": {"KEY_DIM": 8, "ENCODER_WIDTH": 8}}
    tasks: dict[str, dict] = {
        "cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 16, "LABELS": "multi"},
        "seg": {"TYPE": "SegHead", "HIDDEN_DIM": 16, "STEM": 8},
        "plate": {"TYPE": "PlateHead", "HIDDEN_DIM": 16},
        "ocr": {"TYPE": "OCRHead", "HIDDEN_DIM": 16, "WIDTH": 8},
        "alert": {"TYPE": "AlertHead"},
    }
    for task, names in detach.items():
        tasks[task]["DETACH"] = names
    return {
        "DATA": {
            "SEARCH": {"SIZE": SIZE, "NUMBER": 2},
            "TEMPLATE": {"SIZE": 32},
            "DETAIL": {"SIZE": SIZE, "FACTOR": 2.0},
        },
        "MODEL": model,
        "TASKS": tasks,
        "TRAIN": {"TWO_STAGE": True, "STAGE1_EPOCHS": 1, "STAGE2_EPOCHS": 1},
    }


def build(script: str = "ostrack", **detach: list[str]):
    cfg = config_from_dict(settings(script, detach), script=script)
    torch.manual_seed(0)
    tracker = build_tracker(cfg, script)
    return tracker, {stage.name: stage for stage in make_stages(tracker, cfg, script)}


def clip(seed: int = 0, batch: int = 2, frames: int = 2, labelled: bool = True) -> Clip:
    """A clip with every label: a plate in the middle of the target, a zone around it, 119.9 s stood still."""
    g = torch.Generator().manual_seed(seed)
    shape = (batch, frames)
    valid = torch.full(shape, labelled)
    boxes = torch.cat([0.45 + 0.1 * torch.rand(*shape, 2, generator=g), torch.full((*shape, 2), 0.4)], dim=-1)
    plates = torch.cat([boxes[..., :2], torch.tensor([0.2, 0.08]).expand(*shape, 2)], dim=-1)
    zone = torch.tensor([[0.0, 0.0], [40.0, 0.0], [40.0, 64.0], [0.0, 64.0]])
    one_to_one = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    half = torch.tensor([[0.5, 0.0, 16.0], [0.0, 0.5, 16.0]])  # the detail shows the middle, twice as large
    codes = torch.randint(1, 37, (*shape, 4), generator=g)
    labels = {
        "box": {"cxcywh": boxes},
        "cls": {
            "index": torch.randint(0, 10, shape, generator=g),
            "flags": torch.rand(*shape, 10, generator=g) > 0.5,
            "known": torch.ones(*shape, 10, dtype=torch.bool),
        },
        "seg": {"mask": (torch.rand(*shape, SIZE, SIZE, generator=g) > 0.5).byte()},
        "plate": {"present": torch.ones(shape, dtype=torch.bool), "cxcywh": plates},
        "ocr": {"codes": codes, "length": torch.full(shape, 4), "cxcywh": plates},
        "alert": {
            "zones": zone.expand(*shape, 1, 4, 2).clone(),
            "target": torch.rand(shape, generator=g) > 0.5,
            "stopped": torch.full(shape, 119.9),
        },
    }
    return Clip(
        template=torch.randint(0, 256, (batch, 3, 32, 32), generator=g, dtype=torch.uint8),
        template_boxes_xywh=torch.tensor([[0.25, 0.25, 0.5, 0.5]]).repeat(batch, 1),
        search=torch.randint(0, 256, (*shape, 3, SIZE, SIZE), generator=g, dtype=torch.uint8),
        affine=one_to_one.expand(*shape, 2, 3).clone(),
        timestamps=torch.arange(frames, dtype=torch.float64).repeat(batch, 1),
        labels={task: {"valid": valid, **entry} for task, entry in labels.items()},
        detail=torch.randint(0, 256, (*shape, 3, SIZE, SIZE), generator=g, dtype=torch.uint8),
        detail_affine=half.expand(*shape, 2, 3).clone(),
    )
