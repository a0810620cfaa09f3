"""Sequences on their way through a tracker, one after the other or several at once."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError, MtltrackError
from mtltrack.data.images import decode_image
from mtltrack.evaluation.benchmarks.sequence import Sequence
from mtltrack.evaluation.benchmarks.stored import Frame

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


class EvaluationError(MtltrackError, RuntimeError):
    """Sequences couldn't be run."""


class FrameTracker(Protocol):
    """What the runner needs of a tracker; `mtltrack.evaluation.online.OnlineTracker` is one."""

    def initialize(
        self,
        rgb: Image,
        box_xywh: list[float],
        *,
        timestamp: float | None = None,
        zones: Mapping[str, Array] | None = None,
    ) -> Any:
        """Start on a frame (H, W, 3) uint8 RGB with the target's box x, y, w, h in pixels.

        The frame's time in seconds and the video's zones, name -> (V, 2) polygon in pixels, come where they
        are known.
        """

    def track(self, rgb: Image, *, timestamp: float | None = None) -> dict[str, Any]:
        """Answer {"target_bbox": [x, y, w, h], "score": float, "tasks": {name: {...}}} for the next frame."""


class BatchTracker(Protocol):
    """What following several sequences at once takes; `OnlineTracker` is one of these, too."""

    def start(
        self,
        rgb: Image,
        box_xywh: list[float],
        timestamp: float | None = None,
        zones: Mapping[str, Array] | None = None,
    ) -> Any:
        """Return a target that starts on a frame, see `FrameTracker.initialize`."""

    def track_together(
        self, targets: Items[Any], images: Items[Image], timestamps: Items[float | None]
    ) -> Items[dict[str, Any] | Exception]:
        """Answer for each target as `FrameTracker.track` does, or with the error that it would raise."""


class OneAtATime:
    """A `BatchTracker` of one target, made of any `FrameTracker`."""

    def __init__(self, tracker: FrameTracker) -> None:
        self._tracker = tracker

    def start(
        self,
        rgb: Image,
        box_xywh: list[float],
        timestamp: float | None = None,
        zones: Mapping[str, Array] | None = None,
    ) -> None:
        """Start the tracker, which forgets the target before."""
        self._tracker.initialize(rgb, box_xywh, timestamp=timestamp, zones=zones)

    def track_together(
        self, targets: Items[Any], images: Items[Image], timestamps: Items[float | None]
    ) -> list[dict[str, Any] | Exception]:
        """Track the one target; what goes wrong is raised."""
        assert len(targets) == 1
        return [self._tracker.track(images[0], timestamp=timestamps[0])]


@dataclass
class Tracked:
    """One sequence's results.

    Attributes:
        boxes_xywh: (N, 4) pixels counted as in the ground truth; the first is the box given.
        seconds: N, the time each frame took with its reading left out; of a frame that several sequences
            shared a pass for, its share: the pass's time divided by their number.
        tasks: one object a frame for `.tasks.jsonl`, or None when the tracker has no heads but the box.
    """

    boxes_xywh: Array
    seconds: list[float]
    tasks: list[dict[str, Any]] | None


def read_rgb(path: Frame) -> Image:
    """Return an image as (H, W, 3) uint8 RGB, or raise `DataError` naming the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read the image '{path}': {error.strerror or error}") from error
    image: Image = decode_image(data, str(path))
    return image


class Slot:
    """A sequence on its way: its target and what was found so far.

    Args:
        sequence: to follow.
        pool: reads the next image while the tracker is at work; None: each is read when its turn comes.
    """

    def __init__(self, sequence: Sequence, pool: ThreadPoolExecutor | None) -> None:
        self.sequence = sequence
        self.target: Any = None
        self._pool = pool
        self._coming: Future[Image] | None = None
        self._boxes: list[Array] = []
        self._seconds: list[float] = []
        self._tasks: list[dict[str, Any]] = [{"frame": sequence.first_frame}]
        self._has_tasks = False

    @property
    def at_start(self) -> bool:
        """Whether the first frame comes next."""
        return not self._boxes

    @property
    def at_end(self) -> bool:
        """Whether no frame is left."""
        return len(self._boxes) == len(self.sequence)

    @property
    def timestamp(self) -> float | None:
        """Seconds of the next frame, None where the sequence has no time stamps."""
        times = self.sequence.timestamps
        return None if times is None else float(times[len(self._boxes)])

    def image(self) -> Image:
        """Return the next frame; raises DataError when it can't be read."""
        coming, self._coming = self._coming, None
        return read_rgb(self.sequence.frames[len(self._boxes)]) if coming is None else coming.result()

    def start(self, tracker: BatchTracker) -> None:
        """Start the tracker on the first frame."""
        self.sequence.check_init_box()
        box = self.sequence.boxes_xywh[0] - self.sequence.shift
        image = self.image()
        began = time.perf_counter()
        self.target = tracker.start(image, box.tolist(), self.timestamp, self.sequence.zones)
        self._add(box, time.perf_counter() - began)

    def add(self, answer: Mapping[str, Any], seconds: float) -> None:
        """Take what the tracker answered on the next frame, and the time that is booked for it."""
        tasks = answer.get("tasks") or {}
        self._has_tasks = self._has_tasks or bool(tasks)
        number = self.sequence.first_frame + len(self._boxes)
        self._tasks.append({"frame": number, "score": answer.get("score"), **tasks})
        self._add(np.asarray(answer["target_bbox"], dtype=np.float64), seconds)

    def tracked(self) -> Tracked:
        """Return the results of the whole sequence."""
        boxes = np.stack(self._boxes) + self.sequence.shift
        return Tracked(boxes, self._seconds, self._tasks if self._has_tasks else None)

    def _add(self, box: Array, seconds: float) -> None:
        self._boxes.append(box)
        self._seconds.append(seconds)
        if self._pool is not None and not self.at_end:
            self._coming = self._pool.submit(read_rgb, self.sequence.frames[len(self._boxes)])


def as_batch_tracker(tracker: FrameTracker, count: int) -> BatchTracker:
    """Return the tracker as one that follows `count` sequences at once.

    Raises:
        EvaluationError: it follows one target at a time, and `count` is above 1.
    """
    if count == 1:
        return OneAtATime(tracker)
    if not hasattr(tracker, "start") or not hasattr(tracker, "track_together"):
        raise EvaluationError(
            f"{type(tracker).__name__} follows one sequence at a time: {count} at once need `start` and "
            "`track_together`, which it doesn't have; leave --batch out"
        )
    together: Any = tracker
    return together


def follow(
    tracker: BatchTracker, count: int, take: Callable[[], Sequence | None]
) -> Iterator[tuple[Sequence, Tracked | Exception]]:
    """Follow sequences to their ends, `count` of them at once, each at a frame of its own.

    Args:
        tracker: see `as_batch_tracker`.
        count: sequences at once.
        take: returns the next sequence for a slot that is free, or None to close the slot.

    Yields:
        Each sequence with its results, or with what went wrong: that ends this sequence alone. All that have
        ended are yielded before `take` is called for their slots.
    """
    with ThreadPoolExecutor(count) as threads:
        pool = threads if count > 1 else None
        slots: list[Slot] = []
        free = count
        while free or slots:
            for sequence in [take() for _ in range(free)]:
                if sequence is not None:
                    slots.append(Slot(sequence, pool))
            ended = _step(tracker, slots)
            slots = [slot for slot in slots if slot not in ended]
            free = len(ended)
            for slot, outcome in ended.items():
                yield slot.sequence, outcome
                if isinstance(outcome, Exception):
                    _let_go(outcome)


def _let_go(error: BaseException | None) -> None:
    """Free what the functions that failed still hold: after want of memory on a GPU, the tensors."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _step(tracker: BatchTracker, slots: list[Slot]) -> dict[Slot, Tracked | Exception]:
    """Take each sequence one frame on; return those that have ended, with their results or errors."""
    ended: dict[Slot, Tracked | Exception] = {}
    images: dict[Slot, Image] = {}
    for slot in slots:
        try:
            if slot.at_start:
                slot.start(tracker)
            else:
                images[slot] = slot.image()
        except Exception as error:  # whatever a sequence does, the others must run; it is reported
            ended[slot] = error
    if images:
        ended |= _track(tracker, images)
    return ended | {slot: slot.tracked() for slot in slots if slot.at_end}


def _track(tracker: BatchTracker, images: Mapping[Slot, Image]) -> dict[Slot, Exception]:
    """Track one frame of each; return those that failed."""
    failed: dict[Slot, Exception] = {}
    times = [slot.timestamp for slot in images]
    answers: Items[dict[str, Any] | Exception]
    began = time.perf_counter()
    try:
        answers = tracker.track_together([slot.target for slot in images], list(images.values()), times)
    except Exception as error:  # as above
        answers = [error] * len(images)
    share = (time.perf_counter() - began) / len(images)
    for slot, answer in zip(images, answers, strict=True):
        if isinstance(answer, Exception):
            failed[slot] = answer
        else:
            slot.add(answer, share)
    return failed
