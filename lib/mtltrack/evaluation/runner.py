"""Runs a tracker over sequences, in this process or in several, and writes the results.

The model comes as a factory: a callable that a worker process can unpickle and call with a device.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Protocol

from mtltrack.core.errors import MtltrackError
from mtltrack.evaluation.benchmarks.sequence import Sequence
from mtltrack.evaluation.provenance import Provenance, claim, refuse_others
from mtltrack.evaluation.results import ResultFolder, read_boxes, write_results
from mtltrack.evaluation.slots import FrameTracker, Tracked, as_batch_tracker, follow

# called once a process with the device to use (None: the tracker's own choice)
TrackerFactory = Callable[[str | None], FrameTracker]


@dataclass(frozen=True)
class Settings:
    """What every worker must know.

    Attributes:
        folder: where results go.
        decimals: of the boxes written.
        debug: 1 and above: a worker's failure comes with its traceback.
        made_by: weights, configuration and data set, which are noted beside the results.
        batch: sequences that a process follows at once; above 1 the tracker must be a
            `mtltrack.evaluation.slots.BatchTracker`.
    """

    folder: ResultFolder
    decimals: int = 0
    debug: int = 0
    made_by: Provenance = field(default_factory=Provenance)
    batch: int = 1


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


def store(sequence: Sequence, tracked: Tracked, settings: Settings) -> tuple[int, float]:
    """Write the files of a sequence.

    Returns:
        Its frames, and the seconds that tracking took without the first frame.
    """
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
        EvaluationError: the tracker can't be built in a worker process, or can't follow several sequences at
            once as `settings.batch` asks.
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


def longest_first(sequences: Items[Sequence]) -> list[Sequence]:
    """Return the sequences, the longest first."""
    return sorted(sequences, key=len, reverse=True)


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
    count = min(settings.batch, len(todo))
    tracker = as_batch_tracker(factory(device), count)
    # the longest first, so that the slots end together; alone, in the order given
    queue = deque(todo if count == 1 else longest_first(todo))

    def take() -> Sequence | None:
        if not queue:
            return None
        sequence = queue.popleft()
        claim(settings.folder, settings.made_by, sequence)
        tell("start", sequence.name, len(sequence), 0.0)
        return sequence

    for sequence, outcome in follow(tracker, count, take):
        try:
            if isinstance(outcome, Exception):
                raise outcome
            frames, seconds = store(sequence, outcome, settings)
        except Exception as error:  # whatever a sequence does, the others must run; it is reported
            summary.failed[sequence.name] = explain(error, settings.debug)
            tell("failed", sequence.name, 0, 0.0)
        else:
            summary.done[sequence.name] = (frames, seconds)
            tell("done", sequence.name, frames, seconds)
