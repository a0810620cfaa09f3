"""How to train, and where a run stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtltrack.core.kernels import DEFAULT


@dataclass(frozen=True)
class TrainSettings:
    """How to train, whatever the stage. Names follow the YAML.

    Attributes:
        lambdas: weight of each task's loss.
        mean: DATA.MEAN.
        std: DATA.STD.
        weight_decay: TRAIN.WEIGHT_DECAY.
        optimizer: TRAIN.OPTIMIZER.
        grad_clip_norm: TRAIN.GRAD_CLIP_NORM, 0 for no clipping.
        weighting: TRAIN.WEIGHTING, {TYPE: rule, its arguments in capital letters}.
        task_clip_norms: TRAIN.TASK_CLIP_NORM, largest norm of single tasks' gradients.
        accumulation_steps: TRAIN.ACCUMULATION_STEPS, batches a step.
        batch_norm: TRAIN.BN, "batch" or "frozen".
        print_interval: TRAIN.PRINT_INTERVAL, steps between reports.
        val_interval: TRAIN.VAL_EPOCH_INTERVAL.
        save_interval: TRAIN.SAVE_INTERVAL; the last epoch of a stage is always saved.
        save_interval_steps: TRAIN.SAVE_INTERVAL_STEPS, steps between states inside epochs; 0: none.
        keep_resume: TRAIN.KEEP_RESUME, states from which a run can go on.
        keep_weights: TRAIN.KEEP_WEIGHTS, epochs whose weights stay; 0: all.
        best: TRAIN.SAVE_BEST.METRIC, the validation's figure by which the best weights are kept; "" for none.
        best_is_least: TRAIN.SAVE_BEST.MODE is min.
        ema: TRAIN.EMA, decay of the average of the weights; None for no average.
        audit_interval: TRAIN.AUDIT_INTERVAL, steps between looks at the tasks' gradients; 0: none.
        audit_full_interval: TRAIN.AUDIT_FULL_INTERVAL, the same for the whole matrix.
        fsdp: TRAIN.FSDP, spread weights, gradients and the optimizer's state over the processes.
        feature_cache: TRAIN.FEATURE_CACHE.DIR, where frozen parts' answers are kept; None: nowhere.
        feature_cache_bytes: TRAIN.FEATURE_CACHE.MAX_GB, most that they may take there.
        max_bad_steps: TRAIN.MAX_BAD_STEPS, refused steps in a row at which training stops.
        max_bad_fraction: DATA.MAX_BAD_FRACTION.
        kernel: of float32 products on a CPU, see `mtltrack.core.kernels`; saved, and taken again on resume.
        seed: of the run; a resumed run must have the same.
        data: fingerprint of each data set that is trained on, by its name.
        started_from: kind of weights that the run began with; a resumed run is told.
    """

    lambdas: Mapping[str, float]
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    weight_decay: float = 1e-4
    optimizer: str = "ADAMW"
    grad_clip_norm: float = 0.1
    weighting: Mapping[str, Any] = field(default_factory=lambda: {"TYPE": "fixed"})
    task_clip_norms: Mapping[str, float] = field(default_factory=dict)
    accumulation_steps: int = 1
    batch_norm: str = "batch"
    print_interval: int = 50
    val_interval: int = 20
    save_interval: int = 1
    save_interval_steps: int = 0
    keep_resume: int = 2
    keep_weights: int = 0
    best: str = ""
    best_is_least: bool = False
    ema: float | None = None
    audit_interval: int = 0
    audit_full_interval: int = 0
    fsdp: bool = False
    feature_cache: Path | None = None
    feature_cache_bytes: int = 0
    max_bad_steps: int = 10
    max_bad_fraction: float = 0.01
    kernel: str = DEFAULT
    seed: int = 42
    data: Mapping[str, str] = field(default_factory=dict)
    started_from: str = "none"


@dataclass
class Position:
    """Where a run stands: everything done so far.

    Attributes:
        stage: index of the stage.
        stage_epoch: epochs of that stage that are done.
        epoch: epochs of the run that are done.
        step: optimizer steps of the run that are done (refused ones included).
        epoch_step: those of the epoch that is running; 0 between epochs.
        validated: False when the last epoch's validation is still to come.
    """

    stage: int = 0
    stage_epoch: int = 0
    epoch: int = 0
    step: int = 0
    epoch_step: int = 0
    validated: bool = True

    @property
    def in_stage(self) -> bool:
        """Whether the stage has begun: its optimizer has made a step."""
        return self.stage_epoch > 0 or self.epoch_step > 0
