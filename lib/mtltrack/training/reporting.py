"""What is told about an epoch while it runs and when it ends."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor

from mtltrack.core.errors import DataError, TrainingError
from mtltrack.core.types import Clip
from mtltrack.data.faults import FaultLog
from mtltrack.training.averages import Averages
from mtltrack.training.monitors import Monitors, Progressed
from mtltrack.training.step import StepResult
from mtltrack.training.texts import LABEL_ADVICE
from mtltrack.training.validation import example_images
from mtltrack.training.weighting import world_size

GRAD_NORM = "grad_norm"
TRAIN, VAL = "train", "val"


@dataclass(frozen=True)
class EpochPlace:
    """Which epoch it is.

    Attributes:
        stage: name of its stage.
        epoch: number in the run, from 1.
        epochs: of the run.
        steps: of this epoch.
        steps_before: optimizer steps of the run before this epoch.
        done: steps of this epoch that were made before the run was interrupted in it.
    """

    stage: str
    epoch: int
    epochs: int
    steps: int
    steps_before: int
    done: int = 0


class EpochReport:
    """Gathers what the steps of an epoch measured and tells the monitors.

    Every rank must make one and call the same methods at the same steps: means are taken over all ranks.

    Args:
        monitors: who is told.
        place: which epoch it is.
        print_interval: steps between two reports.
        max_bad_fraction: share of the epoch's samples that may be bad.
    """

    def __init__(
        self, monitors: Monitors, place: EpochPlace, print_interval: int, max_bad_fraction: float = 1.0
    ) -> None:
        self.monitors = monitors
        self.place = place
        self.print_interval = print_interval
        self.max_bad_fraction = max_bad_fraction
        self._largest_step = 0  # samples, over all ranks
        self.faults = FaultLog()
        self._recent, self._whole, self._weights = Averages(), Averages(), Averages()
        self._started = self._reported = time.perf_counter()
        self._samples = 0
        self._last: tuple[Clip, StepResult] | None = None
        self._labelled: dict[str, Tensor] = {}  # task -> steps in which any rank had a label of it
        monitors.tell(
            lambda monitor: monitor.epoch(
                place.stage, place.epoch, place.epochs, place.steps, done=place.done
            )
        )

    def add(self, step: int, clips: Sequence[Clip], result: StepResult, rates: Mapping[str, float]) -> None:
        """Take in a step; report when it is time.

        Args:
            step: number in the epoch, from 1.
            clips: its micro-batches.
            result: what it measured.
            rates: learning rate by optimizer group.

        Raises:
            DataError: more than `max_bad_fraction` of the epoch's samples are bad already.
        """
        for clip in clips:
            self.faults.add(clip.sources)
            self._samples += clip.batch_size
        size = sum(clip.batch_size for clip in clips) * world_size()
        self._largest_step = max(self._largest_step, size)
        self._check_early()
        for task, measured in result.measured.items():
            self._labelled[task] = measured + self._labelled.get(task, 0)
        if result.refused is None:
            values = {**result.scalars, GRAD_NORM: result.grad_norm.float()}
            self._recent.add(values, result.measured)
            if result.weights:
                self._weights.add(result.weights, result.measured)
            self._last = (result.clip, result)
        else:
            self.monitors.message(f"epoch {self.place.epoch} step {step}: step refused, {result.refused}")
        self.monitors.tell(lambda monitor: monitor.step())
        if step % self.print_interval == 0 or step == self.place.steps:
            self._report(step, rates)

    def _check_early(self) -> None:
        try:
            self.faults.check_early(self.max_bad_fraction, self.place.steps * self._largest_step)
        except DataError:
            records = self.faults.records()
            self.monitors.tell(lambda monitor: monitor.faults(TRAIN, self.place.epoch, records))
            raise

    def _report(self, step: int, rates: Mapping[str, float]) -> None:
        now = time.perf_counter()
        self._whole.merge(self._recent)
        means = self._recent.take()
        place = self.place
        steps_left = place.steps - step + (place.epochs - place.epoch) * place.steps
        progressed = Progressed(
            stage=place.stage,
            epoch=place.epoch,
            epochs=place.epochs,
            step=step,
            steps=place.steps,
            global_step=place.steps_before + step,
            grad_norm=means.pop(GRAD_NORM, float("nan")),
            scalars=means,
            rates=rates,
            weights=self._weights.take(),
            samples_per_second=self._samples * world_size() / max(now - self._reported, 1e-9),
            seconds_left=steps_left * (now - self._started) / (step - place.done),
        )
        self.monitors.tell(lambda monitor: monitor.progress(progressed))
        self._reported, self._samples = now, 0

    def state_dict(self) -> dict[str, Any]:
        """Return what this rank has gathered, without the times: plain types and tensors."""
        return {
            "recent": self._recent.state_dict(),
            "whole": self._whole.state_dict(),
            "weights": self._weights.state_dict(),
            "labelled": self._labelled,
            "faults": vars(self.faults),
        }

    def load_state_dict(self, state: Mapping[str, Any], device: Any) -> None:
        """Go on from what `state_dict` returned."""
        self._recent.load_state_dict(state["recent"], device)
        self._whole.load_state_dict(state["whole"], device)
        self._weights.load_state_dict(state["weights"], device)
        self._labelled = {task: steps.to(device) for task, steps in state["labelled"].items()}
        for name, fresh in vars(self.faults).items():
            setattr(self.faults, name, type(fresh)(state["faults"][name]))  # a Counter is saved as a dict

    def finish(self, tasks: Collection[str] = ()) -> None:
        """Report the epoch's means, an example picture and the bad samples.

        Args:
            tasks: those that were to learn; without a single label they learn nothing.

        Raises:
            DataError: more than `max_bad_fraction` of the samples were bad.
            TrainingError: one of `tasks` had no label in the whole epoch, on any rank.
        """
        means, place = self._whole.take(), self.place
        step = place.steps_before + place.steps
        self.monitors.tell(lambda monitor: monitor.scalars("epoch", means, place.epoch, step))
        images = None if self._last is None else example_images(self._last[0], self._last[1].outputs)
        if images is not None:
            self.monitors.tell(lambda monitor: monitor.images("train/boxes", images, step))
        tell_faults(self.faults, self.monitors, TRAIN, place.epoch, self.max_bad_fraction)
        self._need_labels(tasks)

    def _need_labels(self, tasks: Collection[str]) -> None:
        without = [task for task in sorted(tasks) if not self._labelled.get(task, 0)]
        if without:
            named = ", ".join(without)
            raise TrainingError(
                f"task {named} had no labelled sample in epoch {self.place.epoch}; {LABEL_ADVICE}"
            )


def tell_faults(own: FaultLog, monitors: Monitors, part: str, epoch: int, max_fraction: float) -> None:
    """Report the bad samples of an epoch or a validation; every rank must call it.

    Args:
        own: what this rank met.
        monitors: who is told.
        part: TRAIN or VAL.
        epoch: of the run.
        max_fraction: share of the samples, over all ranks, that may be bad.

    Raises:
        DataError: more were bad, on every rank alike.
    """
    faults = FaultLog()
    for log in gather_object([own]):
        faults.merge(log)
    title = f"epoch {epoch}" if part == TRAIN else f"validation after epoch {epoch}"
    if faults.report():
        monitors.message(f"{title}: {faults.report()}")
    records = faults.records()
    monitors.tell(lambda monitor: monitor.faults(part, epoch, records))
    faults.check(max_fraction)
