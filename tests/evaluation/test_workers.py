"""Worker processes that are lost: what they were at is named, the other sequences are run.

Threads stand in for the processes here, for speed; `test_runner.py` starts real ones.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_trackers import StillBatch, StillTracker, walk, write_sequence

from mtltrack.evaluation import workers
from mtltrack.evaluation.benchmarks import Sequence, load_benchmark
from mtltrack.evaluation.results import ResultFolder
from mtltrack.evaluation.runner import Settings, run
from mtltrack.evaluation.slots import EvaluationError


class Death(BaseException):
    """Ends a stand-in for a process with a status."""


class ThreadProcess:
    """Behaves like `multiprocessing.Process` whose target's first argument is a connection."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], daemon: bool) -> None:
        self.exitcode: int | None = None
        self._own = Connection(os.dup(args[0].fileno()))  # the parent closes its copy
        self._thread = threading.Thread(target=self._run, args=(target, args[1:]), daemon=daemon)

    def _run(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        try:
            target(self._own, *args)
            self.exitcode = 0
        except Death as death:
            self.exitcode = death.args[0]
        finally:
            self._own.close()

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def is_alive(self) -> bool:
        return self._thread.is_alive()


@pytest.fixture(autouse=True)
def _threads_for_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(Pipe=multiprocessing.Pipe, Process=ThreadProcess)
    monkeypatch.setattr(workers, "get_context", lambda kind: context)
    monkeypatch.setattr(workers.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(workers.cv2, "setNumThreads", lambda count: None)


@pytest.fixture
def sequences(tmp_path: Path) -> tuple[Sequence, ...]:
    """Five sequences, the longest first; the target of the first is 12 pixels wide."""
    for name, count, width in (("a", 6, 12), ("b", 5, 11), ("c", 4, 11), ("d", 3, 11), ("e", 2, 11)):
        write_sequence(tmp_path / "data" / name, walk(count, width=width))
    return load_benchmark(str(tmp_path / "data")).sequences


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(ResultFolder.of(tmp_path / "results", "fake", "broken"))


class Spoiling(StillTracker):
    """From the first target of 12 pixels on every call fails, as CUDA's do after a fault in a kernel."""

    spoilt = False

    def track(self, rgb: Any, **more: Any) -> dict[str, Any]:
        self.spoilt = self.spoilt or self.box[2] == 12.0
        if self.spoilt:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().track(rgb, **more)


class Dying(StillTracker):
    """Ends its process at the first frame."""

    status = 0

    def track(self, rgb: Any, **more: Any) -> dict[str, Any]:
        raise Death(self.status)


def test_a_lost_gpu_fails_one_sequence(sequences: tuple[Sequence, ...], settings: Settings) -> None:
    built, replaced = [], threading.Event()

    class Waiting(Spoiling):
        """The other process doesn't finish the queue before the lost one is replaced."""

        def track(self, rgb: Any, **more: Any) -> dict[str, Any]:
            assert self.box[2] == 12.0 or replaced.wait(60)
            return super().track(rgb, **more)

    def build(device: str | None) -> StillTracker:
        built.append(device)
        if len(built) == 3:
            replaced.set()
        return Waiting()

    # a device that no machine has answers nothing, as one does after a fault
    summary = run(build, sequences, settings, threads=2, devices=["cuda:98", "cuda:99"])
    assert list(summary.failed) == ["a"] and "illegal memory access" in summary.failed["a"]
    assert sorted(summary.done) == ["b", "c", "d", "e"]
    assert len(built) == 3 and not summary.notes


def test_an_error_in_the_data_keeps_the_process(sequences: tuple[Sequence, ...], settings: Settings) -> None:
    sequences[0].frames[1].unlink()
    built = []
    summary = run(
        lambda device: built.append(device) or StillTracker(),
        sequences,
        settings,
        threads=2,
        devices=["cuda:98", "cuda:99"],
    )
    assert list(summary.failed) == ["a"] and built == ["cuda:98", "cuda:99"]


def test_processes_without_a_tracker_are_left_out(
    sequences: tuple[Sequence, ...], settings: Settings
) -> None:
    def build(device: str | None) -> StillTracker:
        if device == "dies":
            raise Death(5)
        if device == "raises":
            raise RuntimeError("out of memory")
        return StillTracker()

    summary = run(build, sequences, settings, threads=3, devices=["fine", "dies", "raises"])
    assert sorted(summary.done) == ["a", "b", "c", "d", "e"] and not summary.failed
    dies, raises = sorted(summary.notes)
    assert dies == "a worker process on dies has no tracker, it died with status 5"
    assert raises.startswith("a worker process on raises has no tracker, it failed: ")
    assert raises.endswith("RuntimeError: out of memory")


def test_no_process_is_left(sequences: tuple[Sequence, ...], settings: Settings) -> None:
    lock, left = threading.Lock(), [1, -9]  # the statuses with which the first two end

    def build(device: str | None) -> StillTracker:
        with lock:
            if not left:
                raise RuntimeError("the weights are gone")
            tracker = Dying()
            tracker.status = left.pop()
            return tracker

    summary = run(build, sequences, settings, threads=2)
    killed = "the worker process died by SIGKILL; most often for want of memory, try fewer --threads"
    assert sorted(summary.failed) == ["a", "b", "c", "d", "e"]
    assert {summary.failed["a"], summary.failed["b"]} == {killed, "the worker process died with status 1"}
    assert all(summary.failed[name] == "not run: no worker process is left" for name in "cde")
    assert len(summary.notes) == 2 and all("the weights are gone" in note for note in summary.notes)
    with pytest.raises(EvaluationError, match=r"(?s)the tracker can't be built: .*the weights are gone"):
        run(build, sequences, settings, threads=2)


def test_each_process_follows_several_sequences(sequences: tuple[Sequence, ...], settings: Settings) -> None:
    trackers: list[StillBatch] = []
    both = threading.Barrier(2)

    class Both(StillBatch):
        """Neither process begins before the other has its sequences."""

        def track_together(self, *arguments: Any) -> Any:
            if not self.together:
                both.wait(60)
            return super().track_together(*arguments)

    def build(device: str | None) -> StillTracker:
        trackers.append(Both(fail=(12,)))
        return trackers[-1]

    summary = run(build, sequences, replace(settings, batch=2), threads=2)
    assert list(summary.failed) == ["a"] and "no target of width 12" in summary.failed["a"]
    assert sorted(summary.done) == ["b", "c", "d", "e"]
    assert all(len(tracker.together[0]) == 2 for tracker in trackers)


def test_no_process_takes_the_sequences_of_another(
    sequences: tuple[Sequence, ...], settings: Settings
) -> None:
    """Five sequences for two processes: three for each at most, however large the batch may be."""
    trackers: list[StillBatch] = []

    def build(device: str | None) -> StillTracker:
        trackers.append(StillBatch())
        return trackers[-1]

    summary = run(build, sequences, replace(settings, batch=8), threads=2)
    assert len(summary.done) == 5
    assert max(len(widths) for tracker in trackers for widths in tracker.together) <= 3


def test_a_process_that_dies_fails_what_it_was_at(
    sequences: tuple[Sequence, ...], settings: Settings
) -> None:
    class DyingBatch(StillBatch):
        def track_together(self, targets: Any, *more: Any) -> Any:
            if any(target.box[2] == 12.0 for target in targets):
                raise Death(7)
            return super().track_together(targets, *more)

    summary = run(lambda device: DyingBatch(), sequences, replace(settings, batch=2), threads=2)
    assert len(summary.failed) == 2 and "a" in summary.failed and len(summary.done) == 3
    assert set(summary.failed.values()) == {"the worker process died with status 7"}


def test_a_lost_gpu_fails_what_it_was_at(sequences: tuple[Sequence, ...], settings: Settings) -> None:
    class SpoiltBatch(StillBatch):
        def track_together(self, targets: Any, *more: Any) -> Any:
            if any(target.box[2] == 12.0 for target in targets):
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return super().track_together(targets, *more)

    devices = ["cuda:98", "cuda:99"]
    summary = run(
        lambda device: SpoiltBatch(), sequences, replace(settings, batch=2), threads=2, devices=devices
    )
    assert len(summary.failed) == 2 and "a" in summary.failed and len(summary.done) == 3
    assert all("illegal memory access" in text for text in summary.failed.values())


def test_processes_refuse_a_tracker_of_one_sequence(
    sequences: tuple[Sequence, ...], settings: Settings
) -> None:
    message = r"(?s)can't be built: .*StillTracker follows one sequence at a time: 2 at once .* leave --batch"
    with pytest.raises(EvaluationError, match=message):
        run(lambda device: StillTracker(), sequences, replace(settings, batch=2), threads=2)
