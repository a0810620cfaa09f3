"""Need for Speed."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import numbers_of, write_boxes, write_images

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks import nfs
from mtltrack.evaluation.benchmarks.lists import listed


def test_list() -> None:
    entries = listed("nfs")
    assert len(entries) == 100 and entries["Gymnastics"].frames == 368 and entries["zebra_fish"].frames == 671
    # the videos have 383 thousand frames at 240 a second
    assert round(sum(entry.frames or 0 for entry in entries.values()) * 8 / 1000) in (383, 384)


def test_layout(tmp_path: Path) -> None:
    write_images(tmp_path / "sequences" / "Gymnastics", range(1, 5), 5)
    write_boxes(tmp_path / "anno" / "nfs_Gymnastics.txt", 3, separator="\t")
    found = nfs.load(tmp_path)
    assert found.protocol == "nfs" and found.sequences[0].name == "nfs_Gymnastics"
    assert numbers_of(found.sequences[0]) == [1, 2, 3]
    assert "images after the last box are left out: 'nfs_Gymnastics' (4 images, 3 boxes)" in found.notes
    (tmp_path / "sequences" / "Gymnastics").rename(tmp_path / "sequences" / "x")
    with pytest.raises(DataError, match=r"images of 'Gymnastics' are missing, there is no folder"):
        nfs.load(tmp_path)
    with pytest.raises(DataError, match=r"nfs: no sequence was found in .*nowhere/anno\."):
        nfs.load(tmp_path / "nowhere")
