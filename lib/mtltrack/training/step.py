"""One optimizer step: forward, loss, backward, clipping, and the refusal of steps that are not finite."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mtltrack.core.errors import TrainingError
from mtltrack.core.types import Clip, TaskOutput
from mtltrack.training.audit.state import chance_and_buffers_kept
from mtltrack.training.balancing.balancer import Balancer, in_order
from mtltrack.training.balancing.rule import BalancingRule, Fixed
from mtltrack.training.frozen_features import FrozenFeatures
from mtltrack.training.memory import Attempt, MicroBatches
from mtltrack.training.passes import Passes, PassMaker, Watch
from mtltrack.training.randomness import restore_random_state
from mtltrack.training.refusals import bad_gradients, culprits, describe, gradient_culprits
from mtltrack.training.sharding import limit_norm, total_norm
from mtltrack.training.signals import StopSignals
from mtltrack.training.texts import listed
from mtltrack.training.weighting import LossReport, world_size


@dataclass
class StepResult:
    """What a step measured; everything stays on the device.

    Attributes:
        scalars: "total", "<task>", "<task>/<term>", summed over the micro-batches.
        measured: 1 for a task that had a label in this step, 0 for one that had none.
        grad_norm: norm of all gradients before clipping.
        outputs: the heads' answers to the last micro-batch.
        clip: that micro-batch.
        weights: what the balancing rule did: the factor on each task, "<task>", and what its own limit made
            of its gradient, "<task>/clip"; empty with fixed weights.
        refused: why the step was not made, or None.
        stop: the signal that asked any rank to leave, 0 for none; the same on every rank.
    """

    scalars: dict[str, Tensor]
    measured: dict[str, Tensor]
    grad_norm: Tensor
    outputs: dict[str, TaskOutput]
    clip: Clip
    weights: dict[str, Tensor] = field(default_factory=dict)
    refused: str | None = None
    stop: int = 0


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
        max_bad_steps: refused steps in a row at which training stops.
        memory, tell, sharded, features: see `PassMaker`.
        stop: remembers the signals that ask this process to leave.

    Attributes:
        refusals: steps in a row, up to now, that were refused.
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
        max_bad_steps: int = 10,
        memory: MicroBatches | None = None,
        tell: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005 - nobody listens
        sharded: bool = False,
        features: FrozenFeatures | None = None,
        stop: StopSignals | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.tracker = tracker
        self.optimizer = optimizer
        self.max_norm = grad_clip_norm
        self.max_bad_steps = max_bad_steps
        self.refusals = 0
        self.stop = stop or StopSignals()
        self.parameters = [parameter for parameter in tracker.parameters() if parameter.requires_grad]
        self.balancer = Balancer(
            accelerator,
            tracker.heads(),
            self.parameters,
            rule or Fixed(in_order(set(tracker.heads()) - set(excluded))),
            lambdas,
            task_clip_norms or {},
        )
        self.passes = PassMaker(
            accelerator=accelerator,
            tracker=tracker,
            model=model,
            optimizer=optimizer,
            balancer=self.balancer,
            parameters=self.parameters,
            lambdas=lambdas,
            excluded=excluded,
            asleep=asleep,
            mean=mean,
            std=std,
            watch=watch,
            memory=memory or MicroBatches(),
            tell=tell,
            sharded=sharded,
            features=features,
        )

    def run(self, clips: Sequence[Clip], keep_rate: float | None) -> StepResult:
        """Make one step from the batches `clips`.

        The loss is that of one big batch: labelled samples are counted over all batches and ranks. A batch
        that doesn't fit into memory is made in smaller pieces from then on, on every rank alike.

        Raises:
            TrainingError: too many steps in a row were not finite, or a single clip is too much for the
                memory.
        """
        passes = self.passes.run(clips, keep_rate)
        result = StepResult(
            scalars=_summed(passes.reports),
            measured={task: (count.sum() > 0).float() for task, count in passes.counts.items()},
            grad_norm=self._grad_norm(),
            outputs=passes.outputs,
            clip=passes.pieces[-1],
            weights=self.balancer.weights(self.accelerator.device),
        )
        finite, result.stop = self._decide(result)
        if finite:
            if self.max_norm > 0:
                self._limit(result.grad_norm)
            self.balancer.before_update()
            self.optimizer.step()
            self.balancer.after_update()
            self.refusals = 0
        else:
            result.refused = self._refuse(passes)
        self.optimizer.zero_grad(set_to_none=True)
        return result

    def _grad_norm(self) -> Tensor:
        """Return the norm of all gradients, unscaled; they are clipped when it is known to be finite.

        Clipping at once, as accelerate's `clip_grad_norm_` does, would spread one infinite gradient over all
        of them, and the parameter that it came from could no longer be named.
        """
        self.accelerator.unscale_gradients()
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        device = self.accelerator.device
        if self.passes.sharded:
            return total_norm(gradients, device)
        return torch.as_tensor(get_total_norm(gradients), device=device).detach()

    def _limit(self, norm: Tensor) -> None:
        """Scale the gradients, which have that norm, down to the largest allowed."""
        if self.passes.sharded:
            limit_norm([item.grad for item in self.parameters if item.grad is not None], self.max_norm, norm)
        else:
            clip_grads_with_norm_(self.parameters, self.max_norm, norm)

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

    def _refuse(self, passes: Passes) -> str:
        """Leave the weights as they are, name the culprits and give up after too many refusals in a row."""
        self.refusals += 1
        why = self._reason(passes)
        self.passes.statistics.restore()
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()  # it has seen the gradients when they were unscaled
            why += f"; the scale of the gradients is now {self.accelerator.scaler.get_scale():g}"
        if self.refusals >= self.max_bad_steps:
            raise TrainingError(
                f"{self.refusals} steps in a row were not finite; the last: {why}. Lower the learning rate "
                "(TRAIN.LR, STAGE1_LR, STAGE2_LR, BOX_LR), set TRAIN.GRAD_CLIP_NORM, or look at these "
                "samples (TRAIN.MAX_BAD_STEPS is how many such steps are borne)"
            )
        return why

    def _reason(self, passes: Passes) -> str:
        """Name what wasn't finite, of all ranks: they all refuse the step together."""
        named = [
            text
            for report, clip in zip(passes.reports, passes.pieces, strict=True)
            for text in culprits(report, clip)
        ]
        named = gather_object(named)
        if named:
            return f"loss not finite: {listed(named, '; ', most=5)}"
        gradients = list(dict.fromkeys(gather_object(bad_gradients(self.tracker))))
        why = f"gradient not finite at {listed(gradients, most=5)}"
        named = gather_object(self._at_fault(passes))
        if named:
            return f"{why}: {listed(named, '; ', most=5)}"
        samples = gather_object([describe(source) for clip in passes.pieces for source in clip.sources])
        return f"{why}; samples: {listed(samples, most=20)}"

    def _at_fault(self, passes: Passes) -> list[str]:
        """Return whose gradient isn't finite on this rank; nothing where that can't be told.

        Of scaled gradients it is the scale that is at fault as a rule.
        """
        if self.accelerator.scaler is not None or self.passes.sharded:
            return []
        attempt = Attempt(self.accelerator.device)
        with chance_and_buffers_kept(self.tracker):
            restore_random_state(passes.chance)
            forward = partial(self.passes.forward, step=passes)
            return attempt.run(gradient_culprits, forward, passes.pieces, self.parameters) or []


def _summed(reports: Sequence[LossReport]) -> dict[str, Tensor]:
    first, *others = [report.scalars() for report in reports]
    for other in others:
        first = {name: value + other[name] for name, value in first.items()}
    return first
