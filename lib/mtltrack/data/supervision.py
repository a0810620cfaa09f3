"""Loader processes that die or hang: an error that says which one, at which sample and why, never a hang.

Each worker writes into shared memory when it begins a sample and when it has it. A process that waits for a
batch looks there once a second: a worker that was killed ends the wait at once, one that makes no progress
after a limit. Time counts only while the process looks, so a job that is suspended as a whole isn't blamed.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from mtltrack.core.errors import MtltrackError, TrainingError
from mtltrack.core.types import Clip
from mtltrack.data.collate import Sample

TICK = 1.0  # seconds between looks
LEAST_FOR_START = 300.0  # seconds that a process may take to start, imports included
_COUNT, _BUSY, _EPOCH, _NUMBER = range(4)  # what a worker writes: events so far, at a sample, which one
_TORCH = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_GO_ON = "The same command goes on after the last checkpoint."
_CAUSES = {
    "SIGKILL": "Most often the system ended it because memory ran out (dmesg, or the job's limit, tells). "
    "Lower TRAIN.NUM_WORKER or TRAIN.BATCH_SIZE, or give the job more memory.",
    "SIGBUS": "Most often the shared memory is full (df /dev/shm; in a container --shm-size enlarges it), or "
    "a file was cut while it was read. Lower TRAIN.NUM_WORKER, or enlarge it.",
    "SIGSEGV": "A library failed; the sample named may be at fault. TRAIN.NUM_WORKER=0 shows where.",
    "SIGABRT": "A library gave up; what it wrote stands above. TRAIN.NUM_WORKER=0 shows where.",
}


class WatchedClips(Dataset[Sample]):
    """Clips whose workers write down what they are at.

    Args:
        clips: the samples.
        workers: how many processes there are.
    """

    def __init__(self, clips: Dataset[Sample], workers: int) -> None:
        self.clips = clips
        self.marks = torch.zeros(workers, 4, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.clips)  # type: ignore[arg-type]  # sized, as all that are built here

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        worker = get_worker_info()
        if worker is None:
            return self.clips[index]
        mark = self.marks[worker.id]
        mark[_EPOCH], mark[_NUMBER] = index
        mark[_BUSY] = 1
        mark[_COUNT] += 1
        sample = self.clips[index]
        mark[_BUSY] = 0
        mark[_COUNT] += 1
        return sample


class ClipLoader(DataLoader[Clip]):
    """A loader whose lost workers end the wait for them with an explanation.

    Args:
        clips: the samples.
        name: what messages call the loader: "training".
        patience: seconds that a worker may take for one sample; 0: for ever.
        options: of `DataLoader`.
    """

    def __init__(self, clips: Dataset[Sample], *, name: str, patience: float, **options: Any) -> None:
        workers = options["num_workers"]
        self.watched = WatchedClips(clips, workers) if workers else None
        super().__init__(
            cast("Dataset[Clip]", self.watched or clips), **options
        )  # collate makes clips of them
        self.name = name
        self.patience = patience

    def _get_iterator(self) -> Any:
        if self.watched is None:
            return super()._get_iterator()
        self.check_worker_number_rationality()
        return _WatchedIterator(self)

    def __iter__(self) -> Any:
        batches = super().__iter__()
        return batches if self.watched is None else self._explained(batches)

    def _explained(self, batches: Iterator[Clip]) -> Iterator[Clip]:
        while True:
            try:
                clip = next(batches)
            except StopIteration:
                return
            except MtltrackError as error:
                raise _unwrapped(error) from error
            except (RuntimeError, OSError, EOFError) as error:  # the latter: in the middle of a message
                explained = self.explain(error)
                if explained is None:
                    raise
                raise explained from error
            yield clip

    @property
    def processes(self) -> list[Any]:
        """The workers, as far as they were started."""
        return list(getattr(self._iterator, "_workers", ()))

    def place_of(self, worker: int) -> str:
        """Return what a worker was last at, for people."""
        if self.watched is None or not self.watched.marks[worker, _COUNT]:
            return "before its first sample"
        _, busy, epoch, number = self.watched.marks[worker].tolist()
        return f"{'at' if busy else 'after'} sample {number} of epoch {epoch}"

    def explain(self, error: BaseException) -> TrainingError | None:
        """Return what an error of torch about a dead worker means; None where it is about something else.

        Python raises it wherever the process is when the worker dies, also far from the loader.
        """
        watch = getattr(self._iterator, "watch", None)
        if watch is not None and watch.hung is not None:
            return self._hung(*watch.hung)
        found = _TORCH.search(str(error))
        lost = {int(pid) for pid in found[1].split(",")} if found else set()
        broken = isinstance(error, OSError | EOFError)
        told = [
            self._ended(number, process)
            for number, process in enumerate(self.processes)
            if process.pid in lost or (broken and _is_dead(process))
        ]
        return TrainingError(" ".join([*told, _GO_ON])) if told else None

    def _ended(self, number: int, process: Any) -> str:
        process.join(TICK)  # so that its exit status is known
        code = process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            how = f"was killed by signal {-code} ({name})"
            why = _CAUSES.get(name, "Somebody or something ended it.")
        else:
            how, why = f"left with exit status {code}", "What it wrote stands above."
        return f"{self._called(number, process)} {how} {self.place_of(number)}. {why}"

    def _called(self, number: int, process: Any) -> str:
        return f"worker {number} of {self.num_workers} of the {self.name} loader (process {process.pid})"

    def _hung(self, number: int, seconds: float) -> TrainingError:
        process = self.processes[number]
        return TrainingError(
            f"{self._called(number, process)} has hung for {seconds:.0f} s {self.place_of(number)}. Most "
            "often a disk or a network drive doesn't answer. If samples do take that long, raise "
            f"TRAIN.LOADER_TIMEOUT ({self.patience:g} s a sample; 0: never give up). {_GO_ON}"
        )

    def close(self, at_once: bool = False) -> None:
        """End the workers; iterating starts new ones.

        Args:
            at_once: don't let them finish what they are at.
        """
        batches, self._iterator = self._iterator, None
        if not isinstance(batches, _WatchedIterator):
            return
        if batches.watch is not None:
            batches.watch.over.set()
        if at_once:
            _end(batches._workers)
        batches._shutdown_workers()
        _end(batches._workers)
        atexit.unregister(batches.at_exit)


class _Watch(threading.Thread):
    """Ends a worker that makes no progress while its batch is waited for.

    A thread, since the process that waits may be held up in the middle of a message from that worker.

    Args:
        marks: what the workers write.
        processes: the workers.
        patience: seconds for one sample.
    """

    def __init__(self, marks: torch.Tensor, processes: list[Any], patience: float) -> None:
        super().__init__(daemon=True)
        self.marks, self.processes, self.patience = marks, processes, patience
        self.waiting = False
        self.hung: tuple[int, float] | None = None
        self.over = threading.Event()
        self._quiet = [0.0] * len(processes)  # seconds without progress
        self._counts = [-1] * len(processes)

    def run(self) -> None:
        before = time.monotonic()
        while not self.over.wait(min(TICK, self.patience / 4)) and self.hung is None:
            now = time.monotonic()
            if self.waiting:
                self._look(min(now - before, 2 * TICK))
            before = now

    def _look(self, waited: float) -> None:
        marks = self.marks.tolist()
        for number, mark in enumerate(marks):
            same = mark[_COUNT] == self._counts[number]
            self._quiet[number] = self._quiet[number] + waited if same else 0.0
            self._counts[number] = mark[_COUNT]
        starting = max(self.patience, LEAST_FOR_START)
        late = [
            number
            for number, quiet in enumerate(self._quiet)
            if quiet >= (self.patience if self._counts[number] else starting)
        ]
        at_work = [number for number in late if marks[number][_BUSY]]
        if at_work or len(late) == len(marks):  # one that waits for work is late only when all are
            number = min(at_work or late, key=lambda number: self._counts[number])  # others worked ahead
            self.hung = (number, self._quiet[number])
            self.processes[number].kill()  # what waits in the middle of a message goes on, with an error


class _WatchedIterator(_MultiProcessingDataLoaderIter):
    """Torch's iterator, whose workers are watched while it waits for them."""

    def __init__(self, loader: ClipLoader) -> None:
        self.watch: _Watch | None = None
        super().__init__(loader)
        self.at_exit = partial(_end, self._workers)
        atexit.register(self.at_exit)  # they don't heed the signal with which torch would end them
        if loader.watched is not None and loader.patience > 0:
            self.watch = _Watch(loader.watched.marks, self._workers, loader.patience)
            self.watch.start()

    def _try_get_data(self, timeout: float = TICK) -> tuple[bool, Any]:
        if self.watch is None:
            return super()._try_get_data(timeout)
        self.watch.waiting = True
        try:
            found: tuple[bool, Any] = super()._try_get_data(timeout)
        finally:
            self.watch.waiting = False
        if self.watch.hung is not None:
            raise RuntimeError("a worker hangs")  # the loader says which
        return found


def _end(workers: list[Any]) -> None:
    """End processes that are still there, and don't let torch raise because of it."""
    with _deaf_to_children():
        for worker in workers:
            if worker.is_alive():
                worker.kill()
        for worker in workers:
            worker.join(TICK)


def _is_dead(process: Any) -> bool:
    process.join(TICK)
    return process.exitcode is not None


def _unwrapped(error: MtltrackError) -> MtltrackError:
    """Return an error of a worker without the trace that torch puts around it."""
    _, name, text = str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")
    return type(error)(text.strip()) if name else error


@contextlib.contextmanager
def _deaf_to_children() -> Iterator[None]:
    """Don't let torch raise when a worker dies, where it is to die."""
    known = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    if not known:  # Python sets handlers in the main thread alone
        yield
        return
    before = signal.signal(signal.SIGCHLD, _ignore)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Take a signal and do nothing."""


@contextlib.contextmanager
def supervised(*loaders: Any) -> Iterator[None]:
    """End the workers of loaders with the block, and explain errors about those that were lost in it.

    Args:
        loaders: those that are no `ClipLoader` are left alone.

    Raises:
        TrainingError: a worker was lost; says which, how and what may help.
    """
    watched = [loader for loader in loaders if isinstance(loader, ClipLoader)]
    finished = False
    try:
        yield
        finished = True
    except (RuntimeError, OSError, EOFError) as error:
        for loader in watched:
            explained = None if isinstance(error, MtltrackError) else loader.explain(error)
            if explained is not None:
                raise explained from error
        raise
    finally:
        for loader in watched:
            loader.close(at_once=not finished)
