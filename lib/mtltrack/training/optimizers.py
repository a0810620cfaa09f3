"""The optimizer of a stage: its groups, the proof that they are complete, its schedule, its table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, StepLR

from mtltrack.core.errors import ConfigError, TrainingError
from mtltrack.training.balancing.rule import BalancingRule
from mtltrack.training.stages import BACKBONE, Stage, parts_of
from mtltrack.training.texts import listed

OPTIMIZERS = ("ADAMW",)
RULE_GROUP = "weighting"
NEVER = 10**9  # epochs
RATE_KEYS = {"train": "LR", "box": "BOX_LR", "heads": "STAGE1_LR", "joint": "STAGE2_LR"}


def parameter_groups(tracker: Any, stage: Stage) -> list[dict[str, Any]]:
    """Return one optimizer group a trained part, each with `name`, `params` and `lr`."""
    groups = []
    for name, part in parts_of(tracker).items():
        parameters = [parameter for parameter in part.parameters() if parameter.requires_grad]
        if name in stage.trains and parameters:
            groups.append(
                {"name": name, "params": parameters, "lr": stage.lr * stage.lr_multipliers.get(name, 1.0)}
            )
    return groups


def check_groups(model: nn.Module, groups: Iterable[Mapping[str, Any]]) -> None:
    """Make sure that every trainable parameter is in exactly one optimizer group.

    Raises:
        TrainingError: names the parameters that are in no group or in two, and those that the model doesn't
            have.
    """
    members: dict[int, list[str]] = {}
    for group in groups:
        for parameter in group["params"]:
            members.setdefault(id(parameter), []).append(str(group.get("name", "?")))
    missing, twice = [], []
    for name, parameter in model.named_parameters():
        found = members.pop(id(parameter), [])
        if len(found) > 1:
            twice.append(f"{name} ({' and '.join(found)})")
        elif parameter.requires_grad and not found:
            missing.append(name)
    problems = []
    if missing:
        problems.append(f"{len(missing)} trainable parameter(s) in no optimizer group: {listed(missing)}")
    if twice:
        problems.append(f"{len(twice)} parameter(s) in two optimizer groups: {listed(twice)}")
    if members:
        strangers = sorted({name for names in members.values() for name in names})
        problems.append(
            f"{len(members)} parameter(s) of group {', '.join(strangers)} don't belong to the model"
        )
    if problems:
        raise TrainingError("training can't start: " + "; ".join(problems))


def build_optimizer(tracker: Any, stage: Stage, weight_decay: float, optimizer: str = "ADAMW") -> Optimizer:
    """Return a new optimizer for the stage; call `enter_stage` first.

    Raises:
        ConfigError: an optimizer that isn't offered.
        TrainingError: a trainable parameter is in no group or in two, or the stage trains nothing.
    """
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"TRAIN.OPTIMIZER is '{optimizer}'; choose one of {', '.join(OPTIMIZERS)}")
    groups = parameter_groups(tracker, stage)
    check_groups(tracker, groups)
    if not groups:
        raise TrainingError(
            f"stage '{stage.name}' has no parameter to train (parts: {', '.join(stage.trains)})"
        )
    return AdamW(groups, lr=stage.lr, weight_decay=weight_decay)


def add_rule_group(optimizer: Optimizer, rule: BalancingRule, stage: Stage) -> None:
    """Give what a balancing rule learns by gradients a group of its own, without weight decay."""
    parameters = list(rule.parameters().values())
    if parameters:
        rate = rule.rate(stage.lr)
        optimizer.add_param_group({"name": RULE_GROUP, "params": parameters, "lr": rate, "weight_decay": 0.0})


def build_scheduler(optimizer: Optimizer, stage: Stage) -> LRScheduler:
    """Return the stage's schedule; it steps once an epoch."""
    schedule = stage.schedule
    if schedule.kind == "Mstep":
        return MultiStepLR(optimizer, milestones=list(schedule.milestones), gamma=schedule.gamma)
    return StepLR(optimizer, step_size=schedule.drop_epoch or NEVER, gamma=schedule.decay_rate)


def optimizer_settings(stage: Stage, weight_decay: float, optimizer: str = "ADAMW") -> dict[str, Any]:
    """Return what an optimizer and its schedule were made from, by the names of the YAML; plain types.

    A resumed run gets the optimizer that it was saved with, so that a change of these would do nothing.
    """
    schedule, rate = stage.schedule, RATE_KEYS.get(stage.name, "LR")
    settings: dict[str, Any] = {
        f"TRAIN.{rate}": stage.lr,
        "TRAIN.OPTIMIZER": optimizer,
        "TRAIN.WEIGHT_DECAY": weight_decay,
        "TRAIN.SCHEDULER.TYPE": schedule.kind,
    }
    if BACKBONE in stage.trains:
        settings["TRAIN.BACKBONE_MULTIPLIER"] = stage.lr_multipliers.get(BACKBONE, 1.0)
    if schedule.kind == "Mstep":
        settings["TRAIN.SCHEDULER.MILESTONES"] = list(schedule.milestones)
        settings["TRAIN.SCHEDULER.GAMMA"] = schedule.gamma
    else:
        settings["TRAIN.LR_DROP_EPOCH"] = schedule.drop_epoch
        settings["TRAIN.SCHEDULER.DECAY_RATE"] = schedule.decay_rate
    return settings


@dataclass(frozen=True)
class PartRow:
    """One line of the table that a stage starts with."""

    module: str
    parameters: int
    trainable: int
    lr: float | None
    group: str

    @property
    def state(self) -> str:
        return "trainable" if self.trainable else "frozen"


def stage_table(tracker: Any, groups: Collection[Mapping[str, Any]]) -> list[PartRow]:
    """Return one row a part: its parameters, whether they train, at which rate and in which group."""
    rows = []
    for name, part in parts_of(tracker).items():
        total = sum(parameter.numel() for parameter in part.parameters())
        trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
        identity = {id(parameter) for parameter in trained}
        group = next((g for g in groups if any(id(member) in identity for member in g["params"])), None)
        rows.append(
            PartRow(
                module=name,
                parameters=total,
                trainable=sum(parameter.numel() for parameter in trained),
                lr=None if group is None else float(group["lr"]),
                group="-" if group is None else str(group.get("name", "?")),
            )
        )
    return rows
