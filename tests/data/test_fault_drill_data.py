"""Corrupt data, lost workers and bad storage, in small: the rows of the drill, and what messages say."""

from __future__ import annotations

import json
import os
import re
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
from tools.drill import data_faults, storage, workers
from tools.drill.data_faults import World

from mtltrack.core.errors import ConfigError, DataError, TrainingError
from mtltrack.core.paths import need_writable
from mtltrack.data import EpochSampler, build_loader
from mtltrack.data.images import with_missing
from mtltrack.data.pack import PARTIAL, pack_folder
from mtltrack.data.stores import LmdbStore
from mtltrack.data.supervision import ClipLoader, supervised

FORKS = "ignore:.*multi-threaded, use of fork:DeprecationWarning"


@pytest.mark.filterwarnings(FORKS)
def test_the_drill_finds_a_list_that_is_wrong(tmp_path: Path) -> None:
    world = World(tmp_path, 2, 45).write()
    assert data_faults.listing("sound", world.data, world.labels, {}, True).passed
    wanted = data_faults.spoil(world, 10)
    assert len(wanted) == 10 and set(wanted.values()) == set(data_faults.KINDS)
    del wanted[next(iter(wanted))]  # with all of them it passes in the short drill
    assert not data_faults.listing("one too many", world.data, world.labels, wanted, True).passed


@pytest.mark.filterwarnings(FORKS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_worker_is_named_soon(number: signal.Signals, tmp_path: Path) -> None:
    root = World(tmp_path, 2, 30).write().data
    busy = number == signal.SIGKILL
    patience = 60.0 if busy else 2.0
    seconds, text = workers.lose_worker(root, 2, number, name="validation", busy=busy, patience=patience)
    assert seconds < 300 and "of 2 of the validation loader (process " in text
    if number == signal.SIGKILL:
        assert "was killed by signal 9 (SIGKILL)" in text and "Lower TRAIN.NUM_WORKER" in text
    else:
        assert re.search(r"has hung for \d+ s .* raise TRAIN\.LOADER_TIMEOUT \(2 s a sample", text)
    assert text.endswith("The same command goes on after the last checkpoint.")


class Failing(data_faults.FolderSequences):
    """Its pictures make the worker leave, or tell of bad data for ever."""

    how = "leave"

    def image(self, i: int, frame: int) -> np.ndarray:
        if self.how == "leave":
            os._exit(3)
        raise DataError(f"{self._image_key(i, frame)}: the image is cut off")


def _loader(root: Path, how: str) -> ClipLoader:
    source = Failing(root)
    source.how = how
    clips = data_faults.ClipDataset([source], None, 40, 1, data_faults.CROP, max_interval=30)
    return build_loader(clips, 4, 1, EpochSampler(40), patience=20.0)


@pytest.mark.filterwarnings(FORKS)
def test_a_worker_that_leaves_and_one_with_hopeless_data(tmp_path: Path) -> None:
    root = World(tmp_path, 1, 30).write().data
    loader = _loader(root, "leave")
    with pytest.raises(
        TrainingError, match=r"worker 0 of 1 .* left with exit status 3 at sample 0 of epoch 0"
    ):
        with supervised(loader):
            list(loader)
    assert loader.processes == []
    loader = _loader(root, "bad")
    with pytest.raises(DataError) as caught, supervised(loader):
        list(loader)
    assert str(caught.value).startswith("no usable clip of 1 template")  # without the worker's trace
    assert caught.value.__cause__ is not None


@pytest.mark.filterwarnings(FORKS)
def test_the_workers_end_with_the_block_and_start_anew(tmp_path: Path) -> None:
    root = World(tmp_path, 1, 30).write().data
    clips = data_faults.ClipDataset(
        [data_faults.FolderSequences(root)], None, 8, 1, data_faults.CROP, max_interval=30
    )
    loader = build_loader(clips, 4, 1, EpochSampler(8))
    with supervised(loader, None):
        first = [clip.sources for clip in loader]
        (worker,) = loader.processes
    assert not worker.is_alive() and loader.processes == []
    assert [clip.sources for clip in loader] == first
    loader.close()
    in_process = build_loader(clips, 4, 0, EpochSampler(8))
    assert [clip.sources for clip in in_process] == first
    with pytest.raises(RuntimeError, match=r"^something else$"), supervised(loader):
        raise RuntimeError("something else")
    assert loader.explain(RuntimeError("CUDA out of memory")) is None


def test_packing_is_complete_or_partial_by_name(tmp_path: Path) -> None:
    files = storage.write_files(tmp_path / "files", 60, 3000)
    row = storage.full_disk(files, tmp_path)
    assert row.passed, row
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["data.mdb", "sources.mdb"]
    changed = files / "s0" / "00000.bin"
    changed.write_bytes(b"other")
    (tmp_path / f"full{PARTIAL}").mkdir()
    with pytest.raises(DataError, match=r"both .*full and .*full\.partial are there.* Delete one of them"):
        pack_folder(files, tmp_path / "full")
    (tmp_path / f"full{PARTIAL}").rmdir()
    assert pack_folder(files, tmp_path / "full").written == 1
    assert LmdbStore(tmp_path / "full").read("s0/00000.bin") == b"other"


@pytest.mark.filterwarnings(FORKS)
def test_lmdbs_are_shared_and_grow_and_those_that_are_cut_are_told(tmp_path: Path) -> None:
    files = storage.write_files(tmp_path / "files", 60, 3000)
    pack_folder(files, tmp_path / "lmdb")
    for row in (
        storage.shared(tmp_path / "lmdb", 2),
        storage.full_map(files, tmp_path),
        storage.cut_file(tmp_path / "lmdb", tmp_path),
        *storage.read_only(tmp_path / "lmdb", tmp_path),
    ):
        assert row.passed, row
    with pytest.raises(
        DataError, match=r"cut/data\.mdb: the LMDB is cut off: it has \d+ bytes of \d+\. Copy it"
    ):
        LmdbStore(tmp_path / "cut").read("s0/00000.bin")
    (tmp_path / "cut" / "data.mdb").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cut: can't be opened as LMDB .*Pack it again"):
        LmdbStore(tmp_path / "cut").exists("a")


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    need_writable(tmp_path / "new" / "output", "--save_dir")
    assert list((tmp_path / "new" / "output").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--save_dir: nothing can be written to .*file/output \(Not a dir"):
        need_writable(tmp_path / "file" / "output", "--save_dir")


@pytest.mark.parametrize(
    ("images", "count", "wanted"),
    [
        (["a1/008.jpg", "a1/010.jpg"], 3, ["a1/008.jpg", "a1/009.jpg", "a1/010.jpg"]),
        (["a/2.jpg", "a/3.jpg"], 3, ["a/2.jpg", "a/3.jpg"]),  # which one is missing?
        (["a/1.jpg", "a/x.jpg"], 3, ["a/1.jpg", "a/x.jpg"]),
        (["a/1.jpg", "b/3.jpg"], 3, ["a/1.jpg", "b/3.jpg"]),
        (["a/1.jpg", "a/2.jpg"], 2, ["a/1.jpg", "a/2.jpg"]),
        (["a/9.jpg", "a/11.jpg"], 3, ["a/9.jpg", "a/11.jpg"]),  # a/10.jpg or a/010.jpg
    ],
)
def test_missing_images_are_found_by_their_numbers(images: list[str], count: int, wanted: list[str]) -> None:
    assert with_missing(images, count) == wanted


def test_a_broken_line_is_listed_with_its_number(tmp_path: Path) -> None:
    world = World(tmp_path, 1, 30).write()
    place = data_faults.KINDS["JSONL line that is no JSON"](world, 0, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (log,) = data_faults.read_all(world.data, world.labels, 60, 1, 0)
    assert [record["line"] for record in log.records()] == [9] and place[1] == 9
    assert json.loads(json.dumps(log.records()))[0]["file"] == place[0]
