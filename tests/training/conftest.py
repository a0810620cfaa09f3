"""What keeps these tests fast: many small runs, each of which collects garbage at the end of a stage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from accelerate.state import AcceleratorState


@pytest.fixture(scope="package", autouse=True)
def _only_new_garbage() -> Iterator[None]:
    gc.freeze()  # the modules that are imported by now needn't be looked through each time
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on tensors this small, threads only wait for one another
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """accelerate keeps one state a process, whose precision can't be changed."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
