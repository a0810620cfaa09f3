"""What the gradient switches change and save: each is turned on alone and compared with the plain one."""

from __future__ import annotations

import gc
import math
import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtltrack.core.types import Clip
from mtltrack.training.audit.model_stages import ModelStage, model_stages
from mtltrack.training.audit.readings import norm_of
from mtltrack.training.audit.report import Switch
from mtltrack.training.audit.state import (
    chance_and_buffers_kept,
    end_schedules,
    left_as_found,
    without_chance,
)
from mtltrack.training.audit.sums import dot
from mtltrack.training.stages import BACKBONE, freeze, freeze_batch_norm
from mtltrack.training.weighting import label_counts, total_loss

MIB = 2.0**20
Setting = Callable[[Any], AbstractContextManager[None]]  # tracker -> while the switch is on


@dataclass
class _Run:
    """One way to take the gradient: its values, the memory that it keeps and the time that it takes."""

    gradients: dict[str, Tensor]
    memory: float
    seconds: float


class KeptTensors:
    """Counts what the graph keeps for the backward pass, each storage once, without the parameters'.

    Args:
        model: whose parameters don't count.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self._kept: weakref.WeakSet[_Holder] = weakref.WeakSet()

    def hooks(self) -> AbstractContextManager[Any]:
        """Return the context under which the forward pass must run."""

        def pack(tensor: Tensor) -> _Holder:
            holder = _Holder(tensor)
            self._kept.add(holder)
            return holder

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda holder: holder.tensor)

    def mebibytes(self) -> float:
        """Return what is kept now."""
        sizes = {}
        for holder in self._kept:
            storage = holder.tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return sum(size for place, size in sizes.items() if place not in self._parameters) / MIB


class _Holder:
    """A kept tensor; gone as soon as the graph that keeps it is."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # its graph would keep itself alive


@dataclass
class SwitchMeter:
    """Measures the switches in the last stage of a trainer's training.

    Args:
        trainer: see `Trainer`; with a batch of at least two clips for accumulation.
        clip: with labels, as it comes from the loader.
        repeats: passes that are timed; their median counts.
    """

    trainer: Any
    clip: Clip
    repeats: int = 3
    _stages: list[ModelStage] = field(init=False)

    def measure(self) -> list[Switch]:
        """Return every switch that this model has, measured; the model is left as it was found."""
        tracker, settings = self.trainer.tracker, self.trainer.settings
        self._stages = model_stages(tracker)
        found = []
        with left_as_found(tracker), without_chance(tracker):
            current = self.trainer.enter(self.trainer.stages[-1])
            self._active = current.active
            end_schedules(tracker)
            try:
                plain = self._run()
                frozen = self._frozen_norms() if settings.batch_norm == "batch" else None
                for name, setting, batches, note in self._settings():
                    with setting(tracker):
                        found.append(self._compared(name, plain, self._run(batches), note))
                    if frozen is not None and name in EXACT_WITH_FROZEN_NORMS:
                        with freeze_norms(tracker), setting(tracker):
                            exact = self._run(batches)
                        found.append(self._compared(f"{name}, batch norms frozen", frozen, exact, ROUNDING))
            finally:
                self.trainer.leave(current)
        return found

    def _settings(self) -> Iterator[tuple[str, Setting, int, str]]:
        tracker = self.trainer.tracker
        yield CHECKPOINTING, checkpointing, 1, ROUNDING
        yield "bfloat16", half_precision, 1, "8 bits of mantissa; losses in float32"
        if self.clip.batch_size > 1:
            yield ACCUMULATION, lambda _: nullcontext(), 2, "batch norms see half a batch"
        if getattr(tracker, "history", None) is not None and self.clip.num_frames > 1:
            for steps in range(min(2, self.clip.num_frames - 1)):
                text = f"history's gradient back over {steps} frame(s)"
                yield text, history_steps(steps), 1, "earlier frames are read without gradient"
        if BACKBONE in self._active.trains:
            yield "backbone frozen", frozen_backbone, 1, "the other parts' gradient is what it was"

    def _frozen_norms(self) -> _Run:
        with freeze_norms(self.trainer.tracker):
            return self._run()

    def _run(self, batches: int = 1) -> _Run:
        """Take the gradient of the total, in `batches` micro-batches; time it, and count memory."""
        times = []
        for _ in range(self.repeats):
            began = self._clock()
            self._gradient(batches, None)
            times.append(self._clock() - began)
        kept = KeptTensors(self.trainer.tracker)
        memory = self._gradient(batches, kept)
        gradients = {
            name: p.grad.detach().float().clone()
            for name, p in self.trainer.tracker.named_parameters()
            if p.grad is not None
        }
        self.trainer.tracker.zero_grad(set_to_none=True)
        return _Run(gradients, memory, statistics.median(times))

    def _clock(self) -> float:
        """Return seconds: of the processor where it computes, which a busy machine doesn't lengthen."""
        device = self.trainer.accelerator.device
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()

    def _gradient(self, batches: int, kept: KeptTensors | None) -> float:
        """Fill the parameters' gradients and return the MiB that were kept at most after a forward pass."""
        tracker = self.trainer.tracker
        tracker.zero_grad(set_to_none=True)
        with chance_and_buffers_kept(tracker):
            return self._passes(batches, kept)

    def _passes(self, batches: int, kept: KeptTensors | None) -> float:
        tracker, settings = self.trainer.tracker, self.trainer.settings
        rows = torch.arange(self.clip.batch_size).tensor_split(batches)
        clip = self.clip.to(self.trainer.accelerator.device)
        clips = [clip.rows(some.tolist()) for some in rows]
        heads = tracker.heads()
        counts = label_counts(list(heads), clips, all_ranks=False)
        most = 0.0
        torch.manual_seed(0)
        for part in clips:
            with kept.hooks() if kept is not None else nullcontext():
                outputs = tracker(part.normalised(list(settings.mean), list(settings.std)))
                report = total_loss(
                    heads,
                    outputs,
                    part,
                    settings.lambdas,
                    excluded=set(heads) - self._active.losses,
                    counts=counts,
                    ranks=1,
                )
            del outputs
            total = report.total
            del report
            if kept is not None:
                gc.collect()
                most = max(most, kept.mebibytes())
            total.backward()
        return most

    def _compared(self, name: str, plain: _Run, run: _Run, note: str) -> Switch:
        differences, both, lost = [], set[str](), 0
        for stage in self._stages:
            names = [key for key in stage.parameters if key in plain.gradients]
            before = norm_of(plain.gradients[key] for key in names)
            after = norm_of(run.gradients[key] for key in names if key in run.gradients)
            if before > 0 and after == 0:
                lost += 1
            if before > 0 and after > 0:
                both.update(names)
                change = [run.gradients.get(key, 0.0) - plain.gradients[key] for key in names]
                differences.append(norm_of(change) / before)
        one = {key: plain.gradients[key] for key in both}
        other = {key: run.gradients[key] for key in both if key in run.gradients}
        sizes = norm_of(one.values()) * norm_of(other.values())
        return Switch(
            name=name,
            difference=max(differences, default=math.nan),
            cosine=dot(one, other) / sizes if sizes > 0 else math.nan,
            lost=lost,
            memory=run.memory,
            plain_memory=plain.memory,
            seconds=run.seconds,
            plain_seconds=plain.seconds,
            note=note,
        )


CHECKPOINTING, ACCUMULATION = "activation checkpointing", "two micro-batches"
EXACT_WITH_FROZEN_NORMS = (CHECKPOINTING, ACCUMULATION)
ROUNDING = "equal to rounding"


@contextmanager
def checkpointing(tracker: Any) -> Iterator[None]:
    """Switch activation checkpointing on (TRAIN.CHECKPOINT_ACTIVATIONS)."""
    tracker.checkpoint_activations(True)
    try:
        yield
    finally:
        tracker.checkpoint_activations(False)


def half_precision(tracker: Any) -> AbstractContextManager[None]:
    """Run in bfloat16 (TRAIN.PRECISION)."""
    device = next(tracker.parameters()).device.type
    return torch.autocast(device, torch.bfloat16)


def history_steps(steps: int) -> Setting:
    """Return what cuts the gradient through the history (TRAIN.HISTORY_STEPS)."""

    @contextmanager
    def cut(tracker: Any) -> Iterator[None]:
        before, tracker.history_steps = tracker.history_steps, steps
        try:
            yield
        finally:
            tracker.history_steps = before

    return cut


@contextmanager
def frozen_backbone(tracker: Any) -> Iterator[None]:
    """Freeze the backbone as training does."""
    with left_as_found(tracker):
        freeze(tracker.backbone)
        yield


@contextmanager
def freeze_norms(tracker: Any) -> Iterator[None]:
    """Hold the batch norms' statistics (TRAIN.BN: frozen)."""
    with left_as_found(tracker):
        freeze_batch_norm(tracker)
        yield
