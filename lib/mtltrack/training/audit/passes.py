"""Forward passes of the model as training makes them, with chance taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtltrack.core.types import Clip, TaskOutput
from mtltrack.training.audit.inputs import Edge, HeadCall, used_edges, watched_inputs
from mtltrack.training.audit.objective import Term, head_terms, reduced_terms

Losses = dict[Term, Tensor]


@dataclass
class Pass:
    """One forward pass: the losses that count, how the heads were called, what they answered."""

    losses: Losses
    calls: dict[str, HeadCall]
    outputs: dict[str, TaskOutput]


class Passes:
    """Runs a trainer's model on one batch, always from the same random seed.

    Args:
        trainer: see `Trainer`.
        current: what `trainer.enter` returned.
        clip: with labels, as it comes from the loader.
        seed: of what is still drawn at random.
    """

    def __init__(self, trainer: Any, current: Any, clip: Clip, seed: int) -> None:
        self.trainer, self.current, self.seed = trainer, current, seed
        self.clip = clip.to(trainer.accelerator.device)

    def normalised(self) -> Clip:
        """Return the batch as the model gets it."""
        settings = self.trainer.settings
        return self.clip.normalised(list(settings.mean), list(settings.std))

    def run(self, clip: Clip | None = None) -> Pass:
        """Run the model.

        Args:
            clip: normalised, with other images; None for the batch itself.
        """
        torch.manual_seed(self.seed)
        tracker = self.trainer.tracker
        with watched_inputs(tracker.task_parts()) as calls:
            outputs = self.current.model(clip or self.normalised(), keep_rate=None)
        losses = reduced_terms(tracker.heads(), outputs, self.clip, self.current.active.losses)
        return Pass(losses, calls, outputs)

    def uses(self, seen: Pass) -> dict[str, dict[str, set[Edge]]]:
        """Return task -> term -> what the term depends on, for every head that was called and has labels."""
        heads, labelled = self.trainer.tracker.heads(), {term.task for term in seen.losses}
        with self.trainer.accelerator.autocast():
            return {
                task: used_edges(call, head_terms(task, heads[task], self.clip))
                for task, call in seen.calls.items()
                if task in labelled
            }
