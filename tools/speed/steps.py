"""Steps of training against their plain form, made by the project's own `StepRunner`."""

from __future__ import annotations

from dataclasses import replace

import torch
from plain.forms import plain_forms

from mtltrack.cli.train_setup import make_accelerator, make_stages, train_settings
from mtltrack.core.config import Config
from mtltrack.core.errors import TrainingError
from mtltrack.core.kernels import DEFAULT, using
from mtltrack.evaluation.costs import count_operations
from mtltrack.models.tracker import Tracker
from mtltrack.training.audit.clips import ClipShape, made_up_clip
from mtltrack.training.stages import BACKBONE, Stage
from mtltrack.training.trainer import Trainer
from speed.rounds import Comparison, Form, Timer


class StepBench:
    """Measures the steps of each stage of training.

    The plain form is float32 whatever the precision of ours. Both change the same weights in turn.

    Args:
        net: with any weights; where it trains accelerate decides.
        cfg: its configuration, TRAIN.PRECISION among it.
        script: "hiptrack" or "ostrack".
        batch: clips a step.
        timer: makes the comparisons.
        kernel: of our float32 products, see `mtltrack.core.kernels`.
        seed: of the made-up clips.
    """

    def __init__(
        self,
        net: Tracker,
        cfg: Config,
        script: str,
        batch: int,
        timer: Timer,
        kernel: str = DEFAULT,
        seed: int = 42,
    ) -> None:
        self.net, self.batch, self.timer, self.kernel = net, batch, timer, kernel
        detail = None if cfg.DATA.DETAIL is None else cfg.DATA.DETAIL.SIZE
        self.frames = cfg.DATA.SEARCH.NUMBER
        shape = ClipShape(batch, self.frames, cfg.DATA.TEMPLATE.SIZE, cfg.DATA.SEARCH.SIZE, detail)
        self.clip = made_up_clip(net.heads(), shape, seed)
        accelerator = make_accelerator(cfg)
        settings = replace(train_settings(cfg, seed, "none"), audit_interval=0, audit_full_interval=0)
        stages = measured_stages(make_stages(net, cfg, script), net)
        self.trainer = Trainer(net.to(timer.device), stages, settings, [], accelerator=accelerator)

    def run(self) -> list[Comparison]:
        """Compare a step of each stage."""
        return [self.stage(number, stage) for number, stage in enumerate(self.trainer.stages)]

    def stage(self, number: int, stage: Stage) -> Comparison:
        """Compare a step of one stage."""
        trainer = self.trainer
        trainer.position.stage = number
        with using(self.kernel):
            current = trainer.enter(stage)
        self.net.train()
        clip = self.clip.to(self.timer.device)

        def step() -> None:
            made = current.runner.run([clip], None)
            if made.refused is not None:
                raise TrainingError(f"stage {stage.name}: {made.refused}")

        frozen = "" if BACKBONE in stage.trains else ", frozen backbone"
        name = f"stage {stage.name}{frozen}, {self.batch} x {self.frames} frames"
        with plain_forms(self.net):
            operations = count_operations(step)
        found = self.timer.compare(
            name,
            Form(step, lambda: using(self.kernel)),
            Form(step, lambda: plain_forms(self.net)),
            warm_up=1,
            operations=operations,
        )
        trainer.leave(current)
        return found


def measured_stages(stages: list[Stage], net: Tracker) -> list[Stage]:
    """Return the stages of a training, and one in which everything trains where none does."""
    everything = frozenset(net.tracker_parts()) | frozenset(net.task_parts())
    if any(stage.trains >= everything for stage in stages):
        return stages
    last = stages[-1]
    return [*stages, replace(last, name="joint", trains=everything, losses=frozenset(net.heads()))]


def training_device() -> torch.device:
    """Return the device that accelerate chooses for one process."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
