"""The training loop: stages, epochs, steps; validation, checkpoints and reports in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mtltrack.core.errors import CheckpointError
from mtltrack.core.types import BOX, Clip
from mtltrack.training.audit.watch import GradientWatch
from mtltrack.training.balancing.balancer import in_order
from mtltrack.training.balancing.build import build_rule
from mtltrack.training.balancing.rule import BalancingRule
from mtltrack.training.checkpoint import CheckpointFolder, Description, save_resume, save_weights
from mtltrack.training.monitors import Monitors
from mtltrack.training.optimizers import add_rule_group, build_optimizer, build_scheduler, stage_table
from mtltrack.training.randomness import random_state, restore_random_state
from mtltrack.training.reporting import EpochPlace, EpochReport
from mtltrack.training.resuming import need_same_run, run_identity
from mtltrack.training.settings import Position, TrainSettings
from mtltrack.training.stages import Stage, asleep, enter_stage, tell_progress
from mtltrack.training.step import StepRunner
from mtltrack.training.validation import validate
from mtltrack.training.weighting import world_size


@dataclass
class StageRun:
    """What belongs to the stage that is running: as planned, as it is in this epoch, and its machinery."""

    stage: Stage
    active: Stage
    optimizer: Optimizer
    scheduler: LRScheduler
    rule: BalancingRule
    model: nn.Module = field(init=False)
    runner: StepRunner = field(init=False)


class Trainer:
    """Trains a tracker through its stages.

    Args:
        tracker: the model; see `mtltrack.models.tracker.Tracker` for the methods that are used.
        stages: from `stages.plan_stages`.
        settings: see `TrainSettings`.
        train_loader: yields `Clip`s; its `sampler.set_epoch(e)` chooses the epoch's samples. Already split
            over ranks.
        checkpoints: where the files go, None to write none.
        about: what the checkpoints say about the model.
        val_loader: yields the same clips every time, None for no validation.
        accelerator: device, precision, distribution.
        monitors: who watches; give some to the main process only.
        keep_rate: epoch of the run (from 1) -> share of search tokens kept; None for the configured ratio
            throughout.
    """

    def __init__(
        self,
        tracker: Any,
        stages: Sequence[Stage],
        settings: TrainSettings,
        train_loader: Any,
        *,
        accelerator: Accelerator,
        checkpoints: CheckpointFolder | None = None,
        about: Description | None = None,
        val_loader: Any = None,
        monitors: Monitors | None = None,
        keep_rate: Callable[[int], float | None] | None = None,
    ) -> None:
        self.tracker = tracker
        self.stages = list(stages)
        self.settings = settings
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.accelerator = accelerator
        self.checkpoints = checkpoints
        self.about = about or Description(net_type="Tracker", config={})
        self.monitors = monitors or Monitors()
        self.keep_rate = keep_rate or (lambda epoch: None)  # noqa: ARG005 - the signature of a schedule
        self.position = Position()
        self.epochs = sum(stage.epochs for stage in self.stages)
        self._resume: Mapping[str, Any] | None = None

    # ------------------------------------------------------------------------------------------------- run

    def resume(self, state: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
        """Go on from a resume file and its checkpoint (`checkpoint.load_resume`) when `run` is called.

        Raises:
            TrainingError: the run that was saved had another seed, other stages, or other settings of the
                optimizer or of balancing in a stage that it had begun.
        """
        saved, own = state["run"], run_identity(self.settings, self.stages)
        place = Position(**state["position"])
        need_same_run(saved, own, self.stages, place)
        for key in ("ranks", "accumulation_steps"):
            if saved.get(key) != own[key]:
                self.monitors.message(
                    f"resuming with another number of {key} (was {saved.get(key)}, is {own[key]}): "
                    "the run goes on, but not as it would have"
                )
        try:
            self.tracker.load_state_dict(checkpoint["net"])
        except RuntimeError as error:
            raise CheckpointError(
                f"the checkpoint doesn't fit this model; give the settings that it was trained with, or "
                f"--resume never to start afresh: {error}"
            ) from error
        self.position = place
        self._resume = state

    def run(self) -> Position:
        """Train until the last stage is done.

        Raises:
            TrainingError: a stage can't start, ten steps in a row weren't finite, or a task that was to learn
                had no label in a whole epoch.
            DataError: too many bad samples in an epoch.
        """
        self.monitors.tell(lambda monitor: monitor.start(self.position.step))
        self.tracker.to(self.accelerator.device)
        while self.position.stage < len(self.stages):
            stage = self.stages[self.position.stage]
            if self.position.stage_epoch < stage.epochs:
                self._run_stage(stage)
            self.position.stage += 1
            self.position.stage_epoch = 0
        return self.position

    # ----------------------------------------------------------------------------------------------- stage

    def _run_stage(self, stage: Stage) -> None:
        current = self.enter(stage)
        while self.position.stage_epoch < stage.epochs:
            epoch = self.position.epoch + 1
            self.follow(current, epoch)
            self._train_epoch(current, epoch)
            current.scheduler.step()
            self.position.epoch = epoch
            self.position.stage_epoch += 1
            last = self.position.stage_epoch == stage.epochs
            if self.val_loader is not None and (last or epoch % self.settings.val_interval == 0):
                self._validate(epoch)
            if last or epoch % self.settings.save_interval == 0:
                self._save(current)
        self.leave(current)

    def enter(self, stage: Stage) -> StageRun:
        """Freeze what the stage freezes and make its optimizer and its steps; `leave` puts this away."""
        enter_stage(self.tracker, stage, self.settings.batch_norm)
        optimizer = build_optimizer(self.tracker, stage, self.settings.weight_decay, self.settings.optimizer)
        rule = build_rule(self.settings.weighting, in_order(stage.losses))
        add_rule_group(optimizer, rule, stage)
        current = StageRun(stage, stage, optimizer, build_scheduler(optimizer, stage), rule)
        self._prepare(current)
        if self._resume is not None:
            self._restore(current, self._resume)
            self._resume = None
        rows = stage_table(self.tracker, optimizer.param_groups)  # with the rates of where the stage goes on
        self.monitors.tell(lambda monitor: monitor.stage(stage, rows))
        return current

    def follow(self, current: StageRun, epoch: int) -> None:
        """Freeze the parts whose time of learning ends before this epoch; the optimizer stays."""
        active = current.stage.at_epoch(epoch)
        if active == current.active:
            return
        self.leave(current)
        enter_stage(self.tracker, active, self.settings.batch_norm)
        stopped = ", ".join(sorted(current.active.trains - active.trains))
        self.monitors.message(f"from epoch {epoch} on, {stopped} no longer learns")
        current.active = active
        self._prepare(current)

    def _prepare(self, current: StageRun) -> None:
        """Wrap model and optimizer for the parts that train now: DDP wants to know them from the start."""
        current.model, optimizer = self.accelerator.prepare(self.tracker, current.optimizer)
        current.runner = StepRunner(
            accelerator=self.accelerator,
            tracker=self.tracker,
            model=current.model,
            optimizer=optimizer,
            lambdas=self.settings.lambdas,
            excluded=set(self.tracker.heads()) - current.active.losses,
            mean=self.settings.mean,
            std=self.settings.std,
            grad_clip_norm=self.settings.grad_clip_norm,
            asleep=asleep(self.tracker, self.stages, self.position.stage),
            watch=self._watch(current.active),
            rule=current.rule,
            task_clip_norms=self.settings.task_clip_norms,
        )

    def _watch(self, stage: Stage) -> GradientWatch | None:
        intervals = self.settings.audit_interval, self.settings.audit_full_interval
        return GradientWatch(self, stage, *intervals) if self.monitors.monitors and any(intervals) else None

    def leave(self, current: StageRun) -> None:
        self.accelerator.unwrap_model(current.model, keep_fp32_wrapper=False)
        vars(self.tracker).pop("forward", None)  # what accelerate leaves behind is the class's own
        self.accelerator.free_memory()

    # ----------------------------------------------------------------------------------------------- epoch

    def _train_epoch(self, current: StageRun, epoch: int) -> None:
        self.train_loader.sampler.set_epoch(epoch)
        self.tracker.train()
        tell_progress(self.tracker, self.stages, self.position.stage, self.position.stage_epoch)
        steps = self._steps()
        keep_rate = self.keep_rate(epoch)
        rates = {str(group["name"]): float(group["lr"]) for group in current.optimizer.param_groups}
        place = EpochPlace(current.stage.name, epoch, self.epochs, steps, self.position.step)
        report = EpochReport(self.monitors, place, self.settings.print_interval)
        for step, clips in enumerate(islice(self._groups(), steps), start=1):
            result = current.runner.run(clips, keep_rate)
            self.position.step += 1
            report.add(step, clips, result, rates)
        current.rule.end_epoch()
        report.finish(self.settings.max_bad_fraction, current.active.losses - {BOX})

    def _steps(self) -> int:
        """Return the steps of an epoch, the same on every rank."""
        steps = torch.tensor(-(-len(self.train_loader) // self.settings.accumulation_steps))
        if world_size() > 1:
            steps = steps.to(self.accelerator.device)
            torch.distributed.all_reduce(steps, op=torch.distributed.ReduceOp.MIN)
        return int(steps)

    def _groups(self) -> Iterator[list[Clip]]:
        batches = iter(self.train_loader)
        while group := list(islice(batches, self.settings.accumulation_steps)):
            yield group

    def _validate(self, epoch: int) -> None:
        found = validate(
            self.tracker,
            self.val_loader,
            accelerator=self.accelerator,
            lambdas=self.settings.lambdas,
            mean=self.settings.mean,
            std=self.settings.std,
        )
        step = self.position.step
        self.monitors.tell(lambda monitor: monitor.scalars("val", found.scalars, epoch, step))
        if found.images is not None:
            images = found.images
            self.monitors.tell(lambda monitor: monitor.images("val/boxes", images, step))
        for task, metrics in found.metrics.items():
            if task not in found.scalars:
                continue  # nothing was labelled
            if hasattr(metrics, "figure"):
                self._draw(f"val/{task}", metrics.figure(f"{task}, epoch {epoch}"))
            if hasattr(metrics, "table"):
                self.monitors.message(metrics.table())

    def _draw(self, name: str, figure: Any) -> None:
        self.monitors.tell(lambda monitor: monitor.figure(name, figure, self.position.step))

    # ----------------------------------------------------------------------------------------- checkpoints

    def _save(self, current: StageRun) -> None:
        if self.checkpoints is None:
            return
        states = gather_object([random_state()])
        if self.accelerator.is_main_process:
            epoch = self.position.epoch
            path = self.checkpoints.weights_file(epoch)
            save_weights(path, self.tracker, self.about, epoch=epoch, stage=current.stage.name)
            save_resume(self.checkpoints, epoch, self._resume_state(current, states))
            self.monitors.message(f"saved {path}")
        self.accelerator.wait_for_everyone()

    def _resume_state(self, current: StageRun, random_states: list[dict[str, Any]]) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "run": run_identity(self.settings, self.stages),
            "position": vars(self.position),
            "stage": current.stage.name,
            "optimizer": current.optimizer.state_dict(),
            "scheduler": current.scheduler.state_dict(),
            "balancing": current.rule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "random": random_states,
        }

    def _restore(self, current: StageRun, state: Mapping[str, Any]) -> None:
        if self.position.stage_epoch > 0:  # in the middle of a stage
            current.optimizer.load_state_dict(state["optimizer"])
            current.scheduler.load_state_dict(state["scheduler"])
            current.rule.load_state_dict(state["balancing"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        rank = self.accelerator.process_index
        if rank < len(state["random"]):
            restore_random_state(state["random"][rank])
