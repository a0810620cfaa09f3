"""Worker processes that take sequences from one queue; see `mtltrack.evaluation.runner.run`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence as Items
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

import cv2
import torch

from mtltrack.evaluation.benchmarks.sequence import Sequence
from mtltrack.evaluation.provenance import claim
from mtltrack.evaluation.runner import (
    EvaluationError,
    Progress,
    RunSummary,
    Settings,
    TrackerFactory,
    explain,
    run_one,
)


def _work(
    connection: Connection,
    factory: TrackerFactory,
    settings: Settings,
    device: str | None,
    torch_threads: int,
) -> None:
    """A worker's life: build the tracker, then run each sequence that comes until None comes."""
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(torch_threads)
    try:
        _serve(connection, factory, settings, device)
    except (BrokenPipeError, EOFError):
        return  # the parent has given up; what it reports is enough


def _serve(connection: Connection, factory: TrackerFactory, settings: Settings, device: str | None) -> None:
    try:
        tracker = factory(device)
    except Exception as error:  # reported to the parent, which ends the run
        connection.send(("broken", explain(error, settings.debug), 0, 0.0))
        return
    connection.send(("ready", "", 0, 0.0))
    while (sequence := connection.recv()) is not None:
        try:
            frames, seconds = run_one(tracker, sequence, settings)
        except Exception as error:  # whatever a sequence does, the others must run; it is reported
            connection.send(("failed", explain(error, settings.debug), 0, 0.0))
        else:
            connection.send(("done", "", frames, seconds))


class _Worker:
    """A process, the connection to it and the sequence that it is at."""

    def __init__(
        self, factory: TrackerFactory, settings: Settings, device: str | None, torch_threads: int
    ) -> None:
        # spawn: a forked child inherits the locks of torch's threads without the threads
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = (other, factory, settings, device, torch_threads)
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.sequence: Sequence | None = None

    def give(self, sequence: Sequence | None) -> None:
        """Hand over the next sequence, or None to end."""
        self.sequence = sequence
        self.connection.send(sequence)

    def close(self, patience: float = 5.0) -> None:
        """Let the process end; one that is still at work after `patience` seconds is stopped."""
        self.connection.close()
        self.process.join(timeout=patience)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


def run_workers(
    factory: TrackerFactory,
    todo: list[Sequence],
    settings: Settings,
    count: int,
    devices: Items[str | None],
    summary: RunSummary,
    tell: Progress,
) -> None:
    """Run sequences in `count` processes that take them from one queue, the longest first."""
    queue = deque(sorted(todo, key=len, reverse=True))
    torch_threads = max(1, (os.cpu_count() or 1) // count)

    def start(index: int) -> _Worker:
        return _Worker(factory, settings, devices[index % len(devices)], torch_threads)

    workers = [start(index) for index in range(count)]
    started = count
    try:
        while workers:
            ready = wait([worker.connection for worker in workers])
            for worker in [item for item in workers if item.connection in ready]:
                if not _hear(worker, queue, settings, summary, tell):
                    workers.remove(worker)
                    worker.close()
                    if queue and worker.sequence is not None:  # it died; another takes its place
                        workers.append(start(started))
                        started += 1
    finally:
        for worker in workers:
            worker.close(patience=0.0)


def _hear(
    worker: _Worker, queue: deque[Sequence], settings: Settings, summary: RunSummary, tell: Progress
) -> bool:
    """Take one message of a worker and give it the next sequence; False when the worker is at its end."""
    try:
        kind, text, frames, seconds = worker.connection.recv()
    except EOFError:
        worker.process.join()
        if worker.sequence is None:
            raise EvaluationError(
                f"a worker process ended with status {worker.process.exitcode} before it had a tracker; "
                "run with --threads 1 to see why"
            ) from None
        name = worker.sequence.name
        summary.failed[name] = f"the worker process died with status {worker.process.exitcode}"
        tell("failed", name, 0, 0.0)
        return False
    if kind == "broken":
        raise EvaluationError(f"the tracker can't be built in a worker process: {text}")
    if kind == "failed" and worker.sequence is not None:
        summary.failed[worker.sequence.name] = text
        tell("failed", worker.sequence.name, 0, 0.0)
    elif kind == "done" and worker.sequence is not None:
        summary.done[worker.sequence.name] = (frames, seconds)
        tell("done", worker.sequence.name, frames, seconds)
    if not queue:
        worker.give(None)
        return False
    sequence = queue.popleft()
    claim(settings.folder, settings.made_by, sequence)
    worker.give(sequence)
    tell("start", sequence.name, len(sequence), 0.0)
    return True
