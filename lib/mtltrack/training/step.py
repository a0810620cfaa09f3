"""One optimizer step: forward, loss, backward, clipping, and the refusal of steps that are not finite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mtltrack.core.errors import TrainingError
from mtltrack.core.types import Clip, TaskOutput
from mtltrack.training.audit.state import chance_and_buffers_kept
from mtltrack.training.balancing.balancer import Balancer, in_order
from mtltrack.training.balancing.rule import BalancingRule, Fixed
from mtltrack.training.randomness import random_state, restore_random_state
from mtltrack.training.signals import StopSignals
from mtltrack.training.texts import listed
from mtltrack.training.weighting import Counts, LossReport, label_counts, total_loss, world_size

MOST_REFUSALS = 10


@dataclass
class StepResult:
    """What a step measured; everything stays on the device.

    Attributes:
        scalars: "total", "<task>", "<task>/<term>", summed over the micro-batches.
        measured: 1 for a task that had a label in this step, 0 for one that had none.
        grad_norm: norm of all gradients before clipping.
        outputs: the heads' answers to the last micro-batch.
        weights: what the balancing rule did: the factor on each task, "<task>", and what its own limit made
            of its gradient, "<task>/clip"; empty with fixed weights.
        refused: why the step was not made, or None.
        stop: the signal that asked any rank to leave, 0 for none; the same on every rank.
    """

    scalars: dict[str, Tensor]
    measured: dict[str, Tensor]
    grad_norm: Tensor
    outputs: dict[str, TaskOutput]
    weights: dict[str, Tensor] = field(default_factory=dict)
    refused: str | None = None
    stop: int = 0


class Watch(Protocol):
    """Looks at a step while it is made, and changes nothing."""

    def prepare(self, clip: Clip) -> None:
        """The step begins; `clip` is its last micro-batch."""

    def look(self, report: LossReport, clip: Clip) -> None:
        """The losses of the last micro-batch are there, with their graphs; their backward pass comes next."""


class StepRunner:
    """Makes the steps of one stage.

    Args:
        accelerator: device, precision, clipping, gradient synchronisation.
        tracker: the model without wrapper.
        model: the model as accelerate prepared it.
        optimizer: as accelerate prepared it.
        lambdas: weight of each task.
        excluded: tasks whose losses are measured only.
        asleep: tasks whose heads aren't even run, because they haven't begun to learn.
        mean: DATA.MEAN.
        std: DATA.STD.
        grad_clip_norm: largest norm of all gradients together; 0 leaves them as they are.
        watch: who looks at the gradients of single tasks, or None.
        rule: how the tasks are balanced; None for fixed weights.
        task_clip_norms: largest norm of single tasks' gradients, see `Balancer`.
        stop: remembers the signals that ask this process to leave.
    """

    def __init__(
        self,
        *,
        accelerator: Accelerator,
        tracker: Any,
        model: nn.Module,
        optimizer: Any,
        lambdas: Mapping[str, float],
        excluded: Collection[str],
        mean: Sequence[float],
        std: Sequence[float],
        grad_clip_norm: float,
        asleep: Collection[str] = (),
        watch: Watch | None = None,
        rule: BalancingRule | None = None,
        task_clip_norms: Mapping[str, float] | None = None,
        stop: StopSignals | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.tracker = tracker
        self.model = model
        self.optimizer = optimizer
        self.lambdas = lambdas
        self.excluded = frozenset(excluded)
        self.asleep = frozenset(asleep)
        self.mean, self.std = list(mean), list(std)
        self.max_norm = grad_clip_norm
        self.watch = watch
        self.stop = stop or StopSignals()
        self.parameters = [parameter for parameter in tracker.parameters() if parameter.requires_grad]
        self.balancer = Balancer(
            accelerator,
            tracker.heads(),
            self.parameters,
            rule or Fixed(in_order(set(tracker.heads()) - self.excluded)),
            lambdas,
            task_clip_norms or {},
        )
        self._statistics = BatchStatistics(tracker)
        self._refusals = 0

    def run(self, clips: Sequence[Clip], keep_rate: float | None) -> StepResult:
        """Make one step from the micro-batches `clips`.

        The loss is that of one big batch: labelled samples are counted over all micro-batches and ranks.

        Raises:
            TrainingError: ten steps in a row were not finite.
        """
        clips = [clip.to(self.accelerator.device) for clip in clips]
        heads = {task: head for task, head in self.tracker.heads().items() if task not in self.asleep}
        counts, balancer = label_counts(list(heads), clips), self.balancer
        self._statistics.remember()
        if self.watch is not None:
            self.watch.prepare(clips[-1])
        chance = random_state() if balancer.rule.remeasures else {}
        balancer.begin(
            counts, self.excluded, len(clips), lambda: self._measure(clips, counts, keep_rate, chance)
        )
        reports: list[LossReport] = []
        outputs: dict[str, TaskOutput] = {}
        for number, clip in enumerate(clips):
            last = number == len(clips) - 1
            averaged = last and not balancer.separate  # DDP averages the gradients of this backward pass
            with nullcontext() if averaged else self.accelerator.no_sync(self.model):
                outputs = self.model(
                    clip.normalised(self.mean, self.std), keep_rate=keep_rate, tasks=list(heads)
                )
                report = self._losses(outputs, clip, counts)
                if self.watch is not None and last:
                    self.watch.look(report, clip)
                balancer.backward(report)
            reports.append(report)
        balancer.finish()
        result = StepResult(
            scalars=_summed(reports),
            measured={task: (count.sum() > 0).float() for task, count in counts.items()},
            grad_norm=self._grad_norm(),
            outputs=outputs,
            weights=balancer.weights(self.accelerator.device),
        )
        finite, result.stop = self._decide(result)
        if finite:
            if self.max_norm > 0:
                clip_grads_with_norm_(self.parameters, self.max_norm, result.grad_norm)
            balancer.before_update()
            self.optimizer.step()
            balancer.after_update()
            self._refusals = 0
        else:
            result.refused = self._refuse(reports, clips)
        self.optimizer.zero_grad(set_to_none=True)
        return result

    def _losses(self, outputs: Mapping[str, TaskOutput], clip: Clip, counts: Counts) -> LossReport:
        heads = {task: head for task, head in self.tracker.heads().items() if task not in self.asleep}
        return total_loss(
            heads, outputs, clip, self.lambdas, excluded=self.excluded, counts=counts, ranks=world_size()
        )

    @torch.no_grad()
    def _measure(
        self, clips: Sequence[Clip], counts: Counts, keep_rate: float | None, chance: Mapping[str, Any]
    ) -> list[LossReport]:
        """Return the losses of the step's micro-batches, with the dropout of the step; it leaves no trace."""
        reports = []
        with chance_and_buffers_kept(self.tracker):
            restore_random_state(chance)
            for clip in clips:
                outputs = self.tracker(
                    clip.normalised(self.mean, self.std), keep_rate=keep_rate, tasks=list(counts)
                )
                reports.append(self._losses(outputs, clip, counts))
        return reports

    def _grad_norm(self) -> Tensor:
        """Return the norm of all gradients, unscaled; they are clipped when it is known to be finite.

        Clipping at once, as accelerate's `clip_grad_norm_` does, would spread one infinite gradient over all
        of them, and the parameter that it came from could no longer be named.
        """
        self.accelerator.unscale_gradients()
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        return torch.as_tensor(get_total_norm(gradients), device=self.accelerator.device).detach()

    def _decide(self, result: StepResult) -> tuple[bool, int]:
        """Tell, the same on every rank, whether the step may be made, and by which signal to leave after it.

        A step's one wait for the device and for the other ranks. A gradient scaler would skip the same steps,
        but in silence and without end, and batch statistics would keep their trace; so they are refused here,
        which lowers its scale as well.
        """
        finite = torch.isfinite(result.scalars["total"]) & torch.isfinite(result.grad_norm)
        if world_size() == 1:
            return bool(finite.item()), self.stop.number
        flags = torch.stack([finite.float(), finite.new_tensor(-self.stop.number, dtype=torch.float32)])
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MIN)
        agreed, number = flags.tolist()
        return bool(agreed), -int(number)

    def _refuse(self, reports: Sequence[LossReport], clips: Sequence[Clip]) -> str:
        """Leave the weights as they are, name the culprits and give up after too many refusals in a row."""
        self._refusals += 1
        why = self._reason(reports, clips)
        self._statistics.restore()
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()  # it has seen the gradients when they were unscaled
            why += f"; the scale of the gradients is now {self.accelerator.scaler.get_scale():g}"
        if self._refusals >= MOST_REFUSALS:
            raise TrainingError(
                f"{self._refusals} steps in a row were not finite; the last: {why}. Lower the learning rate "
                "(TRAIN.LR, STAGE1_LR, STAGE2_LR, BOX_LR), set TRAIN.GRAD_CLIP_NORM, or look at these samples"
            )
        return why

    def _reason(self, reports: Sequence[LossReport], clips: Sequence[Clip]) -> str:
        """Name what wasn't finite, of all ranks: they all refuse the step together."""
        named = [text for report, clip in zip(reports, clips, strict=True) for text in culprits(report, clip)]
        named = gather_object(named)
        if named:
            return f"loss not finite: {listed(named, '; ', most=5)}"
        samples = gather_object([describe(source) for clip in clips for source in clip.sources])
        gradients = [
            name
            for name, parameter in self.tracker.named_parameters()
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
        ]
        return f"gradient not finite at {listed(gradients, most=5)}; samples: {listed(samples, most=20)}"


def culprits(report: LossReport, clip: Clip) -> list[str]:
    """Return one text a loss term and sample that isn't finite: the task, the term and what the sample is."""
    found = []
    for name, values in report.per_sample.items():
        bad = (~torch.isfinite(values)).any(dim=1)  # (B,)
        for row in bad.nonzero().flatten().tolist():
            source = describe(clip.sources[row]) if row < len(clip.sources) else f"sample {row} of the batch"
            found.append(f"task {name.replace('/', ' (', 1)}) at {source}")
    return found


def describe(source: Mapping[str, Any]) -> str:
    """Return a sample's origin as a person would name it: data set, sequence, frames."""
    parts = [str(source[key]) for key in ("dataset", "sequence") if source.get(key) is not None]
    frames = [f"{key.replace('_', ' ')} {source[key]}" for key in source if "frame" in str(key)]
    return " ".join([" / ".join(parts), *frames]).strip() or str(dict(source))


def _summed(reports: Sequence[LossReport]) -> dict[str, Tensor]:
    first, *others = [report.scalars() for report in reports]
    for other in others:
        first = {name: value + other[name] for name, value in first.items()}
    return first


class BatchStatistics:
    """Remembers the statistics of the BatchNorms that train, so that a refused step leaves no trace."""

    def __init__(self, model: nn.Module) -> None:
        modules = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
        self._live = [buffer for module in modules for buffer in module.buffers()]
        self._saved = [buffer.clone() for buffer in self._live]

    def remember(self) -> None:
        for saved, live in zip(self._saved, self._live, strict=True):
            saved.copy_(live)

    def restore(self) -> None:
        for saved, live in zip(self._saved, self._live, strict=True):
            live.copy_(saved)
