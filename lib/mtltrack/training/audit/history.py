"""How far the gradient goes back through the frames of a clip, over the history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtltrack.core.types import BOX, Clip
from mtltrack.training.audit.objective import frame_means
from mtltrack.training.audit.readings import norm_of
from mtltrack.training.audit.report import Finding
from mtltrack.training.weighting import term_values, valid_labels


@contextmanager
def _features_as_leaves(tracker: Any) -> Iterator[list[Tensor]]:
    """Cut the graph behind the backbone, so that a gradient is there whether the backbone trains or not."""
    leaves: list[Tensor] = []
    encode = tracker.encode

    def cut(*args: Any, **kwargs: Any) -> Any:
        tokens = encode(*args, **kwargs)
        leaves.append(tokens.search.detach().requires_grad_())
        return replace(tokens, search=leaves[-1])

    tracker.__dict__["encode"] = cut  # in the instance, before the class's
    try:
        yield leaves
    finally:
        del tracker.__dict__["encode"]


def history_reach(tracker: Any, clip: Clip, labels: Clip) -> list[list[float]] | None:
    """Return the norm of the gradient of the box loss at frame t (row) on the features of frame s (column).

    None for a tracker without a history, a clip of one frame, or one without boxes.

    Args:
        tracker: the model.
        clip: normalised.
        labels: the clip with its labels.
    """
    if getattr(tracker, "history", None) is None or clip.num_frames < 2:
        return None
    with _features_as_leaves(tracker) as leaves:
        outputs = tracker(clip, tasks=[])
    head, valid = tracker.heads()[BOX], valid_labels(labels, BOX)
    if valid is None or not bool(valid.any(0).all()):
        return None
    losses = torch.zeros(clip.num_frames, device=clip.search.device)
    for name, values in term_values(BOX, head, outputs[BOX], labels).items():
        losses = losses + head.term_weights[name] * frame_means(values, valid)
    reach = []
    for loss in losses:
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
        frames = torch.zeros_like(leaves[0]) if gradient is None else gradient
        reach.append([norm_of([frames[:, s]]) for s in range(clip.num_frames)])
    return reach


def check_history(reach: list[list[float]], steps: int | None) -> Iterator[Finding]:
    """Check that each frame's loss reaches itself and the frames that its memory may, and no later one.

    Args:
        reach: from `history_reach`.
        steps: frames that the gradient goes back (TRAIN.HISTORY_STEPS), None for all.
    """
    for t, row in enumerate(reach):
        for s, norm in enumerate(row):
            due = s == t or (s < t and (steps is None or t - s <= steps))
            where = f"box loss of frame {t + 1} -> features of frame {s + 1}"
            if due and not norm > 0:
                way = "its own features" if s == t else "the memory, which holds that frame"
                yield Finding("history", where, f"a gradient is due through {way}, and none arrives")
            elif not due and norm > 0:
                why = "that frame comes later" if s > t else f"TRAIN.HISTORY_STEPS is {steps}"
                yield Finding("history", where, f"a gradient arrives where none may: {why}")
