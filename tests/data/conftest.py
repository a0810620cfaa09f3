"""The tiny data sets of `data_files`, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from data_files import MAKERS


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the root of a tiny data set by the name of its layout; not to be written to."""
    roots: dict[str, Path] = {}

    def root(layout: str) -> Path:
        if layout not in roots:
            roots[layout] = MAKERS[layout](tmp_path_factory.mktemp(layout))
        return roots[layout]

    return root
