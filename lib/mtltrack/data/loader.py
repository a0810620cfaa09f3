"""The loader: worker processes that build clips, and batches that don't depend on how many there are."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from typing import Any, cast

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from mtltrack.core.types import Clip
from mtltrack.data.collate import collate
from mtltrack.data.sampler import ClipDataset, EpochSampler


def start_worker(worker: int) -> None:  # noqa: ARG001
    """Keep a worker to one thread: the workers themselves are the parallelism.

    Signals that ask the whole training to leave reach its workers too; the training tells them when to go.
    """
    for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has no SIGUSR1
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


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
    dataset: ClipDataset,
    batch_size: int,
    num_workers: int,
    epoch_sampler: EpochSampler,
    pin_memory: bool | None = None,
    drop_last: bool = False,
    seed: int = 0,
) -> DataLoader[Clip]:
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
    """
    pin = torch.cuda.is_available() if pin_memory is None else pin_memory and torch.cuda.is_available()
    workers: dict[str, Any] = {}
    if num_workers > 0:
        workers = {
            "worker_init_fn": start_worker,
            "persistent_workers": True,
            "multiprocessing_context": start_method(),
        }
    return DataLoader(
        cast("Dataset[Clip]", dataset),  # collate makes clips of its samples
        batch_size=batch_size,
        sampler=epoch_sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin,
        drop_last=drop_last,
        generator=torch.Generator().manual_seed(seed),
        **workers,
    )
