"""Worker processes that take sequences from one queue; see `mtltrack.evaluation.runner.run`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Sequence as Items
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

import cv2
import torch

from mtltrack.core.errors import MtltrackError
from mtltrack.evaluation.benchmarks.sequence import Sequence
from mtltrack.evaluation.provenance import claim
from mtltrack.evaluation.runner import (
    Progress,
    RunSummary,
    Settings,
    TrackerFactory,
    explain,
    longest_first,
    store,
)
from mtltrack.evaluation.slots import EvaluationError, as_batch_tracker, follow


def _work(
    connection: Connection,
    factory: TrackerFactory,
    settings: Settings,
    device: str | None,
    count: int,
    torch_threads: int,
) -> None:
    """A worker's life: build the tracker, then run the sequences that come, `count` at once."""
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(torch_threads)
    try:
        _serve(connection, factory, settings, device, count)
    except (BrokenPipeError, EOFError):
        return  # the parent has given up; what it reports is enough


def _serve(
    connection: Connection, factory: TrackerFactory, settings: Settings, device: str | None, count: int
) -> None:
    try:
        tracker = as_batch_tracker(factory(device), count)
    except Exception as error:  # reported to the parent, which ends the run
        connection.send(("broken", "", f"failed: {explain(error, settings.debug)}", 0, 0.0))
        return
    connection.send(("ready", "", "", 0, 0.0))
    # the parent answers "ready" with `count` sequences or Nones, and each that has ended with one
    for sequence, outcome in follow(tracker, count, connection.recv):
        try:
            if isinstance(outcome, Exception):
                raise outcome
            frames, seconds = store(sequence, outcome, settings)
        except Exception as error:  # whatever a sequence does, the others must run; it is reported
            text = explain(error, settings.debug)
            if not isinstance(error, MtltrackError) and _is_lost(device):
                connection.send(("spent", sequence.name, text, 0, 0.0))
                return
            connection.send(("failed", sequence.name, text, 0, 0.0))
        else:
            connection.send(("done", sequence.name, "", frames, seconds))


def _is_lost(device: str | None) -> bool:
    """Return whether a GPU can't be used any more in this process, as after a fault within a kernel."""
    if device is None or not device.startswith("cuda"):
        return False
    try:
        torch.cuda.synchronize(device)
    except (RuntimeError, AssertionError):  # the second where torch has no CUDA
        return True
    return False


class _Worker:
    """A process, the connection to it and the sequences that it is at, `count` at most."""

    def __init__(
        self,
        factory: TrackerFactory,
        settings: Settings,
        device: str | None,
        count: int,
        torch_threads: int,
    ) -> None:
        # spawn: a forked child inherits the locks of torch's threads without the threads
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = (other, factory, settings, device, count, torch_threads)
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.device, self.count = device, count
        self.at_work: dict[str, Sequence] = {}
        self.died_at_work = False

    def give(self, sequence: Sequence | None) -> None:
        """Hand over a sequence, or None to close a slot; what is read next says when the process has died."""
        if sequence is not None:
            self.at_work[sequence.name] = sequence
        with contextlib.suppress(OSError):
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
    """Run sequences in `count` processes that take them from one queue, the longest first.

    Each follows `settings.batch` at once, fewer where some process would get none. A process that dies, or
    whose GPU is lost, fails the sequences it was at; another takes its place. One that can't build its
    tracker is left out, and `summary.notes` says so.

    Raises:
        EvaluationError: no process could build its tracker, or it can't follow several sequences at once.
    """
    queue = deque(longest_first(todo))
    batch = min(settings.batch, -(-len(todo) // count))
    torch_threads = max(1, (os.cpu_count() or 1) // count)

    def start(device: str | None) -> _Worker:
        return _Worker(factory, settings, device, batch, torch_threads)

    workers = [start(devices[index % len(devices)]) for index in range(count)]
    try:
        while workers:
            ready = wait([worker.connection for worker in workers])
            for worker in [item for item in workers if item.connection in ready]:
                if not _hear(worker, queue, settings, summary, tell):
                    workers.remove(worker)
                    worker.close()
                    if queue and worker.died_at_work:  # another takes its place
                        workers.append(start(worker.device))
    finally:
        for worker in workers:
            worker.close(patience=0.0)
    if queue and not (summary.done or summary.failed):
        raise EvaluationError(f"the tracker can't be built: {'; '.join(summary.notes)}")
    for sequence in queue:
        summary.failed[sequence.name] = "not run: no worker process is left"
        tell("failed", sequence.name, 0, 0.0)


def _hear(
    worker: _Worker, queue: deque[Sequence], settings: Settings, summary: RunSummary, tell: Progress
) -> bool:
    """Take one message of a worker and fill what it has free; False when the worker is at its end."""
    try:
        kind, name, text, frames, seconds = worker.connection.recv()
    except (EOFError, OSError):
        kind, name, text, frames, seconds = "dead", "", _last_words(worker), 0, 0.0
    if kind == "broken" or (kind == "dead" and not worker.at_work):
        place = f" on {worker.device}" if worker.device else ""
        summary.notes.append(f"a worker process{place} has no tracker, it {text}")
        return False
    if kind in ("dead", "spent"):
        for lost in worker.at_work:
            summary.failed[lost] = f"the worker process {text}" if kind == "dead" else text
            tell("failed", lost, 0, 0.0)
        worker.died_at_work = True
        return False
    if kind == "done":
        summary.done[name] = (frames, seconds)
    elif kind == "failed":
        summary.failed[name] = text
    if kind != "ready":
        del worker.at_work[name]
        tell(kind, name, frames, seconds)
    for _ in range(worker.count if kind == "ready" else 1):
        if not queue:
            worker.give(None)
            continue
        sequence = queue.popleft()
        claim(settings.folder, settings.made_by, sequence)
        worker.give(sequence)
        tell("start", sequence.name, len(sequence), 0.0)
    return bool(worker.at_work)


def _last_words(worker: _Worker) -> str:
    """Return how a process ended."""
    worker.process.join()
    status = worker.process.exitcode
    if status is None or status >= 0:
        return f"died with status {status}"
    hint = "; most often for want of memory, try fewer --threads" if -status == signal.SIGKILL else ""
    return f"died by {signal.Signals(-status).name}{hint}"
