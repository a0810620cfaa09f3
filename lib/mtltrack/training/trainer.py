"""The training loop: stages, epochs, steps; validation, checkpoints and reports in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mtltrack.core.errors import CheckpointError
from mtltrack.core.kernels import using
from mtltrack.core.precision import HALF_TYPES
from mtltrack.core.types import BOX, Clip
from mtltrack.models.packed import pack_where_faster, unpack
from mtltrack.training.audit.watch import GradientWatch
from mtltrack.training.balancing.balancer import in_order
from mtltrack.training.balancing.build import build_rule
from mtltrack.training.balancing.rule import BalancingRule
from mtltrack.training.checkpoint import Description
from mtltrack.training.ema import WeightAverage
from mtltrack.training.files import CheckpointFolder
from mtltrack.training.frozen_features import build_features
from mtltrack.training.memory import MicroBatches
from mtltrack.training.monitors import Monitors
from mtltrack.training.optimizers import add_rule_group, build_optimizer, build_scheduler, stage_table
from mtltrack.training.ranks import share_state
from mtltrack.training.reporting import EpochPlace, EpochReport
from mtltrack.training.resuming import need_same_run, run_identity
from mtltrack.training.saving import BestScore, Saver
from mtltrack.training.settings import Position, TrainSettings
from mtltrack.training.sharding import ShardedTracker
from mtltrack.training.signals import StopSignals
from mtltrack.training.stages import Stage, asleep, enter_stage, parts_of, tell_progress
from mtltrack.training.state import restore_report, restore_stage
from mtltrack.training.step import StepRunner
from mtltrack.training.validating import AskedToLeave, Validator
from mtltrack.training.weighting import world_size

# of a prepared model; with the last of them there, the next stage would get no precision again
LEFT_BEHIND = ("forward", "_original_forward", "_is_accelerate_prepared")


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
    watch: GradientWatch | None = None


class Trainer:
    """Trains a tracker through its stages.

    Args:
        tracker: the model; see `mtltrack.models.tracker.Tracker` for the methods that are used.
        stages: from `stages.plan_stages`.
        settings: see `TrainSettings`.
        train_loader: yields `Clip`s; its `sampler.set_epoch(e, start)` chooses the epoch's samples, without
            the first `start` of them, which a resumed run had already. Already split over ranks.
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
        self.accelerator = accelerator
        self.about = about or Description(net_type="Tracker", config={})
        self.monitors = monitors or Monitors()
        self.keep_rate = keep_rate or (lambda epoch: None)  # noqa: ARG005 - the signature of a schedule
        self.position = Position()
        self.epochs = sum(stage.epochs for stage in self.stages)
        self.memory = MicroBatches()
        self.sharded: ShardedTracker | None = None
        self.stop = StopSignals()
        self.average = None if settings.ema is None else WeightAverage(settings.ema)
        self.best = BestScore(settings.best, settings.best_is_least)
        self.features = build_features(tracker, settings, accelerator, self.monitors.message)
        self.saver = Saver(self, checkpoints)
        self.validator = (
            None
            if val_loader is None
            else Validator(
                tracker,
                val_loader,
                settings,
                accelerator=accelerator,
                monitors=self.monitors,
                stop=self.stop,
                average=self.average,
                features=self.features,
            )
        )
        self._resume: Mapping[str, Any] | None = None

    # ------------------------------------------------------------------------------------------------- run

    def resume(self, state: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
        """Go on from a resume file and its checkpoint (`checkpoint.load_resume`) when `run` is called.

        Raises:
            TrainingError: the run that was saved had another seed, other stages, or other settings of the
                optimizer or of balancing in a stage that it had begun.
        """
        place = Position(**state["position"])
        identity = run_identity(self.settings, self.stages, self.about.config)
        for sentence in need_same_run(state["run"], identity, self.stages, place):
            self.monitors.message(sentence)
        try:
            self.tracker.load_state_dict(checkpoint["net"])
        except RuntimeError as error:
            raise CheckpointError(
                f"the checkpoint doesn't fit this model; give the settings that it was trained with, or "
                f"--resume never to start afresh: {error}"
            ) from error
        self.position = place
        self.saver.resumed(state)
        self.best.load_state_dict(state["best"])
        if self.average is not None and state["average"] is not None:
            self.average.load_state_dict(state["average"])
        self._resume = state

    def run(self) -> Position:
        """Train until the last stage is done.

        Raises:
            StoppedError: a signal asked to leave; a checkpoint was written.
            TrainingError: a stage can't start, too many steps in a row weren't finite, or a task that was to
                learn had no label in a whole epoch.
            DataError: too many bad samples in an epoch.
        """
        self.monitors.tell(lambda monitor: monitor.start(self.position.step))
        self.tracker.to(self.accelerator.device)
        share_state(self.tracker)
        if self.settings.fsdp and world_size() > 1:
            self.sharded = ShardedTracker(self.tracker, self.accelerator)
            if self.validator is not None:
                self.validator.tracker = self.sharded
        with self.stop, using(self.settings.kernel):
            while self.position.stage < len(self.stages):
                stage = self.stages[self.position.stage]
                if self.position.stage_epoch < stage.epochs or not self.position.validated:
                    self._run_stage(stage)
                self.position.stage += 1
                self.position.stage_epoch = 0
        return self.position

    # ----------------------------------------------------------------------------------------------- stage

    def _run_stage(self, stage: Stage) -> None:
        current = self.enter(stage)
        while True:
            if not self.position.validated:
                self._validate(current)
            if self.position.stage_epoch >= stage.epochs:
                break
            self.follow(current, self.position.epoch + 1)
            self._train_epoch(current)
        self._resume = None
        self.leave(current)

    def enter(self, stage: Stage) -> StageRun:
        """Freeze what the stage freezes and make its optimizer and its steps; `leave` puts this away."""
        enter_stage(self.tracker, stage, self.settings.batch_norm)
        optimizer = build_optimizer(self.tracker, stage, self.settings.weight_decay, self.settings.optimizer)
        rule = build_rule(self.settings.weighting, in_order(stage.losses))
        add_rule_group(optimizer, rule, stage)
        current = StageRun(stage, stage, optimizer, build_scheduler(optimizer, stage), rule)
        if self.average is not None:
            self.average.follow(self.tracker)
        if self._resume is not None and self.position.in_stage:
            self._freeze(current, stage.at_epoch(self.position.epoch + (self.position.epoch_step > 0)))
        self._prepare(current)
        if self._resume is not None:
            restore_stage(self, current, self._resume)
        rows = stage_table(self.tracker, optimizer.param_groups)  # with the rates of where the stage goes on
        self.monitors.tell(lambda monitor: monitor.stage(stage, rows))
        return current

    def follow(self, current: StageRun, epoch: int) -> None:
        """Freeze the parts whose time of learning ends before this epoch; the optimizer stays."""
        active = current.stage.at_epoch(epoch)
        if active == current.active:
            return
        self.leave(current)
        stopped = ", ".join(sorted(current.active.trains - active.trains))
        self.monitors.message(f"from epoch {epoch} on, {stopped} no longer learns")
        self._freeze(current, active)
        self._prepare(current)

    def _freeze(self, current: StageRun, active: Stage) -> None:
        enter_stage(self.tracker, active, self.settings.batch_norm)
        current.active = active

    def _prepare(self, current: StageRun) -> None:
        """Make what runs the steps, for the parts that train now.

        The ranks average gradients themselves (see `PassMaker`), so accelerate adds precision and no wrapper.
        """
        if self.sharded is None:
            self._pack_frozen(current.active)
        if self.features is not None:
            self.features.enter(current.active)
        model = self.accelerator.prepare_model(self.tracker, evaluation_mode=True)
        current.model = self.sharded or model
        optimizer = self.accelerator.prepare_optimizer(current.optimizer)
        current.watch = self._watch(current.active)
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
            watch=current.watch,
            rule=current.rule,
            task_clip_norms=self.settings.task_clip_norms,
            max_bad_steps=self.settings.max_bad_steps,
            memory=self.memory,
            tell=self.monitors.message,
            stop=self.stop,
            sharded=self.sharded is not None,
            features=self.features,
        )

    def _pack_frozen(self, active: Stage) -> None:
        """Pack the weights of the parts that don't train, where that is faster."""
        lowered = HALF_TYPES.get(self.accelerator.mixed_precision)
        frozen = [part for name, part in parts_of(self.tracker).items() if name not in active.trains]
        pack_where_faster(self.accelerator.device, lowered, *frozen)

    def _watch(self, stage: Stage) -> GradientWatch | None:
        intervals = self.settings.audit_interval, self.settings.audit_full_interval
        return GradientWatch(self, stage, *intervals) if self.monitors.monitors and any(intervals) else None

    def leave(self, current: StageRun) -> None:  # noqa: ARG002 - the counterpart of enter
        unpack(self.tracker)
        for name in LEFT_BEHIND:
            vars(self.tracker).pop(name, None)
        self.accelerator.free_memory()

    # ----------------------------------------------------------------------------------------------- epoch

    def _train_epoch(self, current: StageRun) -> None:
        position, done = self.position, self.position.epoch_step
        epoch = position.epoch + 1
        seen = done * self.settings.accumulation_steps * self.train_loader.batch_size if done else 0
        self.train_loader.sampler.set_epoch(current.stage.drawn_epoch(epoch, position.stage_epoch), seen)
        if self.features is not None:
            self.features.begin(training=True)
        self.tracker.train()
        tell_progress(self.tracker, self.stages, position.stage, position.stage_epoch)
        steps, keep_rate = self._steps(), self.keep_rate(epoch)
        rates = {str(group["name"]): float(group["lr"]) for group in current.optimizer.param_groups}
        place = EpochPlace(current.stage.name, epoch, self.epochs, steps, position.step - done, done)
        settings = self.settings
        report = EpochReport(self.monitors, place, settings.print_interval, settings.max_bad_fraction)
        if done and self._resume is not None:
            restore_report(self, report, self._resume)
        self._resume = None
        stop = 0
        for step, clips in enumerate(islice(self._groups(), steps - done), start=done + 1):
            result = current.runner.run(clips, keep_rate)
            position.step, position.epoch_step = position.step + 1, step
            if self.average is not None and result.refused is None:
                self.average.update()
            report.add(step, clips, result, rates)
            stop = result.stop
            if step < steps:
                self.saver.inside_epoch(current, report, stop)
        current.rule.end_epoch()
        report.finish(current.active.losses - {BOX})
        if self.features is not None:
            self.features.finish(f"epoch {epoch}")
        self._end_epoch(current, stop)

    def _end_epoch(self, current: StageRun, stop: int) -> None:
        """Count the epoch and save; validation comes after it, and again after a crash in it."""
        position, settings = self.position, self.settings
        current.scheduler.step()
        position.epoch, position.stage_epoch = position.epoch + 1, position.stage_epoch + 1
        position.epoch_step = 0
        last = position.stage_epoch == current.stage.epochs
        due = last or position.epoch % settings.val_interval == 0
        position.validated = self.validator is None or not due
        self.saver.after_epoch(current, last, stop)

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

    # ------------------------------------------------------------------------------ validation, checkpoints

    def _validate(self, current: StageRun) -> None:
        if self.validator is not None:
            try:
                figures = self.validator.run(self.position)
            except AskedToLeave as asked:
                self.saver.leave(asked.number, current)
            self.saver.keep_best(current, figures)
        self.saver.validated(current)
