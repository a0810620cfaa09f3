"""The loader: worker processes that build clips, and batches that don't depend on how many there are."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from types import FrameType
from typing import Any

import cv2
import torch
from torch.utils.data import Dataset

from mtltrack.data.collate import Sample, collate
from mtltrack.data.sampler import EpochSampler
from mtltrack.data.supervision import ClipLoader

PATIENCE = 45.0
"""Seconds that a worker may take for one sample before it counts as hung."""
GRACE = 20.0
"""Seconds that a worker stays after SIGTERM."""


def start_worker(worker: int) -> None:  # noqa: ARG001
    """Keep a worker to one thread: the workers themselves are the parallelism.

    Signals that ask the whole training to leave reach its workers too. They stay for the step that is being
    made: the training tells them when to go, and after `GRACE` seconds they go in any case.
    """
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has no SIGUSR1
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGTERM, _leave_later)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _leave_later(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's signature
    if signal.getitimer(signal.ITIMER_REAL)[0] == 0:
        signal.setitimer(signal.ITIMER_REAL, GRACE)  # which ends the process


def start_method() -> str:
    """Return how workers are started.

    fork is fastest, but a forked process inherits the state of a CUDA driver that is already in use; from
    then on, and on systems without fork, a clean process is started.
    """
    methods = multiprocessing.get_all_start_methods()
    if sys.platform.startswith("linux") and not torch.cuda.is_initialized():
        return "fork"
    return "forkserver" if "forkserver" in methods else "spawn"


def build_loader(
    dataset: Dataset[Sample],
    batch_size: int,
    num_workers: int,
    epoch_sampler: EpochSampler,
    pin_memory: bool | None = None,
    drop_last: bool = False,
    seed: int = 0,
    name: str = "training",
    patience: float = PATIENCE,
) -> ClipLoader:
    """Return a loader of `Clip` batches; call `epoch_sampler.set_epoch` before iterating over an epoch.

    Args:
        dataset: where the samples come from.
        batch_size: samples a batch, on this rank.
        num_workers: worker processes; 0 builds the samples in this process.
        epoch_sampler: order of the samples.
        pin_memory: page-locked batches; None: if CUDA can be used.
        drop_last: leave out a last batch that isn't full.
        seed: of what torch draws for its workers. The loader has a generator of its own, so that neither
            iterating nor the number of workers moves the process's random numbers.
        name: what messages call the loader.
        patience: seconds that a worker may take for one sample (TRAIN.LOADER_TIMEOUT); 0: for ever.
    """
    pin = torch.cuda.is_available() if pin_memory is None else pin_memory and torch.cuda.is_available()
    workers: dict[str, Any] = {}
    if num_workers > 0:
        workers = {
            "worker_init_fn": start_worker,
            "persistent_workers": True,
            "multiprocessing_context": start_method(),
        }
    return ClipLoader(
        dataset,
        name=name,
        patience=patience,
        batch_size=batch_size,
        sampler=epoch_sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin,
        drop_last=drop_last,
        generator=torch.Generator().manual_seed(seed),
        **workers,
    )
