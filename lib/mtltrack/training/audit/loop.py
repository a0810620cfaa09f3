"""The training loop under the audit: modes, optimizer groups, and one step made as training makes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from mtltrack.core.types import Clip
from mtltrack.training.audit.report import Finding, Group
from mtltrack.training.stages import Stage, parts_of
from mtltrack.training.texts import listed


def check_modes(tracker: Any, stage: Stage, batch_norm: str) -> Iterator[Finding]:
    """Check that frozen parts don't train and are in eval mode, and that the others are in training mode."""
    for part, module in parts_of(tracker).items():
        if part in stage.trains:
            held = [
                f"{part}.{name}"
                for name, child in module.named_modules()
                if not child.training and not _only_holds(child) and not _is_held(child, batch_norm)
            ]
            if held:
                yield Finding(
                    "mode",
                    part,
                    f"it trains in this stage, but these modules are in eval mode: {listed(held)}",
                )
            continue
        live = [f"{part}.{name}".rstrip(".") for name, child in module.named_modules() if child.training]
        if live:
            message = (
                "it is frozen in this stage, but these modules are in training mode (dropout and drop path "
                f"draw, batch norms use and change their statistics): {listed(live)}"
            )
            yield Finding("mode", part, message)
        loose = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        if loose:
            message = f"it is frozen in this stage, but these parameters require a gradient: {listed(loose)}"
            yield Finding("leaking", part, message)
    if batch_norm == "frozen":
        norms = [
            name
            for name, module in tracker.named_modules()
            if isinstance(module, _BatchNorm) and module.training
        ]
        if norms:
            message = f"TRAIN.BN is frozen, but these use the statistics of the batch: {listed(norms)}"
            yield Finding("mode", "batch norm", message)


def _only_holds(module: nn.Module) -> bool:
    """Tell whether a module holds others, whose modes count: a history's own isn't in the tracker's tree."""
    return next(module.children(), None) is not None


def _is_held(module: nn.Module, batch_norm: str) -> bool:
    return batch_norm == "frozen" and isinstance(module, _BatchNorm)


def check_optimizer(tracker: Any, optimizer: Optimizer, unread: set[str]) -> Iterator[Finding]:
    """Check that every trainable parameter is in one optimizer group, and no other is in any."""
    members: dict[int, list[str]] = {}
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            members.setdefault(id(parameter), []).append(str(group.get("name", number)))
    missing, twice = [], []
    for name, parameter in tracker.named_parameters():
        groups = members.pop(id(parameter), [])
        if len(groups) > 1:
            twice.append(f"{name} ({' and '.join(groups)})")
        if parameter.requires_grad and not groups and name not in unread:
            missing.append(name)
    for part, names in _by_part(tracker, missing).items():
        yield Finding("optimizer", part, f"trainable, but in no optimizer group: {listed(names)}")
    if twice:
        yield Finding("optimizer", "groups", f"in two optimizer groups: {listed(twice)}")
    if members:
        groups = sorted({name for names in members.values() for name in names})
        message = f"{len(members)} parameter(s) of {', '.join(groups)} are not the model's: a copy is trained"
        yield Finding("optimizer", "groups", message)


def _by_part(tracker: Any, names: list[str]) -> dict[str, list[str]]:
    parts = {
        id(parameter): part for part, module in parts_of(tracker).items() for parameter in module.parameters()
    }
    found: dict[str, list[str]] = {}
    for name, parameter in tracker.named_parameters():
        if name in names:
            found.setdefault(parts.get(id(parameter), "elsewhere"), []).append(name)
    return found


@dataclass
class ObservedStep:
    """What one step of training did.

    Attributes:
        gradients: that the optimizer was given, unclipped, by parameter; empty when the step was refused.
        refused: why it was refused.
        changed: parameters that it changed.
        left: parameters that keep a gradient after it.
        norm: of all gradients, as the step reported it.
    """

    gradients: dict[str, Tensor]
    refused: str | None
    changed: set[str]
    left: list[str]
    norm: float


def observe_step(tracker: Any, current: Any, clip: Clip, keep_rate: float | None) -> ObservedStep:
    """Make one step as training does, without clipping, and note what the optimizer gets and does.

    Args:
        tracker: the model.
        current: `trainer.StageRun`.
        clip: as it comes from the loader.
        keep_rate: see `Tracker.forward`.
    """
    before = {name: parameter.detach().clone() for name, parameter in tracker.named_parameters()}
    seen: dict[str, Tensor] = {}

    def note(*_: Any) -> None:
        for name, parameter in tracker.named_parameters():
            if parameter.grad is not None:
                seen[name] = parameter.grad.detach().clone()

    handle = current.optimizer.register_step_pre_hook(note)
    limit, current.runner.max_norm = current.runner.max_norm, 0.0
    refused: str | None = None
    norm = float("nan")
    try:
        result = current.runner.run([clip], keep_rate)
        refused, norm = result.refused, float(result.grad_norm)
    except RuntimeError as error:  # autograd's own, TrainingError among them
        refused = str(error).splitlines()[0].split(" Hint:")[0]
    finally:
        handle.remove()
        current.runner.max_norm = limit
    changed = {name for name, p in tracker.named_parameters() if not before[name].equal(p.detach())}
    left = [
        name for name, p in tracker.named_parameters() if p.grad is not None and bool((p.grad != 0).any())
    ]
    return ObservedStep(seen, refused, changed, left, norm)


def optimizer_groups(tracker: Any, optimizer: Optimizer, changed: set[str]) -> list[Group]:
    """Return the optimizer's groups with how many of their parameters a step changed."""
    moved = {id(p) for name, p in tracker.named_parameters() if name in changed}
    return [
        Group(
            name=str(group.get("name", number)),
            rate=float(group["lr"]),
            tensors=len(group["params"]),
            moved=sum(id(parameter) in moved for parameter in group["params"]),
        )
        for number, group in enumerate(optimizer.param_groups)
    ]


def check_step(
    tracker: Any, current: Any, step: ObservedStep, expected: Mapping[str, Tensor]
) -> Iterator[Finding]:
    """Check what a step did against the gradient that it should have had."""
    if step.refused is not None:
        yield Finding("step", "optimizer step", f"it wasn't made: {step.refused}")
        return
    if step.left:
        message = f"gradients are left for the next step to add to: {listed(step.left)}"
        yield Finding("step", "gradients", message)
    rates = {
        id(parameter): float(group["lr"])
        for group in current.optimizer.param_groups
        for parameter in group["params"]
    }
    still: dict[str, list[str]] = {}
    moved: list[str] = []
    for name, parameter in tracker.named_parameters():
        rate = rates.get(id(parameter))
        if not parameter.requires_grad:
            moved += [name] if name in step.changed else []
        elif name not in step.changed and _counts(expected.get(name)):
            why = (
                "it is in no optimizer group"
                if rate is None
                else "its learning rate is 0"
                if rate == 0
                else "it has a gradient and a learning rate"
            )
            still.setdefault(why, []).append(name)
    for why, names in still.items():
        yield Finding("unmoved", "trainable, but a step doesn't change it", f"{why}: {listed(names)}")
    if moved:
        yield Finding("moved", "frozen, but a step changes it", listed(moved))


def _counts(gradient: Tensor | None) -> bool:
    """Tell whether a gradient is more than rounding: then a step of Adam must show."""
    return gradient is not None and float(gradient.abs().max()) > 1e-6
