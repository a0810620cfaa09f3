"""Loader processes that are killed or hang: an error within a minute that says which, no endless wait."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from tools.drill.data_faults import World
from tools.drill.row import Row

from mtltrack.core.errors import TrainingError
from mtltrack.data import ClipDataset, CropSettings, EpochSampler, ViewSettings, build_loader
from mtltrack.data.datasets import FolderSequences
from mtltrack.data.supervision import supervised

CROP = CropSettings(ViewSettings(16, 2.0), ViewSettings(32, 4.0))
LIMIT = 60.0  # seconds


def lose_worker(
    root: Path, workers: int, number: signal.Signals, *, name: str, busy: bool, patience: float
) -> tuple[float, str]:
    """Send a signal to the last worker in the middle of an epoch.

    Args:
        root: of a folder of sequences.
        workers: how many there are.
        number: SIGKILL kills it, SIGSTOP makes it hang.
        name: of the loader.
        busy: the process computes when it happens, and doesn't wait for a batch.
        patience: TRAIN.LOADER_TIMEOUT.

    Returns:
        Seconds until the error came, and its text; "" when none came.
    """
    clips = ClipDataset([FolderSequences(root)], None, 4000, 1, CROP, max_interval=30)
    loader = build_loader(
        clips, 4, workers, EpochSampler(len(clips)), name=name, patience=patience, pin_memory=False
    )
    begin = time.monotonic()
    try:
        with supervised(loader):
            for step, _ in enumerate(loader):
                if step == 3:
                    begin = time.monotonic()
                    os.kill(loader.processes[-1].pid, number)
                    while busy and time.monotonic() < begin + 0.5:
                        torch.ones(64, 64).matmul(torch.ones(64, 64))
    except TrainingError as error:
        return time.monotonic() - begin, str(error)
    return time.monotonic() - begin, ""


def run(short: bool, folder: Path) -> list[Row]:
    """Kill and stop workers of loaders with one to four; the short drill takes one of each."""
    root = World(folder / "workers", 2, 30).write().data
    counts = (2,) if short else (1, 2, 4)
    limit = LIMIT if not short else 10 * LIMIT  # the short drill runs where others compute, too
    rows = []
    for number, what, sign, patience in (
        (signal.SIGKILL, "killed", "was killed by signal 9 (SIGKILL)", 45.0),
        (signal.SIGSTOP, "hanging", "has hung for", 3.0 if short else 45.0),
    ):
        found = [
            lose_worker(root, workers, number, name=name, busy=busy, patience=patience)
            for workers in counts
            for name in (("training",) if short else ("training", "validation"))
            for busy in ((False,) if short or number == signal.SIGSTOP else (False, True))
        ]
        said = sum(sign in text and "loader (process " in text for _, text in found)
        slowest = max(seconds for seconds, _ in found)
        rows.append(
            Row(
                f"a loader process {what}, {len(found)} times (1 of {'/'.join(map(str, counts))})",
                f"an error within {limit:.0f} s that says so",
                f"{said} of {len(found)} said so, after {slowest:.1f} s at most",
                said == len(found) and slowest <= limit,
            )
        )
    return rows
