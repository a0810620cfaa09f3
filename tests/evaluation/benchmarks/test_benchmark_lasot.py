"""LaSOT from a folder and from an LMDB, and its extension."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from benchmark_files import write, write_boxes, write_images

from mtltrack.core.errors import DataError
from mtltrack.data.pack import pack_folder
from mtltrack.data.splits import lasot_test_names
from mtltrack.evaluation.benchmarks import lasot, lasot_extension_subset
from mtltrack.evaluation.benchmarks.lists import listed
from mtltrack.evaluation.benchmarks.stored import StoredFile
from mtltrack.evaluation.report import truths_of
from mtltrack.evaluation.results import ResultFolder
from mtltrack.evaluation.runner import Settings, run
from mtltrack.evaluation.slots import read_rgb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def make(root: Path, place: str = "zebra/zebra-17", frames: int = 3) -> Path:
    folder = root / place
    write_images(folder / "img", range(1, frames + 1), 8)
    write_boxes(folder / "groundtruth.txt", frames)
    write(folder / "full_occlusion.txt", "0,1,0")
    write(folder / "out_of_view.txt", "0,0,1\n")
    return folder


@pytest.mark.parametrize("place", ["zebra/zebra-17", "zebra-17"])
def test_folder(tmp_path: Path, place: str) -> None:
    folder = make(tmp_path, place)
    found = lasot.load(tmp_path)
    assert found.protocol == "lasot" and found.notes[0].startswith("279 of the 280 sequences are not in")
    sequence = found.sequences[0]
    assert sequence.visible is not None and sequence.visible.tolist() == [True, False, False]
    assert sequence.frames[2] == folder / "img" / "00000003.jpg" and sequence.folder == folder
    assert sequence.attributes == {"POC", "DEF", "MB", "CM", "ROT", "SV", "OV", "LR", "ARC"}
    (folder / "out_of_view.txt").write_text("0,0")
    with pytest.raises(
        DataError, match=r"out_of_view.txt: has 2 entries, but the ground truth beside it has 3"
    ):
        lasot.load(tmp_path)
    shutil.rmtree(folder)
    with pytest.raises(
        DataError,
        match=r"lasot: no sequence was found in .*roots\.lasot in local\.yaml .*<class>/<seq>/\{img",
    ):
        lasot.load(tmp_path)


def test_attributes() -> None:
    entries = listed("lasot")
    assert list(entries) == lasot_test_names() and len(entries) == 280
    assert entries["book-11"].attributes == {"POC"}
    # as the captions of the benchmark's own plots say, in the order of its files
    numbers = (47, 187, 142, 89, 86, 175, 100, 33, 273, 118, 53, 104, 141, 249)
    counts = Counter(name for entry in entries.values() for name in entry.attributes)
    assert counts == dict(zip(lasot.ATTRIBUTES, numbers, strict=True))


def test_attributes_in_the_toolkits_order(tmp_path: Path, data_root: Path) -> None:
    theirs = data_root / "stop" / "lasot_boxes" / "truck-6.att.txt"
    if not theirs.is_file():
        pytest.skip(f"{theirs} not found")
    make(tmp_path, "truck/truck-6")
    write(tmp_path / "att" / "truck-6.txt", theirs.read_text())
    theirs_read = lasot.load(tmp_path).sequences[0].attributes
    assert (
        theirs_read == {"POC", "CM", "ROT", "SV", "OV", "LR", "ARC"} == listed("lasot")["truck-6"].attributes
    )


class Bright:
    """Answers boxes that depend on every pixel it is shown."""

    def initialize(
        self,
        rgb: np.ndarray,
        box_xywh: list[float],
        *,
        timestamp: float | None = None,
        zones: Mapping[str, Any] | None = None,
    ) -> None:
        self.box = list(box_xywh)

    def track(self, rgb: np.ndarray, *, timestamp: float | None = None) -> dict[str, Any]:
        weights = np.arange(rgb.size).reshape(rgb.shape) % 251
        return {"target_bbox": [float((rgb * weights).mean()), *self.box[1:]], "score": 1.0, "tasks": {}}


def test_lmdb_gives_the_folders_results_to_the_bit(tmp_path: Path) -> None:
    for place in ("zebra/zebra-17", "bus/bus-2"):
        folder = make(tmp_path / "lasot", place)
        for index, path in enumerate(sorted((folder / "img").iterdir())):
            image = np.random.default_rng(index).integers(0, 255, (30, 40, 3), dtype=np.uint8)
            cv2.imwrite(str(path), image)
    write(tmp_path / "lasot" / "att" / "bus-2.txt", "0,1" + ",0" * 12)  # comes before the list
    pack_folder(tmp_path / "lasot", tmp_path / "lmdb", first_map_size=1 << 20)
    ours, theirs = lasot.load_lmdb(tmp_path / "lmdb"), lasot.load(tmp_path / "lasot")
    assert ours.name == "lasot_lmdb" and ours.protocol == theirs.protocol == "lasot"
    texts = []
    for name, benchmark in (("a", ours), ("b", theirs)):
        results = ResultFolder.of(tmp_path / "out", "t", name)
        summary = run(lambda device: Bright(), benchmark.sequences, Settings(results, decimals=6))
        assert sorted(summary.done) == ["bus-2", "zebra-17"], summary.failed
        texts.append([results.boxes(item).read_bytes() for item in ("bus-2", "zebra-17")])
    assert texts[0] == texts[1]
    for one, other in zip(ours.sequences, theirs.sequences, strict=True):
        assert (one.name, one.attributes) == (other.name, other.attributes)
        assert np.array_equal(one.boxes_xywh, other.boxes_xywh)
        assert one.visible is not None and np.array_equal(one.visible, other.visible)
        for stored, path in zip(one.frames, other.frames, strict=True):
            assert isinstance(stored, StoredFile) and (stored.name, stored.stem) == (path.name, path.stem)
            assert np.array_equal(read_rgb(stored), read_rgb(path))
    assert truths_of(ours)[0].image_size() == (40.0, 30.0)
    again = pickle.loads(pickle.dumps(ours.sequences[0]))  # as worker processes get it
    assert np.array_equal(read_rgb(again.frames[0]), read_rgb(theirs.sequences[0].frames[0]))


def test_missing_lmdb(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"lasot_lmdb: there is no LMDB, that is no file .*data\.mdb.*keys: <class>"
    ):
        lasot.load_lmdb(tmp_path)
    make(tmp_path / "lasot")
    pack_folder(tmp_path / "lasot", tmp_path / "lmdb", first_map_size=1 << 20)
    sequence = lasot.load_lmdb(tmp_path / "lmdb").sequences[0]
    lost = StoredFile(sequence.frames[0].store, "zebra/zebra-17/img/9.jpg")
    assert not lost.is_file() and sequence.frames[0].is_file()
    with pytest.raises(DataError, match=r"key 'zebra/zebra-17/img/9\.jpg' of the LMDB .* doesn't exist"):
        read_rgb(lost)


def test_extension(tmp_path: Path) -> None:
    names = list(listed("lasot_extension_subset"))
    assert len(names) == 150 and len({name.rpartition("-")[0] for name in names}) == 15
    assert {"atv-1", "skatingshoe-10", "wingsuit-10"} <= set(names)
    make(tmp_path, "atv/atv-1")
    make(tmp_path, "zebra/zebra-17")
    found = lasot_extension_subset.load(tmp_path)
    assert [item.name for item in found.sequences] == ["atv-1"] and found.protocol == "otb"
    assert found.sequences[0].visible is not None and found.sequences[0].visible.tolist() == [
        True,
        False,
        False,
    ]
    assert found.notes[0].startswith("149 of the 150 sequences")
    with pytest.raises(DataError, match=r"lasot_extension_subset: no sequence was found .*atv/atv-1"):
        lasot_extension_subset.load(tmp_path / "zebra")
