"""Files of features: written whole, checked when read, kept within a limit, shared by several processes."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mtltrack.training import feature_store
from mtltrack.training.feature_store import Entry, FeatureStore, in_units

GROUP, KEY = "a" * 40, "bc" * 20


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, said: list[str]) -> FeatureStore:
    return FeatureStore(tmp_path / "cache", 1_000_000, said.append)


def entry(floats: int = 6) -> Entry:
    values = torch.arange(floats, dtype=torch.float32)
    return Entry({"x": values, "kept": values > 2, "half": values.bfloat16()}, {"grid": [2, 3]})


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_is_written_is_read_back_and_other_programs_can_read_it_too(store):
    assert not store.has(GROUP, KEY) and store.read(GROUP, KEY) is None
    store.write(GROUP, KEY, entry())
    assert store.has(GROUP, KEY)
    found = store.read(GROUP, KEY)
    assert found.about == {"grid": [2, 3]}
    for name, tensor in entry().tensors.items():
        assert found.tensors[name].dtype == tensor.dtype and torch.equal(found.tensors[name], tensor)
    with safe_open(str(store.folder / GROUP / "bc" / f"{KEY}.safetensors"), framework="pt") as file:
        assert torch.equal(file.get_tensor("x"), entry().tensors["x"])


def test_every_damaged_byte_is_noticed_told_and_the_entry_gone(store, said):
    store.write(GROUP, KEY, entry())
    path = store.folder / GROUP / "bc" / f"{KEY}.safetensors"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        found = store.read(GROUP, KEY)
        if found is not None:  # padding of the header is nobody's
            assert whole[place : place + 1] == b" " and torch.equal(found.tensors["x"], entry().tensors["x"])
            continue
        assert not path.exists()
        assert f"WARNING: {path} can't be used (" in said[-1] and "are computed again" in said[-1]
    path.write_bytes(whole[:-9])  # as after a power cut
    assert store.read(GROUP, KEY) is None


def test_an_entry_under_another_key_is_not_that_samples(store, said):
    store.write(GROUP, KEY, entry())
    other = "bc" + "0" * 38
    os.rename(store._path(GROUP, KEY), store._path(GROUP, other))
    assert store.read(GROUP, other) is None
    assert "its bytes aren't those that were written" in said[-1]


def test_a_full_disk_is_told_once_and_reading_goes_on(store, said, monkeypatch):
    store.write(GROUP, KEY, entry())

    def full(self, content):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for number in range(2):
        store.write(GROUP, f"0{number}", entry())
    assert len(said) == 1 and "No space left on device" in said[0] and "training goes on" in said[0]
    assert store.read(GROUP, KEY) is not None
    assert [path.name for path in store.folder.rglob("*.tmp")] == []


def test_at_the_limit_writing_stops_and_what_is_there_stays(tmp_path, said):
    store = FeatureStore(tmp_path, 10_000, said.append)
    for number in range(20):
        store.write(GROUP, f"{number:02d}", entry(200))
    there = [number for number in range(20) if store.has(GROUP, f"{number:02d}")]
    assert there == list(range(len(there))) and 3 <= len(there) < 10  # the first ones; each has 1400 bytes
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 10_000
    assert len(said) == 1 and "reached its limit of 10 kB (TRAIN.FEATURE_CACHE.MAX_GB)" in said[0]


def test_groups_that_nobody_has_used_for_an_hour_give_way_the_oldest_first(tmp_path, said):
    store = FeatureStore(tmp_path, 7_500, said.append)
    older, old, recent = (digit * 40 for digit in "123")
    for group, seconds in ((older, 9000), (old, 8000), (recent, 60)):
        store.write(group, KEY, entry(200))
        age(tmp_path / group / "used", seconds)
    mine = FeatureStore(tmp_path, 7_500, said.append)
    mine.open(GROUP)
    for number in range(2):
        mine.write(GROUP, f"{number:02d}", entry(200))
    assert {path.name for path in tmp_path.iterdir()} == {old, recent, GROUP}
    assert said == [f"feature cache: removed {tmp_path / older}, which nobody has used lately, to make room"]
    for number in range(2, 9):
        mine.write(GROUP, f"{number:02d}", entry(200))
    assert {path.name for path in tmp_path.iterdir()} == {recent, GROUP}


def test_what_else_lies_in_the_folder_neither_counts_nor_is_touched(tmp_path, said):
    store = FeatureStore(tmp_path / "cache", 5_000, said.append)
    others = [store.folder / name for name in ("notes.txt", "data/old.tmp", "data/img/1.jpg")]
    others.append(store.folder / ("1" * 40) / "ab" / "own.txt")
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(4000))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "used").touch()
    (store.folder / ("2" * 40)).symlink_to(elsewhere)
    for path in (*store.folder.rglob("*"), elsewhere / "used"):
        age(path, 9000)
    store.open(GROUP)
    for number in range(9):
        store.write(GROUP, f"{number:02d}", entry(200))
    assert all(path.is_file() for path in (*others, elsewhere / "used"))
    assert [text for text in said if "removed" in text] == [] and store.has(GROUP, "00")


def test_an_entry_larger_than_the_limit_is_left_out(tmp_path, said):
    store = FeatureStore(tmp_path / "none", 100, said.append)
    store.open(GROUP)
    store.write(GROUP, KEY, entry())
    assert not store.has(GROUP, KEY) and "reached its limit of 0.1 kB" in said[0]


def test_a_folder_that_is_removed_meanwhile_is_made_again(store, said, monkeypatch):
    monkeypatch.setattr(feature_store, "_write", lambda path, content: path.read_bytes())
    store.write(GROUP, KEY, entry())
    monkeypatch.undo()
    store.write(GROUP, KEY, entry())
    assert store.has(GROUP, KEY) and said == []


def test_reading_and_opening_mark_a_group_as_used(store, tmp_path):
    store.write(GROUP, KEY, entry())
    mark = store.folder / GROUP / "used"
    for use in ("read", "open"):
        age(mark, 5000)
        another = FeatureStore(store.folder, 1000, print)
        another.read(GROUP, KEY) if use == "read" else another.open(GROUP)
        assert time.time() - mark.stat().st_mtime < 1000, use


def test_what_others_write_counts_and_what_they_left_half_written_goes(tmp_path, said):
    one, other = (FeatureStore(tmp_path, 1_000_000, said.append) for _ in range(2))
    one.write(GROUP, KEY, entry())
    other.write(GROUP, KEY, entry())  # the same sample: the same bytes
    half, young = tmp_path / GROUP / "bc" / ".x.tmp", tmp_path / GROUP / "bc" / ".y.tmp"
    half.write_bytes(b"123"), young.write_bytes(b"123")
    age(half, 5000)
    other.open(GROUP)
    assert not half.exists() and young.exists()
    assert other.size == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert torch.equal(one.read(GROUP, KEY).tensors["x"], entry().tensors["x"]) and said == []


def test_the_folder_is_measured_again_after_a_hundredth_of_the_limit(tmp_path, said, monkeypatch):
    store = FeatureStore(tmp_path, 100_000, said.append)
    measured = []
    measure = FeatureStore._measure
    monkeypatch.setattr(FeatureStore, "_measure", lambda self: (measured.append(1), measure(self)))
    for number in range(4):
        store.write(GROUP, f"{number:02d}", entry(200))  # each is more than a hundredth
    assert len(measured) == 3


def test_sizes_for_people():
    assert [in_units(size) for size in (0, 512, 83_800, 2.5e6, 12_345_678_901)] == [
        *("0 kB", "0.512 kB", "83.8 kB", "2.5 MB", "12.35 GB")
    ]


def test_bytes_of_a_tensor_are_its_values_in_order():
    turned = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).t()
    assert bytes(feature_store.bytes_of(turned)) == bytes([1, 3, 2, 4])
    assert len(feature_store.bytes_of(torch.tensor(1.5))) == 4
