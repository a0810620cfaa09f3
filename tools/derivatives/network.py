"""Whole models at a reduced size: every loss term and every stage, along random directions.

A stage's parameters are moved along a random direction; the change of each loss term is compared with its
gradient times the direction. Moving the whole stage at once finds a wrong gradient in any of its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from derivatives.comparison import Check, Outcome, declared, generator
from derivatives.held import Held, PathChanged
from mtltrack.cli.build import build_tracker
from mtltrack.core.config import config_from_dict
from mtltrack.core.types import Clip
from mtltrack.training.audit.clips import ClipShape, made_up_clip
from mtltrack.training.audit.model_stages import ModelStage, model_stages
from mtltrack.training.weighting import term_values

TOLERANCE = 1e-5
STEPS = (1e-5, 1e-6, 1e-4, 1e-7)  # in sizes of the stage's parameters
GOOD = 1e-8  # then no further step is tried
ROUNDINGS = 64.0  # of a loss, which the difference of two of them may be off by
LEAST_SIZE = 1e-2  # of a stage's parameters: one that starts at zero is moved too
SHAPE = ClipShape(batch=2, frames=2, template=32, search=64, detail=64)
AGAINST = "differences along directions"

BACKBONE = {
    "TYPE": "vit_tiny_patch16_224_ce",
    "EMBED_DIM": 24,
    "DEPTH": 3,
    "NUM_HEADS": 2,
    "CE_LOC": [1],
    "CE_KEEP_RATIO": [0.7],
    "CE_TEMPLATE_RANGE": "CTR_POINT",
}
TASKS = {
    "cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 16},
    "seg": {"TYPE": "SegHead", "HIDDEN_DIM": 8, "STEM": 4},
    "plate": {"TYPE": "PlateHead", "HIDDEN_DIM": 16, "QUERIES": 2, "LAYERS": 1},
    "ocr": {
        "TYPE": "OCRHead",
        "HIDDEN_DIM": 16,
        "COLUMNS": 8,
        "WIDTH": 8,
        "GLIMPSE": [16, 32],
        "ALPHABET": "0123456789",
    },
    "alert": {"TYPE": "AlertHead"},
}
# boxes of random weights jump: a wide gate, so that its slope doesn't vanish
SOFT_ALERT = {"TYPE": "AlertHead", "GATE": "soft", "CENTRE": "soft", "SPEED_SCALE": 1.0}


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        script: hiptrack or ostrack.
        changes: sections of the configuration.
        batch_statistics: batch norms take the batch's statistics, as in training, not those they keep.
    """

    script: str
    changes: Mapping[str, Any]
    batch_statistics: bool = False


CASES = {
    "hiptrack": Case("hiptrack", {"TASKS": TASKS}),
    "hiptrack_in_training": Case("hiptrack", {"TASKS": TASKS}, batch_statistics=True),
    "ostrack_soft_alert": Case(
        "ostrack",
        {
            "TASKS": {
                "cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 16, "LABELS": "multi"},
                "plate": {**TASKS["plate"], "IOU_LOSS": "CIOU", "PRESENCE_LOSS": "FOCAL"},
                "alert": {**SOFT_ALERT, "MEASURE": "iou"},
            }
        },
    ),
    "ostrack_dfl_ciou": Case(
        "ostrack", {"MODEL": {"HEAD": {"TYPE": "DFL"}}, "TRAIN": {"BOX_IOU_LOSS": "CIOU"}}
    ),
    "ostrack_corner": Case("ostrack", {"MODEL": {"HEAD": {"TYPE": "CORNER"}}}),
    "ostrack_mlp": Case("ostrack", {"MODEL": {"HEAD": {"TYPE": "MLP"}}}),
    "ostrack_focal_classes": Case(
        "ostrack", {"TASKS": {"cls": TASKS["cls"]}, "TRAIN": {"CLS_LOSS_TYPE": "FOCAL"}}
    ),
}


def build(case: Case) -> nn.Module:
    """Build the model of a case in float64; dropout is off, every parameter that is read trains."""
    model: dict[str, Any] = {"PRETRAIN_FILE": "", "BACKBONE": BACKBONE}
    head = {"NUM_CHANNELS": 16, **case.changes.get("MODEL", {}).get("HEAD", {})}
    model["HEAD"] = head
    if case.script == "hiptrack":
        model |= {"NEW_HIP": True, "HISTORY": {"KEY_DIM": 8, "ENCODER_WIDTH": 8}}
    values = {
        "DATA": {
            "SEARCH": {"SIZE": SHAPE.search, "NUMBER": SHAPE.frames},
            "TEMPLATE": {"SIZE": SHAPE.template},
            "DETAIL": {"SIZE": SHAPE.detail, "FACTOR": 1.6},
        },
        **case.changes,
        "MODEL": model,
    }
    torch.manual_seed(0)
    tracker = build_tracker(config_from_dict(values, script=case.script)).double().eval()
    for module in tracker.modules():
        if case.batch_statistics and isinstance(module, _BatchNorm):
            module.train()
    return tracker


def made_up(tracker: Any) -> Clip:
    """Return a labelled clip in float64."""
    clip = made_up_clip(tracker.heads(), SHAPE).normalised([0.5] * 3, [0.25] * 3)
    wide = {
        item.name: _double(getattr(clip, item.name))
        for item in fields(clip)
        if isinstance(getattr(clip, item.name), Tensor)
    }
    labels = {
        task: {name: _double(value) for name, value in entry.items()} for task, entry in clip.labels.items()
    }
    return replace(clip, **wide, labels=labels)


def _double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def losses(tracker: Any, clip: Clip) -> dict[str, Tensor]:
    """Return every loss term, "<task>/<term>", summed over samples and frames."""
    outputs = tracker(clip)
    return {
        f"{task}/{term}": values.sum()
        for task, head in tracker.heads().items()
        for term, values in term_values(task, head, outputs[task], clip).items()
    }


class Slopes:
    """The gradients of a model's loss terms, and their changes along directions.

    Args:
        tracker: in float64.
        clip: labelled.
    """

    def __init__(self, tracker: Any, clip: Clip) -> None:
        self.tracker, self.clip, self.held = tracker, clip, Held()
        unread = tracker.unread_parameters()
        self.stages = [
            ModelStage(stage.part, stage.name, kept)
            for stage in model_stages(tracker)
            if (kept := {name: p for name, p in stage.parameters.items() if name not in unread})
        ]
        with self.held.recording():
            values = losses(tracker, clip)
        self.sizes = {term: float(value.detach().abs()) for term, value in values.items()}
        parameters = [p for stage in self.stages for p in stage.parameters.values()]
        self.gradients = {
            term: dict(
                zip(
                    map(id, parameters),
                    torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True),
                    strict=True,
                )
            )
            for term, value in values.items()
        }

    def along(self, term: str, stage: ModelStage, direction: Mapping[str, Tensor]) -> tuple[float, float]:
        """Return gradient times direction, and what it is like for such directions: its root mean square."""
        product, square, moved, entries = 0.0, 0.0, 0.0, 0
        for name, parameter in stage.parameters.items():
            gradient = self.gradients[term][id(parameter)]
            moved += float(direction[name].square().sum())
            entries += parameter.numel()
            if gradient is not None:
                product += float((gradient * direction[name]).sum())
                square += float(gradient.square().sum())
        return product, (square * moved / entries) ** 0.5

    def differences(
        self, stage: ModelStage, direction: Mapping[str, Tensor], step: float
    ) -> dict[str, float]:
        """Return the central difference of every term along a direction."""
        ends = []
        for sign in (1.0, -1.0):
            self._move(stage, direction, sign * step)
            try:
                with self.held.repeating():
                    values = losses(self.tracker, self.clip)
                ends.append({term: float(value.detach()) for term, value in values.items()})
            finally:
                self._move(stage, direction, -sign * step)
        return {term: (ends[0][term] - ends[1][term]) / (2 * step) for term in ends[0]}

    @staticmethod
    @torch.no_grad()
    def _move(stage: ModelStage, direction: Mapping[str, Tensor], step: float) -> None:
        for name, parameter in stage.parameters.items():
            parameter.add_(direction[name], alpha=step)

    def errors(self, stage: ModelStage, seed: int = 0) -> dict[str, float]:
        """Return term -> relative error along one random direction of a stage.

        The best of several steps counts: rounding spoils small ones, kinks large ones, and a wrong gradient
        is wrong at each. Errors are taken relative to the largest of what was found, what was wanted, and
        what is usual for a random direction. Where there is no gradient, the loss must stay as it is.
        """
        direction = _direction(stage, seed)
        best = dict.fromkeys(self.sizes, float("inf"))
        for step in STEPS:
            try:
                slopes = self.differences(stage, direction, step)
            except PathChanged:
                continue
            for term, slope in slopes.items():
                product, usual = self.along(term, stage, direction)
                rounding = ROUNDINGS * torch.finfo(torch.float64).eps * self.sizes[term] / step
                off = abs(slope - product)
                if usual * TOLERANCE < rounding:  # none, or too small to tell from rounding
                    best[term] = 0.0 if off <= rounding else float("inf")
                else:
                    best[term] = min(best[term], off / max(abs(slope), abs(product), usual))
            if max(best.values()) <= GOOD:
                break
        return best


def _direction(stage: ModelStage, seed: int) -> dict[str, Tensor]:
    """Return random numbers about as large as the stage's parameters."""
    source = generator(seed)
    values = torch.cat([parameter.detach().flatten() for parameter in stage.parameters.values()])
    size = max(float(values.square().mean().sqrt()), LEAST_SIZE)
    return {
        name: size * torch.randn(parameter.shape, generator=source, dtype=torch.float64)
        for name, parameter in stage.parameters.items()
    }


def check_model(case: Case) -> Outcome:
    """Compare every term with every stage of a case's model."""
    tracker = build(case)
    slopes = Slopes(tracker, made_up(tracker))
    found = {
        (term, stage.name): error
        for number, stage in enumerate(slopes.stages)
        for term, error in slopes.errors(stage, number).items()
    }
    worst = max(found, key=found.__getitem__)
    connected = sum(
        slopes.along(term, stage, _direction(stage, 0))[1] > 0
        for term in slopes.sizes
        for stage in slopes.stages
    )
    note = (
        f"{len(slopes.sizes)} terms x {len(slopes.stages)} stages, {connected} with a gradient; "
        f"worst {worst[0]} -> {worst[1]}"
    )
    return declared(Outcome(found[worst], len(found), note), slopes.held)


def checks() -> list[Check]:
    """Return one check a model."""
    return [
        Check(f"network/{name}", AGAINST, TOLERANCE, lambda case=case: check_model(case))
        for name, case in CASES.items()
    ]
