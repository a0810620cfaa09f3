"""What the data side of going on needs: a sampler that starts inside an epoch, workers that stay until told."""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from multiprocessing.connection import Connection

import pytest

from mtltrack.data.loader import start_worker
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
    start_worker(0)
    pipe.send("ready")
    time.sleep(60)


def test_a_worker_leaves_when_its_training_says_so_and_not_when_others_do():
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=_wait, args=(theirs,), daemon=True)
    worker.start()
    assert ours.recv() == "ready"
    for name in ("TERM", "INT", "USR1"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    worker.join(0.3)
    assert worker.is_alive()
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0
