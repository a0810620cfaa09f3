"""Real trackers at the smallest size, with clips and trainers for them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from accelerate import Accelerator

from mtltrack.cli.build import build_tracker
from mtltrack.cli.train_setup import make_stages, train_settings
from mtltrack.core.config import config_from_dict
from mtltrack.core.types import Clip
from mtltrack.models.tracker import Tracker
from mtltrack.training.audit.auditor import AuditOptions
from mtltrack.training.audit.clips import ClipShape, made_up_clip
from mtltrack.training.audit.report import AuditReport
from mtltrack.training.audit.run import audit_trainer
from mtltrack.training.trainer import Trainer

BACKBONE = {"TYPE": "vit_tiny_patch16_224_ce", "EMBED_DIM": 16, "DEPTH": 2, "NUM_HEADS": 2}
ELIMINATION = {"CE_LOC": [1], "CE_KEEP_RATIO": [0.7], "CE_TEMPLATE_RANGE": "CTR_POINT"}
CONFIG: dict[str, Any] = {
    "DATA": {
        "SEARCH": {"SIZE": 64, "NUMBER": 2},
        "TEMPLATE": {"SIZE": 32},
        "DETAIL": {"SIZE": 64, "FACTOR": 2.0},
    },
    "MODEL": {
        "PRETRAIN_FILE": "",
        "NEW_HIP": True,
        "BACKBONE": {**BACKBONE, **ELIMINATION},
        "HEAD": {"NUM_CHANNELS": 32},
        "HISTORY": {"KEY_DIM": 8, "ENCODER_WIDTH": 4},
    },
    "TRAIN": {"TWO_STAGE": True, "STAGE1_EPOCHS": 1, "STAGE2_EPOCHS": 1, "DROP_PATH_RATE": 0.2},
}
TASKS: dict[str, dict[str, Any]] = {
    "cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 8},
    "seg": {"TYPE": "SegHead", "HIDDEN_DIM": 8, "STEM": 4},
    "plate": {"TYPE": "PlateHead", "HIDDEN_DIM": 16, "LAYERS": 1},
    "ocr": {"TYPE": "OCRHead", "HIDDEN_DIM": 16, "WIDTH": 8, "COLUMNS": 16, "GLIMPSE": [16, 64]},
    "alert": {"TYPE": "AlertHead"},
}


class Small:
    """A tracker, its trainer and a clip.

    Args:
        script: "hiptrack" or "ostrack".
        tasks: names of `TASKS`, or blocks by name.
        trainer: class of the trainer.
        frames: of the clip.
        config: sections that are changed, as in a YAML.
    """

    def __init__(
        self,
        script: str = "ostrack",
        tasks: Any = ("cls",),
        trainer: type[Trainer] = Trainer,
        frames: int = 2,
        **config: dict[str, Any],
    ) -> None:
        values = merged(CONFIG, config)
        values["TASKS"] = dict(tasks) if isinstance(tasks, dict) else {name: TASKS[name] for name in tasks}
        if script == "ostrack":
            values["MODEL"] = {k: v for k, v in values["MODEL"].items() if k not in ("HISTORY", "NEW_HIP")}
        cfg = config_from_dict(values, script=script)
        torch.manual_seed(0)
        self.tracker: Tracker = build_tracker(cfg, script)
        stages = make_stages(self.tracker, cfg, script)
        settings = train_settings(cfg, 0, "none")
        self.trainer = trainer(self.tracker, stages, settings, [], accelerator=Accelerator(cpu=True))
        self.clip: Clip = made_up_clip(self.tracker.heads(), ClipShape(2, frames, 32, 64, 64))

    def audit(self, *stages: str, **options: Any) -> AuditReport:
        """Audit the stages of those names, all without any."""
        self.trainer.stages = [s for s in self.trainer.stages if not stages or s.name in stages]
        return audit_trainer(self.trainer, self.clip, options=AuditOptions(**options))


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result
