"""What going on needs of the data: a sampler that starts inside an epoch, workers that stay for a while."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import time
from multiprocessing.connection import Connection

import pytest

from mtltrack.data import loader
from mtltrack.data.sampler import EpochSampler


@pytest.mark.parametrize("rank", [0, 1])
def test_a_sampler_starts_where_the_run_stopped(rank):
    whole = EpochSampler(11, shuffle=True, seed=3, rank=rank, world_size=2)
    whole.set_epoch(4)
    indices = list(whole)
    whole.set_epoch(4, start=3)
    assert list(whole) == indices[3:] and len(whole) == len(indices)  # an epoch keeps its length
    whole.set_epoch(5)
    assert len(list(whole)) == len(indices)


def _wait(pipe: Connection) -> None:
    loader.start_worker(0)
    pipe.send("ready")
    time.sleep(60)


def test_a_worker_that_is_asked_to_leave_stays_for_a_while(monkeypatch):
    monkeypatch.setattr(loader, "GRACE", 0.6)
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=_wait, args=(theirs,), daemon=True)
    worker.start()
    assert ours.recv() == "ready"
    for name in ("TERM", "INT", "USR1"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    worker.join(0.2)
    assert worker.is_alive()
    worker.join(20)
    assert worker.exitcode == -signal.SIGALRM
