"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mtltrack.core import kernels, paths


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is remembered of the processor out of the user's folder, for child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def onednn_is_float32() -> None:
    """Skip where oneDNN can't be told to multiply float32 matrices, or rounds them to bfloat16."""
    why_not = kernels.refusal()
    if why_not is not None:
        pytest.skip(why_not)


def _or_skip(folder: Path, what: str, variable: str) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{what} not found at {folder}; set {variable}")
    return folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real test data, $MTLTRACK_DATA; the test is skipped when it is absent."""
    return _or_skip(paths.test_data_root(), "real test data", "MTLTRACK_DATA")


@pytest.fixture(scope="session")
def references_root() -> Path:
    """The folder of reference outputs, $MTLTRACK_REFERENCES; the test is skipped when it is absent."""
    return _or_skip(paths.references_root(), "reference outputs", "MTLTRACK_REFERENCES")
