"""The frame loop against its plain form: single frames, the whole way of an image, the heads' share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from plain.forms import plain_forms
from plain.memory import PlainMemory

from mtltrack.core.config import Config
from mtltrack.core.kernels import DEFAULT, KernelChoice
from mtltrack.core.types import Clip
from mtltrack.evaluation.arithmetic import Arithmetic
from mtltrack.evaluation.costs import filled_memory, frame_indices, measure_frame, noise_clip
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.models.layers.memory import PromptMemory
from mtltrack.models.tracker import EARLY_WRITES, TEMPLATE_FRAMES, Tracker
from speed.rounds import Comparison, Form, Quartiles, Timer

FRAME_SIZE = (720, 1280)
FIRST_BOX = [600.0, 300.0, 80.0, 60.0]


@dataclass
class HeadCost:
    """What the task heads add to a frame.

    Attributes:
        tasks: the heads.
        alone: seconds of the tracker alone, one a round.
        together: seconds with the heads, in the same rounds.
    """

    tasks: list[str]
    alone: list[float]
    together: list[float]

    @property
    def extra(self) -> Quartiles:
        """What a frame takes longer with the heads, in percent."""
        pairs = zip(self.alone, self.together, strict=True)
        return Quartiles.of([100 * (together / alone - 1) for alone, together in pairs])


class FrameBench:
    """Measures frames of one tracker.

    Args:
        net: with any weights; put into evaluation mode, without gradients.
        cfg: its configuration, TEST.PRECISION among it; the plain form is float32.
        timer: makes the comparisons.
    """

    def __init__(self, net: Tracker, cfg: Config, timer: Timer) -> None:
        self.device, self.cfg, self.timer = timer.device, cfg, timer
        self.net = net.to(self.device).eval().requires_grad_(False)
        self.arithmetic = Arithmetic.of(cfg, self.device)
        self.arithmetic.prepare(self.net)
        detail = None
        if any(getattr(head, "needs_detail", False) for head in net.task_parts().values()):
            detail = None if cfg.DATA.DETAIL is None else cfg.DATA.DETAIL.SIZE
        self.clip = noise_clip(1, cfg.TEST.TEMPLATE_SIZE, cfg.TEST.SEARCH_SIZE, self.device, detail)

    def run(self, entries: Sequence[int]) -> list[Comparison]:
        """Compare frames at these numbers of memory entries, one that is written, and the whole way."""
        reading, writing = frame_indices(self.net)
        found = []
        if self.net.history is None:
            found.append(self.frame("frame", TEMPLATE_FRAMES + 1, 0))
        elif reading is not None:
            found += [self.frame(f"frame, {count} in memory", reading, count) for count in entries]
        if writing is not None:
            found.append(self.frame(f"frame, {entries[0]} in memory, written", writing, entries[0]))
        return [*found, self.whole()]

    def frame(self, name: str, index: int, entries: int) -> Comparison:
        """Compare one frame of the tracker without task heads, cropping and decoding."""
        with torch.inference_mode():
            cost = measure_frame(self.net, self.clip, index=index, entries=entries, tasks=[])
        with self.arithmetic.applied():
            own = filled_memory(self.net, self.clip, entries) if entries else None
        with self._plain():
            other = plain_filled(self.net, self.clip, entries) if entries else None
        step = partial(_track, self.net, self.clip, index)
        return self.timer.compare(
            name,
            Form(partial(step, own), self.arithmetic.applied),
            Form(partial(step, other), self._plain),
            operations=sum(cost.operations.values()),
        )

    def whole(self) -> Comparison:
        """Compare `OnlineTracker.track`, from an image of 1280 x 720 to the box, without task heads.

        The first frames, which read the template, aren't timed; the memory fills as it does in use.
        """
        image = np.random.default_rng(0).integers(0, 256, (*FRAME_SIZE, 3), dtype=np.uint8)
        own, other = (OnlineTracker(self.net, self.cfg, self.device, tasks=[]) for _ in range(2))
        plain = KernelChoice(DEFAULT, "the plain form's")
        other.arithmetic = replace(other.arithmetic, lowered=None, kernel=plain)
        own.initialize(image, FIRST_BOX)
        with plain_forms(self.net):  # its memory is a list
            other.initialize(image, FIRST_BOX)
        return self.timer.compare(
            "track(), from image to box",
            Form(lambda: own.track(image)),
            Form(lambda: other.track(image), lambda: plain_forms(self.net)),
            warm_up=TEMPLATE_FRAMES + 1,
        )

    def heads(self) -> HeadCost | None:
        """Compare frames with all task heads against the tracker alone; None where it has no task head."""
        tasks = list(self.net.task_parts())
        if not tasks:
            return None
        index = frame_indices(self.net)[0] or TEMPLATE_FRAMES + 1
        with self.arithmetic.applied():
            memory = filled_memory(self.net, self.clip, 1)
        step = partial(_track, self.net, self.clip, index, memory)
        found = self.timer.compare(
            f"with {len(tasks)} heads",
            Form(step, self.arithmetic.applied),
            Form(partial(step, tasks=tasks), self.arithmetic.applied),
        )
        return HeadCost(tasks, found.ours, found.plain)

    @contextmanager
    def _plain(self) -> Iterator[None]:
        with torch.inference_mode(), plain_forms(self.net):
            yield


def plain_filled(net: Tracker, clip: Clip, entries: int) -> PlainMemory:
    """Return a plain memory with so many entries, each with numbers of its own in memory."""
    memory = PlainMemory(entries)
    net.track(clip, EARLY_WRITES[0], memory, [])
    keys, values = memory.last()
    while memory.count < entries:
        memory.write(keys.clone(), values.clone())
    return memory


def _track(
    net: Tracker,
    clip: Clip,
    index: int,
    memory: PromptMemory | PlainMemory | None,
    tasks: Sequence[str] = (),
) -> object:
    return net.track(clip, index, memory, list(tasks))
