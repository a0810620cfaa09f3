"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable, default)).expanduser().resolve()


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real test data, $MTLTRACK_DATA; the test is skipped when it is absent."""
    folder = _folder("MTLTRACK_DATA", ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real test data not found at {folder}; set MTLTRACK_DATA")
    return folder


@pytest.fixture(scope="session")
def references_root() -> Path:
    """The folder of reference outputs, $MTLTRACK_REFERENCES; the test is skipped when it is absent."""
    folder = _folder("MTLTRACK_REFERENCES", ROOT.parent / "shared" / "parity")
    if not folder.is_dir():
        pytest.skip(f"reference outputs not found at {folder}; set MTLTRACK_REFERENCES")
    return folder
