"""A very small tracker with every head, clips with every label, and single steps of training on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from mtltrack.cli.build import build_tracker
from mtltrack.cli.train_setup import make_stages
from mtltrack.core.config import config_from_dict
from mtltrack.core.types import Clip
from mtltrack.training.audit.state import without_chance
from mtltrack.training.balancing.build import build_rule
from mtltrack.training.sharding import ShardedTracker, gathered, whole_state
from mtltrack.training.stages import enter_stage
from mtltrack.training.step import StepResult, StepRunner

TASKS = ("box", "cls", "seg", "plate", "ocr", "alert")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 64
CONFIG: dict[str, Any] = {
    "DATA": {
        "SEARCH": {"SIZE": SIZE, "NUMBER": 2},
        "TEMPLATE": {"SIZE": 32},
        "DETAIL": {"SIZE": SIZE, "FACTOR": 2.0},
    },
    "MODEL": {
        "PRETRAIN_FILE": "",
        "BACKBONE": {"TYPE": "vit_tiny_patch16_224", "EMBED_DIM": 24, "DEPTH": 2, "NUM_HEADS": 2},
        "HEAD": {"NUM_CHANNELS": 16},
    },
    "TASKS": {
        "cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 16, "LABELS": "multi"},
        "seg": {"TYPE": "SegHead", "HIDDEN_DIM": 16, "STEM": 8},
        "plate": {"TYPE": "PlateHead", "HIDDEN_DIM": 16},
        "ocr": {"TYPE": "OCRHead", "HIDDEN_DIM": 16, "WIDTH": 8},
        "alert": {"TYPE": "AlertHead"},
    },
    "TRAIN": {"DROP_PATH_RATE": 0.0},
}


def tiny_tracker(batch_norm: str = "frozen") -> Any:
    """Return the tracker, the same in every process, with all parts training."""
    cfg = config_from_dict(CONFIG, script="ostrack")
    torch.manual_seed(0)
    tracker = build_tracker(cfg, "ostrack")
    (stage,) = make_stages(tracker, cfg, "ostrack")
    enter_stage(tracker, stage, batch_norm)
    return tracker


def tiny_clip(batch: int, seed: int = 0, *, labelled: float = 1.0) -> Clip:
    """Return made-up clips of two frames, all labels on about a share `labelled` of the frames."""
    g = torch.Generator().manual_seed(seed)
    shape = (batch, 2)
    boxes = torch.cat([0.45 + 0.1 * torch.rand(*shape, 2, generator=g), torch.full((*shape, 2), 0.4)], dim=-1)
    plates = torch.cat([boxes[..., :2], torch.tensor([0.2, 0.08]).expand(*shape, 2)], dim=-1)
    zone = torch.tensor([[0.0, 0.0], [40.0, 0.0], [40.0, 64.0], [0.0, 64.0]])
    codes = torch.randint(1, 37, (*shape, 4), generator=g)
    labels: dict[str, dict[str, Tensor]] = {
        "box": {"cxcywh": boxes},
        "cls": {
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
        affine=torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).expand(*shape, 2, 3).clone(),
        timestamps=torch.arange(2, dtype=torch.float64).repeat(batch, 1),
        labels={
            task: {"valid": torch.rand(shape, generator=g) < labelled, **entry}
            for task, entry in labels.items()
        },
        detail=torch.randint(0, 256, (*shape, 3, SIZE, SIZE), generator=g, dtype=torch.uint8),
        detail_affine=torch.tensor([[0.5, 0.0, 16.0], [0.0, 0.5, 16.0]]).expand(*shape, 2, 3).clone(),
        sources=[{"dataset": "made up", "sequence": f"s{seed}", "index": number} for number in range(batch)],
    )


class TinyTraining:
    """Steps of plain gradient descent on the tracker: what it does shows in the weights.

    Args:
        accelerator: of the process.
        batch_norm: TRAIN.BN.
        weighting: name of the balancing rule.
        sharded: spread the weights over the ranks, as TRAIN.FSDP does.
        options: further arguments of `StepRunner`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        *,
        batch_norm: str = "frozen",
        weighting: str = "fixed",
        sharded: bool = False,
        **options: Any,
    ) -> None:
        self.tracker = tiny_tracker(batch_norm)
        model = ShardedTracker(self.tracker, accelerator) if sharded else self.tracker
        self.said: list[str] = []
        rule = build_rule({"TYPE": weighting}, list(TASKS))
        trained = [parameter for parameter in self.tracker.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1)
        self.runner = StepRunner(
            accelerator=accelerator,
            tracker=self.tracker,
            model=model,
            optimizer=accelerator.prepare_optimizer(self.optimizer),
            lambdas=dict.fromkeys(TASKS[1:], 0.5),
            excluded=(),
            mean=MEAN,
            std=STD,
            grad_clip_norm=0.0,
            rule=rule,
            tell=self.said.append,
            sharded=sharded,
            **options,
        )

    def step(self, *clips: Clip) -> StepResult:
        with without_chance(self.tracker):
            return self.runner.run(clips, None)

    def state(self) -> dict[str, Tensor]:
        """Return weights, statistics of batch norms, the optimizer's state and the scheduler's, all whole."""
        found = {f"weights {name}": value.clone() for name, value in whole_state(self.tracker).items()}
        for number, entry in gathered(self.optimizer.state_dict())["state"].items():
            found.update({f"optimizer {number} {key}": value.clone() for key, value in entry.items()})
        return found | {"rate": torch.tensor(self.scheduler.get_last_lr())}


def largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return the largest difference of two states, inf where they don't hold the same tensors."""
    if one.keys() != other.keys():
        return float("inf")
    return max(
        float((one[name].double() - other[name].double()).abs().max()) for name in one if one[name].numel()
    )


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Tell whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def share_of(clip: Clip, number: int, shares: int) -> Clip:
    """Return one of equal, successive shares of a batch."""
    size = clip.batch_size // shares
    return clip.rows(range(number * size, (number + 1) * size))


def validation_clips() -> list[Clip]:
    """Return batches of different sizes, some without any label of some tasks."""
    clips = [tiny_clip(batch, 100 + number, labelled=0.6) for number, batch in enumerate((3, 2, 4, 1, 3))]
    for task in ("cls", "ocr"):
        clips[0].labels[task]["valid"][:] = False
    return clips


def tables_of(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the table of each task that has one, as training prints it."""
    return {task: metric.table() for task, metric in metrics.items() if hasattr(metric, "table")}
