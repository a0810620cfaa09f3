"""The audit of a model in every stage of its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator

from mtltrack.core.errors import TrainingError
from mtltrack.core.types import Clip
from mtltrack.training.audit.auditor import AuditOptions, StageAuditor
from mtltrack.training.audit.report import AuditReport, Finding, StageAudit
from mtltrack.training.audit.state import left_as_found, without_chance
from mtltrack.training.settings import TrainSettings
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
    """Audit the stages of a trainer, each entered as the trainer enters it; see `audit`."""
    tracker = trainer.tracker
    about = f"{clip.batch_size} clip(s) of {clip.num_frames} frame(s), search {clip.search.shape[-1]} px"
    report = AuditReport(model or type(tracker).__name__, about)
    tracker.to(trainer.accelerator.device)
    for stage in trainer.stages:
        with left_as_found(tracker), without_chance(tracker):
            report.stages.append(_audit_stage(trainer, stage, clip, options or AuditOptions()))
    return report


def _audit_stage(trainer: Trainer, stage: Stage, clip: Clip, options: AuditOptions) -> StageAudit:
    try:
        current = trainer.enter(stage)
    except TrainingError as error:
        empty = StageAudit(stage.name, sorted(stage.trains), sorted(stage.losses))
        empty.findings.append(Finding("optimizer", f"stage {stage.name}", str(error)))
        return empty
    try:
        return StageAuditor(trainer, current, clip, options).run()
    finally:
        trainer.leave(current)
