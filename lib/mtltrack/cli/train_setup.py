"""From a configuration to the plain arguments that training takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list, gather_object

from mtltrack.cli.build import assembly_of
from mtltrack.cli.launch import TIMEOUT
from mtltrack.core.config import Config
from mtltrack.core.errors import ConfigError
from mtltrack.core.kernels import AUTO, DEFAULT, ONEDNN, KernelChoice, kernel_for, refusal
from mtltrack.core.paths import expand_path, need_writable
from mtltrack.core.precision import half_type
from mtltrack.core.types import BOX
from mtltrack.models.layers.elimination import keep_rate
from mtltrack.models.tracker import Tracker
from mtltrack.training.balancing.build import build_rule
from mtltrack.training.checkpoint import Description
from mtltrack.training.settings import TrainSettings
from mtltrack.training.stages import Schedule, Stage, plan_stages

FROM_A_TRACKER = ("ostrack", "hiptrack", "own")


def make_accelerator(cfg: Config, timeout: float = TIMEOUT) -> Accelerator:
    """Return the accelerator of this process.

    Args:
        cfg: of the run.
        timeout: seconds that a process waits for another before it fails.

    Raises:
        ConfigError: fp16 without a GPU.
    """
    precision = precision_of(cfg, on_gpu=torch.cuda.is_available())
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # torchrun's
    return Accelerator(
        cpu=processes > 1 and not torch.cuda.is_available(),  # several processes without a GPU must say so
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=timeout))],
    )


def make_deterministic() -> None:
    """Let torch take only operations that give the same bits in every run; before the device is first used.

    An operation that has no such form raises an error that names it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def share_cores(num_workers: int) -> None:
    """On a CPU, leave a core to each loader process: threads that outnumber the cores wait for one another.

    Without this, training on two busy cores was measured ten times slower. OMP_NUM_THREADS goes before.
    """
    if torch.cuda.is_available() or "OMP_NUM_THREADS" in os.environ:
        return
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    torch.set_num_threads(max(1, cores - num_workers))


def precision_of(cfg: Config, on_gpu: bool) -> str:
    """Return "fp32", "bf16" or "fp16" from TRAIN.PRECISION, or else from TRAIN.AMP."""
    given = cfg.TRAIN.PRECISION
    if given is not None:
        half_type(given, "cuda" if on_gpu else "cpu", "TRAIN.PRECISION")
        return str(given)
    if not cfg.TRAIN.AMP:
        return "fp32"
    return "fp16" if on_gpu else "bf16"


def kernel_of_run(
    cfg: Config, device: torch.device, state: Mapping[str, Any] | None, deterministic: bool
) -> KernelChoice:
    """Return the kernel of float32 products; every rank must call it, and all get rank 0's.

    A run that goes on takes what it had, so that it goes on bit for bit; a new one measures, but takes the
    default where `deterministic` asks that two new runs be equal.

    Args:
        cfg: of the run; a kernel named by TRAIN.MATMUL goes before what the run had.
        device: where it trains.
        state: of the run that goes on, None for a new one.
        deterministic: whether --deterministic is given.
    """
    if state is not None and cfg.TRAIN.MATMUL == AUTO and device.type == "cpu":
        choice = _kernel_again(str(state.get("kernel", DEFAULT)))
    elif deterministic and cfg.TRAIN.MATMUL == AUTO:
        choice = KernelChoice(DEFAULT, "--deterministic")
    else:
        choice = kernel_for(cfg.TRAIN.MATMUL, device)
    (chosen,) = broadcast_object_list([choice])
    why_not = refusal() if chosen.kernel == ONEDNN else None  # the ranks' processors may differ
    reasons = [reason for reason in gather_object([why_not]) if reason is not None]
    return KernelChoice(DEFAULT, f"of one process, {reasons[0]}") if reasons else chosen


def _kernel_again(before: str) -> KernelChoice:
    why_not = refusal() if before == ONEDNN else None
    if why_not is None:
        return KernelChoice(before, "as before")
    return KernelChoice(DEFAULT, f"the run had {before} before and goes on with other roundings: {why_not}")


def make_stages(tracker: Tracker, cfg: Config, script: str) -> list[Stage]:
    """Return the stages that a configuration asks for."""
    train = cfg.TRAIN
    tasks = list(tracker.task_parts())
    freeze = assembly_of(script).history if train.FREEZE_BACKBONE is None else train.FREEZE_BACKBONE
    stop = train.FREEZE_CLS_EPOCH
    return plan_stages(
        parts=list(tracker.tracker_parts()),
        tasks=tasks,
        epochs=train.EPOCH,
        lr=train.LR,
        freeze_backbone=freeze,
        backbone_multiplier=train.BACKBONE_MULTIPLIER,
        two_stage=train.TWO_STAGE,
        stage1_epochs=train.STAGE1_EPOCHS,
        stage1_lr=train.STAGE1_LR,
        stage2_epochs=train.STAGE2_EPOCHS,
        stage2_lr=train.STAGE2_LR,
        freeze_backbone_stage1=train.FREEZE_BACKBONE_STAGE1,
        box_epochs=train.BOX_EPOCHS,
        box_lr=train.BOX_LR,
        schedule=Schedule(
            kind=train.SCHEDULER.TYPE,
            drop_epoch=train.LR_DROP_EPOCH,
            decay_rate=train.SCHEDULER.DECAY_RATE,
            milestones=tuple(train.SCHEDULER.MILESTONES),
            gamma=train.SCHEDULER.GAMMA,
        ),
        learns_until={"cls": stop - 1} if stop > 0 and "cls" in tasks else None,
        distinct_epochs=train.DISTINCT_EPOCHS,
    )


def train_settings(cfg: Config, seed: int, started_from: str) -> TrainSettings:
    """Return what training needs to know whatever the stage."""
    train = cfg.TRAIN
    return TrainSettings(
        lambdas={task: cfg.task_weight(task) for task in cfg.TASKS},
        mean=tuple(cfg.DATA.MEAN),
        std=tuple(cfg.DATA.STD),
        weight_decay=train.WEIGHT_DECAY,
        optimizer=train.OPTIMIZER,
        grad_clip_norm=train.GRAD_CLIP_NORM,
        weighting=dict(train.WEIGHTING),
        task_clip_norms=dict(train.TASK_CLIP_NORM),
        accumulation_steps=train.ACCUMULATION_STEPS,
        batch_norm=train.BN,
        print_interval=train.PRINT_INTERVAL,
        val_interval=train.VAL_EPOCH_INTERVAL,
        save_interval=train.SAVE_INTERVAL,
        save_interval_steps=train.SAVE_INTERVAL_STEPS,
        keep_resume=train.KEEP_RESUME,
        keep_weights=train.KEEP_WEIGHTS,
        best="" if train.SAVE_BEST is None else train.SAVE_BEST.METRIC,
        best_is_least=train.SAVE_BEST is not None and train.SAVE_BEST.MODE == "min",
        ema=train.EMA,
        audit_interval=0 if train.FSDP else train.AUDIT_INTERVAL,
        audit_full_interval=0 if train.FSDP else train.AUDIT_FULL_INTERVAL,
        fsdp=train.FSDP,
        max_bad_steps=train.MAX_BAD_STEPS,
        max_bad_fraction=cfg.DATA.MAX_BAD_FRACTION,
        seed=seed,
        started_from=started_from,
    )


def with_feature_cache(settings: TrainSettings, cfg: Config, save_dir: Path) -> TrainSettings:
    """Return the settings with the folder and size of TRAIN.FEATURE_CACHE, if there is to be one.

    Raises:
        ConfigError: nothing can be written to the folder.
    """
    cache = cfg.TRAIN.FEATURE_CACHE
    if cache is None:
        return settings
    folder = expand_path(cache.DIR) if cache.DIR else save_dir / "feature_cache"
    need_writable(folder, "TRAIN.FEATURE_CACHE.DIR")
    return replace(settings, feature_cache=folder, feature_cache_bytes=int(cache.MAX_GB * 1e9))


def need_rule(cfg: Config) -> None:
    """Make sure that TRAIN.WEIGHTING names a rule that can be built, before anything long begins.

    Raises:
        ConfigError: see `build_rule`.
    """
    try:
        build_rule(cfg.TRAIN.WEIGHTING, [BOX, *cfg.TASKS])
    except ConfigError as error:
        raise ConfigError(f"{cfg.source_line('TRAIN.WEIGHTING')}: {error}") from error


def describe_model(tracker: Tracker, cfg: Config, net_type: str) -> Description:
    """Return what the checkpoints say about the model."""
    heads = tracker.task_parts()
    return Description(
        net_type=net_type,
        config=cfg.dump(),
        classes=list(getattr(heads.get("cls"), "all_names", ())),
        alphabet=getattr(heads.get("ocr"), "alphabet", None),
    )


def keep_schedule(cfg: Config, started_from: str) -> Callable[[int], float | None] | None:
    """Return the keep ratio by epoch; None, for a tracker that was trained already: always the final one."""
    ratios = cfg.MODEL.BACKBONE.CE_KEEP_RATIO
    if not ratios or started_from in FROM_A_TRACKER:
        return None
    start = cfg.TRAIN.CE_START_EPOCH
    return lambda epoch: keep_rate(epoch, start, start + cfg.TRAIN.CE_WARM_EPOCH, ratios[0])
