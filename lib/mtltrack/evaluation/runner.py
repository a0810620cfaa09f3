"""Runs a tracker over sequences, in this process or in several, and writes the results.

The model comes as a factory: a callable that a worker process can unpickle and call with a device.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError, MtltrackError
from mtltrack.data.images import decode_image
from mtltrack.evaluation.benchmarks.sequence import Sequence
from mtltrack.evaluation.benchmarks.stored import Frame
from mtltrack.evaluation.provenance import Provenance, claim, refuse_others
from mtltrack.evaluation.results import ResultFolder, read_boxes, write_results

Array = NDArray[np.float64]


class FrameTracker(Protocol):
    """What the runner needs of a tracker; `mtltrack.evaluation.online.OnlineTracker` is one."""

    def initialize(
        self,
        rgb: NDArray[np.uint8],
        box_xywh: list[float],
        *,
        timestamp: float | None = None,
        zones: Mapping[str, Array] | None = None,
    ) -> Any:
        """Start on a frame (H, W, 3) uint8 RGB with the target's box x, y, w, h in pixels.

        The frame's time in seconds and the video's zones, name -> (V, 2) polygon in pixels, come where they
        are known.
        """

    def track(self, rgb: NDArray[np.uint8], *, timestamp: float | None = None) -> dict[str, Any]:
        """Answer {"target_bbox": [x, y, w, h], "score": float, "tasks": {name: {...}}} for the next frame."""


# called once a process with the device to use (None: the tracker's own choice)
TrackerFactory = Callable[[str | None], FrameTracker]


class EvaluationError(MtltrackError, RuntimeError):
    """Sequences couldn't be run."""


@dataclass
class Tracked:
    """One sequence's results.

    Attributes:
        boxes_xywh: (N, 4) pixels counted as in the ground truth; the first is the box given.
        seconds: N, the time each frame took with its reading left out.
        tasks: one object a frame for `.tasks.jsonl`, or None when the tracker has no heads but the box.
    """

    boxes_xywh: Array
    seconds: list[float]
    tasks: list[dict[str, Any]] | None


@dataclass(frozen=True)
class Settings:
    """What every worker must know.

    Attributes:
        folder: where results go.
        decimals: of the boxes written.
        debug: 1 and above: a worker's failure comes with its traceback.
        made_by: weights, configuration and data set, which are noted beside the results.
    """

    folder: ResultFolder
    decimals: int = 0
    debug: int = 0
    made_by: Provenance = field(default_factory=Provenance)


@dataclass
class RunSummary:
    """What became of the sequences.

    Attributes:
        done: names that were run, with their frames and seconds.
        skipped: names whose results were there already.
        failed: name -> what went wrong.
        notes: what else went wrong without failing a sequence.
    """

    done: dict[str, tuple[int, float]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def frames_per_second(self) -> float:
        """Frames a second of one process: tracking alone, without reading images and without first frames."""
        frames = sum(count - 1 for count, _ in self.done.values())
        seconds = sum(value for _, value in self.done.values())
        return frames / seconds if seconds else float("nan")


class Progress(Protocol):
    """Told about each event; see `mtltrack.evaluation.progress`."""

    def __call__(self, event: str, sequence: str, frames: int, seconds: float) -> None: ...


def read_rgb(path: Frame) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8 RGB, or raise `DataError` naming the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read the image '{path}': {error.strerror or error}") from error
    image: NDArray[np.uint8] = decode_image(data, str(path))
    return image


def track_sequence(tracker: FrameTracker, sequence: Sequence) -> Tracked:
    """Start the tracker on the first frame and follow the target to the last."""
    sequence.check_init_box()
    boxes = np.empty((len(sequence), 4))
    boxes[0] = start_box = sequence.boxes_xywh[0] - sequence.shift
    seconds: list[float] = []
    tasks: list[dict[str, Any]] = [{"frame": sequence.first_frame}]
    has_tasks = False
    for index, path in enumerate(sequence.frames):
        image = read_rgb(path)
        timestamp = None if sequence.timestamps is None else float(sequence.timestamps[index])
        start = time.perf_counter()
        if index == 0:
            tracker.initialize(image, start_box.tolist(), timestamp=timestamp, zones=sequence.zones)
        else:
            answer = tracker.track(image, timestamp=timestamp)
            boxes[index] = answer["target_bbox"]
            has_tasks = has_tasks or bool(answer.get("tasks"))
            entry = {"frame": sequence.first_frame + index, "score": answer.get("score")}
            tasks.append({**entry, **answer.get("tasks", {})})
        seconds.append(time.perf_counter() - start)
    return Tracked(boxes + sequence.shift, seconds, tasks if has_tasks else None)


def run_one(tracker: FrameTracker, sequence: Sequence, settings: Settings) -> tuple[int, float]:
    """Track one sequence and write its files.

    Returns:
        Its frames, and the seconds that tracking took without the first frame.
    """
    tracked = track_sequence(tracker, sequence)
    write_results(
        settings.folder, sequence.name, tracked.boxes_xywh, tracked.seconds, tracked.tasks, settings.decimals
    )
    return len(sequence), sum(tracked.seconds[1:])


def pending(sequences: Items[Sequence], settings: Settings, force: bool) -> tuple[list[Sequence], list[str]]:
    """Return the sequences to run and the names of those that have results already.

    A file with another number of boxes than the sequence has frames isn't complete: it is made again.

    Raises:
        DataError: there are results that were made from other weights, another configuration, other data or
            other frames, and `force` is off.
    """
    if force:
        return list(sequences), []
    refuse_others(settings.folder, settings.made_by, list(sequences))
    todo, there = [], []
    for sequence in sequences:
        path = settings.folder.boxes(sequence.name)
        if path.is_file() and len(read_boxes(path)) == len(sequence):
            there.append(sequence.name)
        else:
            todo.append(sequence)
    return todo, there


def run(
    factory: TrackerFactory,
    sequences: Items[Sequence],
    settings: Settings,
    *,
    threads: int = 0,
    devices: Items[str | None] = (None,),
    force: bool = False,
    progress: Progress | None = None,
) -> RunSummary:
    """Run every sequence that has no results yet.

    Args:
        factory: makes the tracker, once a process.
        sequences: the test data.
        settings: where results go.
        threads: processes; 0 or 1: this one.
        devices: the processes take these in turn.
        force: run sequences that have results, too, whatever those were made from.
        progress: told of each event: "start", "done", "failed", "skipped".

    Returns:
        What became of each sequence; a failing sequence doesn't end the run.

    Raises:
        EvaluationError: the tracker can't be built in a worker process.
        DataError: see `pending`.
    """
    tell = progress or _silent
    todo, there = pending(sequences, settings, force)
    summary = RunSummary(skipped=there)
    for name in there:
        tell("skipped", name, 0, 0.0)
    if not todo:
        return summary
    if threads > 1 and len(todo) > 1:
        from mtltrack.evaluation.workers import run_workers  # which imports this module

        run_workers(factory, todo, settings, min(threads, len(todo)), devices, summary, tell)
    else:
        _run_here(factory, todo, settings, devices[0], summary, tell)
    return summary


def _silent(event: str, sequence: str, frames: int, seconds: float) -> None:  # noqa: ARG001
    return None


def explain(error: BaseException, debug: int) -> str:
    """Return one line for an error in the data, the traceback for anything else."""
    if isinstance(error, MtltrackError) and debug < 1:
        return str(error)
    return "".join(traceback.format_exception(error)).rstrip()


def _run_here(
    factory: TrackerFactory,
    todo: list[Sequence],
    settings: Settings,
    device: str | None,
    summary: RunSummary,
    tell: Progress,
) -> None:
    tracker = factory(device)
    for sequence in todo:
        claim(settings.folder, settings.made_by, sequence)
        tell("start", sequence.name, len(sequence), 0.0)
        try:
            frames, seconds = run_one(tracker, sequence, settings)
        except Exception as error:  # whatever a sequence does, the others must run; it is reported
            summary.failed[sequence.name] = explain(error, settings.debug)
            tell("failed", sequence.name, 0, 0.0)
        else:
            summary.done[sequence.name] = (frames, seconds)
            tell("done", sequence.name, frames, seconds)
