"""The forward and backward passes of a step, in micro-batches that fit into memory, on all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from mtltrack.core.errors import TrainingError
from mtltrack.core.types import Clip, TaskOutput
from mtltrack.training.audit.state import chance_and_buffers_kept
from mtltrack.training.balancing.balancer import Balancer
from mtltrack.training.frozen_features import FrozenFeatures
from mtltrack.training.memory import Attempt, MicroBatches, OutOfMemory, release
from mtltrack.training.randomness import random_state, restore_random_state
from mtltrack.training.ranks import average_gradients
from mtltrack.training.refusals import BatchStatistics
from mtltrack.training.sharding import unspread
from mtltrack.training.weighting import Counts, LossReport, label_counts, total_loss, world_size


class Watch(Protocol):
    """Looks at a step while it is made, and changes nothing."""

    def prepare(self, clip: Clip) -> None:
        """The step begins; `clip` is its last micro-batch."""

    def look(self, report: LossReport, clip: Clip) -> None:
        """The losses of the last micro-batch are there, with their graphs; their backward pass comes next."""


@dataclass
class Passes:
    """What the passes of a step leave behind; the gradients are in the parameters, averaged over the ranks.

    Attributes:
        counts: labelled samples of the step, see `label_counts`.
        keep_rate: share of search tokens kept.
        chance: state of the random generators when the step began.
        pieces: the step's micro-batches.
        reports: their losses.
        outputs: the answers to the last of them.
    """

    counts: Counts
    keep_rate: float | None
    chance: Mapping[str, Any]
    pieces: list[Clip] = field(default_factory=list)
    reports: list[LossReport] = field(default_factory=list)
    outputs: dict[str, TaskOutput] = field(default_factory=dict)


class PassMaker:
    """Makes the passes of the steps of one stage.

    The gradients are averaged over the ranks when all backward passes are done and every rank knows that none
    ran out of memory. (DDP sends them while they are made: a rank that fails then leaves the others waiting.)

    Args:
        accelerator: device, precision.
        tracker: the model without wrapper.
        model: the model as it is called.
        optimizer: as accelerate prepared it.
        balancer: makes the backward passes.
        parameters: that train.
        lambdas: weight of each task.
        excluded: tasks whose losses are measured only.
        asleep: tasks whose heads aren't run.
        mean: DATA.MEAN.
        std: DATA.STD.
        watch: who looks at the gradients of single tasks, or None.
        memory: how many clips go through the model at once; the same object in all stages of a run.
        tell: takes a sentence for people.
        sharded: the parameters are spread over the ranks, see `sharding`: the backward passes themselves
            average their gradients.
        features: knows what frozen parts have answered before, or None.
    """

    def __init__(
        self,
        *,
        accelerator: Accelerator,
        tracker: Any,
        model: nn.Module,
        optimizer: Any,
        balancer: Balancer,
        parameters: Sequence[nn.Parameter],
        lambdas: Mapping[str, float],
        excluded: Collection[str],
        asleep: Collection[str],
        mean: Sequence[float],
        std: Sequence[float],
        watch: Watch | None,
        memory: MicroBatches,
        tell: Callable[[str], None],
        sharded: bool,
        features: FrozenFeatures | None = None,
    ) -> None:
        self.accelerator, self.tracker, self.model, self.optimizer = accelerator, tracker, model, optimizer
        self.balancer, self.parameters = balancer, list(parameters)
        self.lambdas, self.excluded, self.asleep = lambdas, frozenset(excluded), frozenset(asleep)
        self.mean, self.std = list(mean), list(std)
        self.watch, self.memory, self.tell, self.sharded = watch, memory, tell, sharded
        self.features = features
        self.statistics = BatchStatistics(tracker)

    def run(self, clips: Sequence[Clip], keep_rate: float | None) -> Passes:
        """Make the passes of a step; again, in smaller micro-batches, where memory doesn't hold them.

        Raises:
            TrainingError: a single clip is too much.
        """
        clips = [clip.to(self.accelerator.device) for clip in clips]
        tasks = [task for task in self.tracker.heads() if task not in self.asleep]
        self.statistics.remember()
        counts, chance = label_counts(tasks, clips), random_state()
        made = self._try(clips, Passes(counts, keep_rate, chance))
        while isinstance(made, OutOfMemory):
            self._undo(chance)
            self._shrink(clips, made)
            made = self._try(clips, Passes(counts, keep_rate, chance))
        return made

    def forward(self, clip: Clip, step: Passes) -> tuple[dict[str, TaskOutput], LossReport]:
        """Return the answers to a micro-batch of a step, and their losses."""
        heads = {task: head for task, head in self.tracker.heads().items() if task not in self.asleep}
        inputs = clip.normalised(self.mean, self.std)
        known = {} if self.features is None else self.features.known(clip, inputs, step.keep_rate)
        outputs = self.model(inputs, keep_rate=step.keep_rate, tasks=list(heads), **known)
        report = total_loss(
            heads,
            outputs,
            clip,
            self.lambdas,
            excluded=self.excluded,
            counts=step.counts,
            ranks=world_size(),
        )
        return outputs, report

    def _try(self, clips: Sequence[Clip], step: Passes) -> Passes | OutOfMemory:
        """Return the step's passes, or what stopped them; by then nothing refers to their tensors."""
        try:
            self._make(clips, step)
        except OutOfMemory as error:
            return OutOfMemory(error.texts)
        return step

    def _make(self, clips: Sequence[Clip], step: Passes) -> None:
        balancer, attempt = self.balancer, Attempt(self.accelerator.device)
        number = len(self.memory.split(clips))
        balancer.begin(step.counts, self.excluded, number, lambda: self._measure(clips, step))
        step.pieces = self.memory.split(clips)
        if self.watch is not None:
            attempt.run(self.watch.prepare, step.pieces[-1])
        for number, clip in enumerate(step.pieces):
            with self.accelerator.no_sync(self.model):
                made = attempt.run(self.forward, clip, step)
                if number == 0 and balancer.compares_losses:
                    attempt.agree()
                if made is not None:
                    step.outputs, report = made
                    step.reports.append(report)
                    balancer.take(report)
                    attempt.run(self._backward, report, clip, number == len(step.pieces) - 1)
        self._exchange(attempt)

    def _backward(self, report: LossReport, clip: Clip, last: bool) -> None:
        if self.watch is not None and last:
            self.watch.look(report, clip)
        self.balancer.backward(report)

    def _exchange(self, attempt: Attempt) -> None:
        """Average the gradients over the ranks, when all of them have theirs."""
        reached = attempt.agree([parameter.grad is not None for parameter in self.parameters])
        if self.balancer.separate:
            self.balancer.finish()
            return
        for parameter, anywhere in zip(self.parameters, reached, strict=True):
            if anywhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        average_gradients(unspread(self.parameters))

    @torch.no_grad()
    def _measure(self, clips: Sequence[Clip], step: Passes) -> list[LossReport]:
        """Return the losses of the step's batches, with the dropout of the step; it leaves no trace."""
        found = self._try_to_measure(clips, step)
        while isinstance(found, OutOfMemory):
            self._shrink(clips, found)
            found = self._try_to_measure(clips, step)
        return found

    def _try_to_measure(self, clips: Sequence[Clip], step: Passes) -> list[LossReport] | OutOfMemory:
        attempt = Attempt(self.accelerator.device)
        with chance_and_buffers_kept(self.tracker):
            restore_random_state(step.chance)
            made = [attempt.run(self.forward, clip, step) for clip in self.memory.split(clips)]
        try:
            attempt.agree()
        except OutOfMemory as error:
            return OutOfMemory(error.texts)
        return [found[1] for found in made if found is not None]

    # ---------------------------------------------------------------------------------------------- failure

    def _undo(self, chance: Mapping[str, Any]) -> None:
        """Undo what a step has done that ran out of memory."""
        self.optimizer.zero_grad(set_to_none=True)
        self.balancer.forget()
        self.statistics.restore()
        restore_random_state(chance)

    def _shrink(self, clips: Sequence[Clip], failed: OutOfMemory) -> None:
        """Make smaller micro-batches from now on."""
        if self.sharded:
            raise TrainingError(
                f"out of memory ({'; '.join(failed.texts)}); with TRAIN.FSDP a step can't be made again in "
                "smaller pieces: lower TRAIN.BATCH_SIZE and raise TRAIN.ACCUMULATION_STEPS by the same factor"
            )
        release(self.accelerator.device)
        self.tell(self.memory.halve(clips, failed.texts))
