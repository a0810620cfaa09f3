"""When a run writes checkpoints, which files, and what is kept of the older ones."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from accelerate.utils import gather_object

from mtltrack.training.checkpoint import (
    Description,
    save_resume,
    save_weights,
    weights_content,
)
from mtltrack.training.files import CheckpointFolder, prune
from mtltrack.training.reporting import EpochReport
from mtltrack.training.settings import Position, TrainSettings
from mtltrack.training.sharding import whole_state
from mtltrack.training.signals import StoppedError
from mtltrack.training.state import state_of_rank, state_of_run


@dataclass(frozen=True)
class Weights:
    """The weights of a run at some point.

    Attributes:
        plain: the state dict.
        average: the same with the moving average in place of what trains; None without TRAIN.EMA.
        epoch: epochs that are over.
        stage: name of the stage.
    """

    plain: Mapping[str, Any]
    average: Mapping[str, Any] | None
    epoch: int
    stage: str


class CheckpointWriter:
    """Writes the checkpoints of a run; the main process has the only one.

    Args:
        folder: where they go.
        about: what they say about the model.
        settings: what is kept.
    """

    def __init__(self, folder: CheckpointFolder, about: Description, settings: TrainSettings) -> None:
        self.folder, self.about, self.settings = folder, about, settings

    def epoch(
        self, weights: Weights, state: Mapping[str, Any], position: Position, *, again: bool = False
    ) -> str:
        """Write an epoch's weights and, after them, what resuming needs beside them.

        Args:
            weights: at the end of the epoch.
            state: see `save_resume`.
            position: where the run stands.
            again: the weights are there already, only the state has changed.

        Returns:
            What was written, for people.
        """
        path = self.folder.weights_file(position.epoch)
        if not (again and path.exists()):  # a state from another folder comes without them
            if weights.average is not None:
                average = self.folder.average_file(position.epoch)
                self._weights(average, weights.average, weights)
            self._weights(path, weights.plain, weights)
        save_resume(self.folder.resume_file(position.epoch), state, path.name)
        self._prune()
        return f"validated {path}" if again else f"saved {path}"

    def step(
        self, weights: Weights, state: Mapping[str, Any], position: Position, *, again: bool = False
    ) -> str:
        """Write all that resuming needs into one file, whose weights are there only for that."""
        del again  # all of it is in the one file
        path = self.folder.resume_file(position.epoch, position.step)
        content = weights_content(weights.plain, self.about, epoch=weights.epoch, stage=weights.stage)
        save_resume(path, state, content)
        self._prune()
        return f"saved {path}"

    def best(self, weights: Weights) -> None:
        """Write the weights that did best so far: the average where there is one."""
        net = weights.plain if weights.average is None else weights.average
        self._weights(self.folder.best_file(), net, weights)

    def _weights(self, path: Any, net: Mapping[str, Any], weights: Weights) -> None:
        save_weights(path, net, self.about, epoch=weights.epoch, stage=weights.stage)

    def _prune(self) -> None:
        prune(self.folder, self.settings.keep_resume, self.settings.keep_weights)


class BestScore:
    """The best figure that validation has found so far.

    Args:
        name: the figure, as in the curves without the group: "cls/macro_f1", "total"; "" for none.
        least: whether the smallest is the best.
    """

    def __init__(self, name: str, least: bool) -> None:
        self.name, self.least = name, least
        self.value: float | None = None
        self.epoch = 0

    def improves(self, scalars: Mapping[str, float], epoch: int) -> bool:
        """Tell whether a validation is the best so far, and remember it then."""
        value = scalars.get(self.name)
        if value is None or not isfinite(value):
            return False
        if self.value is not None and (value >= self.value if self.least else value <= self.value):
            return False
        self.value, self.epoch = value, epoch
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"name": self.name, "least": self.least, "value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, if it was the same figure."""
        if (state["name"], state["least"]) == (self.name, self.least):
            self.value, self.epoch = state["value"], state["epoch"]


class Saver:
    """Saves a run when it is time, and leaves it in order when somebody asks.

    Every rank has one and must call the same methods at the same places.

    Args:
        trainer: see `Trainer`.
        folder: where checkpoints go, None to write none.
    """

    def __init__(self, trainer: Any, folder: CheckpointFolder | None) -> None:
        self.trainer = weakref.proxy(trainer)  # whose loaders must not have to wait for the garbage collector
        self.folder = folder
        self._writer = None if folder is None else CheckpointWriter(folder, trainer.about, trainer.settings)
        self._at: Position | None = None  # where the newest checkpoint stands
        self._of_epoch = False  # it is an epoch's

    def resumed(self, state: Mapping[str, Any]) -> None:
        """Know of the checkpoint that the run goes on from."""
        self._at, self._of_epoch = replace(self.trainer.position), bool(state["of_epoch"])

    def inside_epoch(self, current: Any, report: EpochReport, stop: int) -> None:
        """Save after a step if it is time; leave if `stop` is a signal."""
        if stop or self._step_is_due():
            self._save(current, report)
        if stop:
            self.leave(stop, current)

    def after_epoch(self, current: Any, last: bool, stop: int) -> None:
        """Save after an epoch, the `last` of its stage in any case; leave if `stop` is a signal."""
        if last or self.trainer.position.epoch % self.trainer.settings.save_interval == 0:
            self._save(current, of_epoch=True)
        elif stop or self._step_is_due():
            self._save(current)
        if stop:
            self.leave(stop, current)

    def validated(self, current: Any) -> None:
        """Count the validation of the last epoch, lest a run that goes on from there makes it again."""
        saved = self._at == self.trainer.position
        self.trainer.position.validated = True
        if saved:
            self._save(current, of_epoch=self._of_epoch, again=True)

    def keep_best(self, current: Any, figures: Mapping[str, float]) -> None:
        """Write the weights if they did better than all before them."""
        trainer, name = self.trainer, self.trainer.settings.best
        if name and name not in figures:
            trainer.monitors.message(
                f"TRAIN.SAVE_BEST: this validation has no figure '{name}'; it has {', '.join(figures)}"
            )
        if name and trainer.best.improves(figures, trainer.position.epoch) and self._writer is not None:
            weights = self._weights(current)
            if trainer.accelerator.is_main_process:
                self._writer.best(weights)
                trainer.monitors.message(
                    f"best {name} so far: {trainer.best.value:.4g}, epoch {trainer.best.epoch}"
                )

    def leave(self, stop: int, current: Any) -> None:
        """Leave, with a checkpoint of where the run stands.

        Raises:
            StoppedError: always.
        """
        if self._at != self.trainer.position:
            self._save(current)
        where = f"after step {self.trainer.position.step} of the run"
        if self.folder is not None:
            where += f", which is saved in {self.folder.folder}; the same command goes on from there"
        raise StoppedError(stop, where)

    def _step_is_due(self) -> bool:
        interval = self.trainer.settings.save_interval_steps
        return interval > 0 and self.trainer.position.step % interval == 0

    def _save(
        self,
        current: Any,
        report: EpochReport | None = None,
        *,
        of_epoch: bool = False,
        again: bool = False,
    ) -> None:
        """Write a checkpoint.

        Args:
            current: the stage.
            report: of the epoch that is running, None between epochs.
            of_epoch: write the weights of an epoch, for everyone, and beside them what resuming needs; if
                not, all that resuming needs in one file.
            again: only what is known of the position has changed since the last time.
        """
        self._at, self._of_epoch = replace(self.trainer.position), of_epoch
        if self._writer is None:
            return
        trainer, accelerator = self.trainer, self.trainer.accelerator
        weights = self._weights(current)
        state = state_of_run(trainer, current, gather_object([state_of_rank(current, report)]))
        state["of_epoch"] = of_epoch
        if accelerator.is_main_process:
            write = self._writer.epoch if of_epoch else self._writer.step
            trainer.monitors.message(write(weights, state, trainer.position, again=again))
        accelerator.wait_for_everyone()

    def _weights(self, current: Any) -> Weights:
        trainer = self.trainer
        average = None if trainer.average is None else trainer.average.weights(trainer.tracker)
        return Weights(whole_state(trainer.tracker), average, trainer.position.epoch, current.stage.name)
