"""What trains when: the stages of a run, and freezing by module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtltrack.core.errors import ConfigError, TrainingError
from mtltrack.core.types import BOX

BACKBONE = "backbone"
SCHEDULES = ("step", "Mstep")


@dataclass(frozen=True)
class Schedule:
    """How a stage's learning rate falls, counted in epochs of the stage.

    Attributes:
        kind: TRAIN.SCHEDULER.TYPE; "step" multiplies by `decay_rate` every `drop_epoch` epochs, "Mstep" by
            `gamma` at each of `milestones`.
        drop_epoch: TRAIN.LR_DROP_EPOCH; None or at least the stage's length: a constant rate.
        decay_rate: TRAIN.SCHEDULER.DECAY_RATE.
        milestones: TRAIN.SCHEDULER.MILESTONES.
        gamma: TRAIN.SCHEDULER.GAMMA.
    """

    kind: str = "step"
    drop_epoch: int | None = None
    decay_rate: float = 0.1
    milestones: Sequence[int] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise ConfigError(f"TRAIN.SCHEDULER.TYPE is '{self.kind}'; choose one of {', '.join(SCHEDULES)}")


@dataclass(frozen=True)
class Stage:
    """A stretch of epochs with its own trainable parts, optimizer and schedule.

    Attributes:
        name: "train" (the only stage), "box", "heads" (stage 1) or "joint" (stage 2).
        epochs: how many epochs it lasts.
        lr: learning rate of every part, before `lr_multipliers`.
        trains: names of the parts that train ("backbone", "history", "box" or a task); the others are frozen.
        losses: tasks whose loss counts; the other losses are measured only.
        lr_multipliers: factor on `lr` by part; 1 where absent.
        schedule: how the rate falls.
        learns_until: last epoch of the run (over all stages) in which a part still learns; no limit where
            absent.
        distinct_epochs: epochs after which the samples of the stage's first epoch come again, and so on, if
            the backbone is frozen; 0: each epoch draws new ones.
    """

    name: str
    epochs: int
    lr: float
    trains: frozenset[str]
    losses: frozenset[str]
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    learns_until: Mapping[str, int] = field(default_factory=dict)
    distinct_epochs: int = 0

    @property
    def repeats(self) -> bool:
        """Whether the samples of an epoch may come again in a later one, or in another run."""
        return self.distinct_epochs > 0 and BACKBONE not in self.trains

    def drawn_epoch(self, epoch: int, done: int) -> int:
        """Return the number of the epoch whose samples are drawn.

        Args:
            epoch: of the run, from 1.
            done: epochs of this stage that are over.
        """
        return epoch - done + done % self.distinct_epochs if self.repeats else epoch

    def at_epoch(self, epoch: int) -> Stage:
        """Return the stage as it is in that epoch of the run: without the parts that no longer learn."""
        over = {part for part, last in self.learns_until.items() if epoch > last}
        return (
            replace(self, trains=self.trains - over, losses=self.losses - over)
            if over & self.trains
            else self
        )


def plan_stages(
    *,
    parts: Sequence[str],
    tasks: Sequence[str],
    epochs: int,
    lr: float,
    freeze_backbone: bool,
    backbone_multiplier: float = 1.0,
    two_stage: bool = False,
    stage1_epochs: int = 30,
    stage1_lr: float = 1e-3,
    stage2_epochs: int = 20,
    stage2_lr: float = 1e-5,
    freeze_backbone_stage1: bool = True,
    box_epochs: int = 0,
    box_lr: float | None = None,
    schedule: Schedule | None = None,
    learns_until: Mapping[str, int] | None = None,
    distinct_epochs: int = 0,
) -> list[Stage]:
    """Return the stages of a run, in order.

    One stage by default. With `two_stage`: optionally "box", the whole tracker without the task heads, for
    models that start from nothing; then "heads", the new heads alone; then "joint", everything. Every stage
    begins its schedule anew, counted from its own first epoch.

    Args:
        parts: the tracker's own parts, `tracker.tracker_parts()`.
        tasks: the heads in TASKS, without the box.
        epochs: TRAIN.EPOCH, the length of the only stage; ignored with `two_stage`.
        lr: TRAIN.LR, its rate.
        freeze_backbone: whether the only stage leaves the backbone frozen (HIPTrack) or not (OSTrack).
        backbone_multiplier: TRAIN.BACKBONE_MULTIPLIER, on the backbone's rate wherever it trains.
        two_stage: TRAIN.TWO_STAGE.
        stage1_epochs: length of "heads"; 0 leaves it out.
        stage1_lr: rate of "heads".
        stage2_epochs: length of "joint"; 0 leaves it out.
        stage2_lr: rate of "joint".
        freeze_backbone_stage1: false trains the backbone in "heads" too; the box loss then counts.
        box_epochs: length of "box"; 0 leaves it out.
        box_lr: rate of "box"; None takes `lr`.
        schedule: of each stage; None for a constant rate.
        learns_until, distinct_epochs: see `Stage`.

    Raises:
        ConfigError: two stages without a task to train, nothing to train at all, or an epoch in which
            nothing learns any more.
    """
    heads, whole = frozenset(tasks), frozenset(parts)
    every = heads | {BOX}
    common: dict[str, Any] = {
        "lr_multipliers": {BACKBONE: backbone_multiplier},
        "schedule": schedule or Schedule(),
        "learns_until": dict(learns_until or {}),
        "distinct_epochs": distinct_epochs,
    }
    if two_stage:
        _need_heads(heads)
        stage1_parts, stage1_losses = (
            (heads, heads) if freeze_backbone_stage1 else (heads | {BACKBONE}, every)
        )
        stages = [
            Stage("box", box_epochs, lr if box_lr is None else box_lr, whole, frozenset({BOX}), **common),
            Stage("heads", stage1_epochs, stage1_lr, stage1_parts, stage1_losses, **common),
            Stage("joint", stage2_epochs, stage2_lr, whole | heads, every, **common),
        ]
    else:
        trained = (whole | heads) - ({BACKBONE} if freeze_backbone else set())
        stages = [Stage("train", epochs, lr, trained, every, **common)]
    planned = [stage for stage in stages if stage.epochs > 0]
    if not planned:
        wanted = "BOX_EPOCHS, STAGE1_EPOCHS or STAGE2_EPOCHS" if two_stage else "EPOCH"
        raise ConfigError(f"nothing to train: set TRAIN.{wanted} above 0")
    _need_learners(planned)
    return planned


def _need_learners(stages: Sequence[Stage]) -> None:
    """Make sure that something learns in every epoch."""
    last = 0
    for stage in stages:
        first, last = last + 1, last + stage.epochs
        if not stage.at_epoch(last).trains:
            keys = ", ".join(f"TRAIN.FREEZE_{part.upper()}_EPOCH" for part in sorted(stage.trains))
            raise ConfigError(
                f"stage '{stage.name}', epochs {first} to {last} of the run, would have nothing left to "
                f"train at its end: set {keys} to {last + 1} or more, or to 0 for never"
            )


def _need_heads(heads: frozenset[str]) -> None:
    if not heads:
        raise ConfigError(
            "TRAIN.TWO_STAGE first trains the heads in TASKS without the box, but TASKS names none; "
            "add a head to TASKS (for example cls: {TYPE: ClsHead}) or set TRAIN.TWO_STAGE: false"
        )


def freeze(module: nn.Module) -> None:
    """Freeze a module: no gradients, and eval mode (dropout, drop path, BatchNorm) held against `train()`.

    Every submodule is held, because a part's children may be registered on the tracker itself.
    """
    module.requires_grad_(False)
    for submodule in module.modules():
        _hold_in_eval(submodule)


def unfreeze(module: nn.Module) -> None:
    """Undo `freeze`: gradients on, and the module follows `model.train()` again."""
    module.requires_grad_(True)
    for submodule in module.modules():
        submodule.__dict__.pop("train", None)


def freeze_batch_norm(module: nn.Module) -> None:
    """Hold every BatchNorm in eval mode: its statistics stay, its weight and bias still train."""
    for submodule in module.modules():
        if isinstance(submodule, _BatchNorm):
            _hold_in_eval(submodule)


def _hold_in_eval(module: nn.Module) -> None:
    # a bound method in the instance survives copy.deepcopy, a closure would hold on to the original module
    module.__dict__["train"] = MethodType(_stay_in_eval, module)
    nn.Module.train(module, False)


def _stay_in_eval(self: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001 - train()'s signature
    return nn.Module.train(self, False)


def parts_of(tracker: Any) -> dict[str, nn.Module]:
    """Return the tracker's parts and its task heads by name, without those that hold no module."""
    parts = {**tracker.tracker_parts(), **tracker.task_parts()}
    return {name: part for name, part in parts.items() if part is not None}


def enter_stage(tracker: Any, stage: Stage, batch_norm: str = "batch") -> None:
    """Freeze and unfreeze the tracker's parts as `stage` asks, and put the model in training mode.

    Args:
        tracker: the model, with `tracker_parts()`, `task_parts()` and `unread_parameters()`.
        stage: which parts train.
        batch_norm: TRAIN.BN; "frozen" holds every BatchNorm in eval mode, "batch" uses batch statistics.

    Raises:
        TrainingError: the stage names a part that the tracker doesn't have.
    """
    parts = parts_of(tracker)
    unknown = sorted(stage.trains - set(parts))
    if unknown:
        raise TrainingError(
            f"stage '{stage.name}' trains {', '.join(unknown)}, but the tracker has {', '.join(parts)}"
        )
    for name, part in parts.items():
        if name in stage.trains:
            unfreeze(part)
        else:
            freeze(part)
    unread = set(tracker.unread_parameters())
    for name, parameter in tracker.named_parameters():
        if name in unread:
            parameter.requires_grad_(False)
    tracker.train()
    if batch_norm == "frozen":
        freeze_batch_norm(tracker)


def asleep(tracker: Any, stages: Sequence[Stage], number: int) -> frozenset[str]:
    """Return the heads that no stage up to `number` (from 0) has trained or trains: they needn't run yet."""
    begun = frozenset[str]().union(*(stage.losses for stage in stages[: number + 1]))
    return frozenset(tracker.task_parts()) - begun


def tell_progress(tracker: Any, stages: Sequence[Stage], number: int, epoch: int) -> None:
    """Tell heads that change while they learn (those with a `schedule`) how far they have come, in [0, 1].

    Args:
        tracker: the model, with `task_parts()`.
        stages: of the run.
        number: of the stage that runs, from 0.
        epoch: epochs of that stage that are over.
    """
    for task, head in tracker.task_parts().items():
        if not hasattr(head, "schedule"):
            continue
        learning = [stage.epochs if task in stage.trains else 0 for stage in stages]
        here = epoch if task in stages[number].trains else 0
        head.schedule((sum(learning[:number]) + here) / max(sum(learning), 1))
