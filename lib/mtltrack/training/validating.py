"""A validation round of a run: the weights, their average, what the monitors are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator

from mtltrack.core.types import Clip
from mtltrack.data.faults import FaultLog
from mtltrack.training.ema import WeightAverage
from mtltrack.training.frozen_features import FrozenFeatures
from mtltrack.training.monitors import Monitors
from mtltrack.training.ranks import share_state
from mtltrack.training.reporting import VAL, tell_faults
from mtltrack.training.settings import Position, TrainSettings
from mtltrack.training.signals import StopSignals
from mtltrack.training.validation import Validation, shares_validation, validate
from mtltrack.training.weighting import world_size

PLAIN, AVERAGED = "val", "val_ema"


class AskedToLeave(Exception):
    """A signal came during a validation, which is given up.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


class Validator:
    """Validates a run's weights, and their average where there is one.

    Args:
        tracker: the model without wrapper.
        loader: yields the same clips every time.
        settings: see `TrainSettings`.
        accelerator: device and ranks.
        monitors: who is told: groups "val" and "val_ema".
        stop: remembers the signals that ask to leave.
        average: of the weights, or None.
        features: knows what frozen parts have answered before, or None.
    """

    def __init__(
        self,
        tracker: Any,
        loader: Any,
        settings: TrainSettings,
        *,
        accelerator: Accelerator,
        monitors: Monitors,
        stop: StopSignals,
        average: WeightAverage | None,
        features: FrozenFeatures | None = None,
    ) -> None:
        self.tracker, self.loader, self.settings = tracker, loader, settings
        self.accelerator, self.monitors, self.stop, self.average = accelerator, monitors, stop, average
        self.features = features
        self.faults = FaultLog()

    def run(self, position: Position) -> Mapping[str, float]:
        """Validate and tell.

        Returns:
            The figures, those of the average where there is one.

        Raises:
            AskedToLeave: a signal came on any rank; the model is as it was.
            DataError: too many bad samples.
        """
        self.faults = FaultLog()
        found = self._measure()
        tell_faults(self.faults, self.monitors, VAL, position.epoch, self.settings.max_bad_fraction)
        self._tell(PLAIN, found, position)
        if self.average is not None:
            self.faults = FaultLog()  # of the same clips: told already
            with self.average.applied():
                found = self._measure()
            self._tell(AVERAGED, found, position)
        return found.scalars

    def _measure(self) -> Validation:
        share_state(self.tracker, buffers_only=True)  # rank 0's batch statistics are those that are saved
        if self.features is not None:
            self.features.begin(training=False)
        found = validate(
            self.tracker,
            self._unless_asked_to_leave(),
            accelerator=self.accelerator,
            lambdas=self.settings.lambdas,
            mean=self.settings.mean,
            std=self.settings.std,
            shared=shares_validation(self.tracker, self.settings.fsdp),
            features=self.features,
        )
        if self.features is not None:
            self.features.finish("validation")
        return found

    def _unless_asked_to_leave(self) -> Iterator[Clip]:
        together = self._least(len(self.loader))  # the ranks agree only where all of them ask
        for number, clip in enumerate(self.loader):
            if number < together and (stop := self.stop.agreed()):
                raise AskedToLeave(stop)
            self.faults.add(clip.sources)
            yield clip

    def _least(self, number: int) -> int:
        if world_size() == 1:
            return number
        least = torch.tensor(number, device=self.accelerator.device)
        torch.distributed.all_reduce(least, op=torch.distributed.ReduceOp.MIN)
        return int(least)

    def _tell(self, group: str, found: Validation, position: Position) -> None:
        if not self.monitors.monitors:
            return  # another process tells, and nobody would look at what is drawn here
        epoch, step = position.epoch, position.step
        self.monitors.tell(lambda monitor: monitor.scalars(group, found.scalars, epoch, step))
        if found.images is not None:
            images = found.images
            self.monitors.tell(lambda monitor: monitor.images(f"{group}/boxes", images, step))
        for task, metrics in found.metrics.items():
            if task not in found.scalars:
                continue  # nothing was labelled
            if hasattr(metrics, "figure"):
                self._draw(f"{group}/{task}", metrics.figure(f"{task}, epoch {epoch}"), step)
            if hasattr(metrics, "table"):
                self.monitors.message(metrics.table())

    def _draw(self, name: str, figure: Any, step: int) -> None:
        self.monitors.tell(lambda monitor: monitor.figure(name, figure, step))
