"""The audit of a model in every stage of its training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from accelerate import Accelerator

from mtltrack.core.errors import TrainingError
from mtltrack.core.types import Clip
from mtltrack.training.audit.auditor import AuditOptions, StageAuditor
from mtltrack.training.audit.report import AuditReport, Finding, StageAudit
from mtltrack.training.audit.state import end_schedules, left_as_found, without_chance
from mtltrack.training.settings import Position, TrainSettings
from mtltrack.training.stages import Stage
from mtltrack.training.trainer import Trainer


def audit(
    tracker: Any,
    stages: Sequence[Stage],
    settings: TrainSettings,
    clip: Clip,
    *,
    accelerator: Accelerator | None = None,
    options: AuditOptions | None = None,
    model: str = "",
) -> AuditReport:
    """Audit a tracker in every stage of its training; it is left as it was found.

    Args:
        tracker: see `mtltrack.models.tracker.Tracker`.
        stages: from `stages.plan_stages`.
        settings: as for training; the lambdas, batch norm and the optimizer count.
        clip: a batch with labels of every task, as it comes from the loader.
        accelerator: device and precision; None for this process's default.
        options: see `AuditOptions`.
        model: names the model in the report.
    """
    trainer = Trainer(tracker, stages, settings, [], accelerator=accelerator or Accelerator())
    return audit_trainer(trainer, clip, options=options, model=model)


def audit_trainer(
    trainer: Trainer, clip: Clip, *, options: AuditOptions | None = None, model: str = ""
) -> AuditReport:
    """Audit the stages of a trainer, each entered as the trainer enters it; see `audit`.

    Weights are fixed at the lambdas meanwhile: the sum rule says what a balancing rule begins with.
    """
    tracker = trainer.tracker
    about = f"{clip.batch_size} clip(s) of {clip.num_frames} frame(s), search {clip.search.shape[-1]} px"
    report = AuditReport(model or type(tracker).__name__, about)
    tracker.to(trainer.accelerator.device)
    report.boundaries = declared_boundaries(tracker)
    position, settings = trainer.position, trainer.settings
    trainer.settings = replace(settings, weighting={"TYPE": "fixed"}, task_clip_norms={})
    for stage, epoch, name in _phases(trainer.stages):
        trainer.position = Position(stage=trainer.stages.index(stage))
        with left_as_found(tracker), without_chance(tracker):
            report.stages.append(_audit_stage(trainer, stage, epoch, clip, options or AuditOptions()))
            report.stages[-1].name = name
    trainer.position, trainer.settings = position, settings
    return report


def declared_boundaries(tracker: Any) -> dict[str, str]:
    """Return where no gradient passes by design, each with the reason: the tracker's own, and the heads'."""
    found: dict[str, str] = dict(tracker.boundaries()) if hasattr(tracker, "boundaries") else {}
    graph = getattr(tracker, "graph", None)
    for task, head in tracker.heads().items():
        for name in sorted(graph.detach.get(task, ())) if graph is not None else ():
            found[f"{name} -> {task}"] = f"TASKS.{task}.DETACH names it"
        for name, reason in getattr(head, "boundaries", {}).items():
            found[f"{name} -> {task}"] = reason
    return found


def _phases(stages: Sequence[Stage]) -> Iterator[tuple[Stage, int, str]]:
    """Yield each stage at its first epoch, and again where a part stops learning, with a name."""
    first = 1
    for stage in stages:
        active = stage.at_epoch(first)
        yield stage, first, stage.name
        for epoch in range(first, first + stage.epochs):
            if stage.at_epoch(epoch) != active:
                active = stage.at_epoch(epoch)
                yield stage, epoch, f"{stage.name} from epoch {epoch}"
        first += stage.epochs


def _audit_stage(trainer: Trainer, stage: Stage, epoch: int, clip: Clip, options: AuditOptions) -> StageAudit:
    try:
        current = trainer.enter(stage)
        trainer.follow(current, epoch)
    except TrainingError as error:
        empty = StageAudit(stage.name, sorted(stage.trains), sorted(stage.losses))
        empty.findings.append(Finding("optimizer", f"stage {stage.name}", str(error)))
        return empty
    end_schedules(trainer.tracker)
    try:
        return StageAuditor(trainer, current, clip, options).run()
    finally:
        trainer.leave(current)
