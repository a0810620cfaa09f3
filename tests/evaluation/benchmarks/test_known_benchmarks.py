"""Benchmarks by name: all sixteen, their roots, what is said when data is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import write, write_boxes, write_images

from mtltrack.core.errors import DataError
from mtltrack.core.paths import checkout_root, known_roots
from mtltrack.evaluation.benchmarks import load_benchmark
from mtltrack.evaluation.benchmarks.known import LAYOUTS, LOADERS

NAMES = (
    "otb nfs uav tc128 tc128ce trackingnet got10k_test got10k_val got10k_ltrval lasot lasot_lmdb "
    "lasot_extension_subset vot18 vot22 itb tnl2k"
).split()


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local.yaml with a data folder beside it."""
    monkeypatch.setenv("MTLTRACK_LOCAL", str(write(tmp_path / "local.yaml", "data_dir: data\n")))
    return tmp_path / "local.yaml"


def test_names() -> None:
    assert list(LOADERS) == list(LAYOUTS) == NAMES
    roots = {key for group in known_roots().values() for key in group}
    assert set(NAMES) <= roots


def test_a_benchmark_by_its_name(local: Path) -> None:
    root = local.parent / "data" / "otb"
    write_images(root / "Fish" / "img", range(1, 4))
    write_boxes(root / "Fish" / "groundtruth_rect.txt", 3)
    found = load_benchmark("otb", {"Fish": (2, 3)})
    assert found.name == "otb" and len(found.sequences[0]) == 2
    assert found.sequences[0].attributes == {"IV"}  # also of a part


@pytest.mark.parametrize("name", NAMES)
def test_no_data_at_all(local: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load_benchmark(name)
    text = str(caught.value)
    assert f"Edit roots.{name} (or data_dir) in {local}" in text  # the key
    assert f"was looked for at {local.parent / 'data'}" in text  # the folder
    assert LAYOUTS[name] in text  # the layout


@pytest.mark.parametrize("name", NAMES)
def test_a_root_without_its_data(local: Path, name: str) -> None:
    entry = next(group[name] for group in known_roots().values() if name in group)
    root = local.parent / "data" / entry["folder"]
    root.mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        load_benchmark(name)
    text = str(caught.value)
    assert f"roots.{name} in local.yaml (now {root})" in text and LAYOUTS[name] in text


def test_every_benchmark_is_documented() -> None:
    root = checkout_root()
    if root is None:
        pytest.skip("no docs beside an installed package")
    table = (root / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"| {name} |" in table or f"| {name}, " in table or f", {name} |" in table, name
