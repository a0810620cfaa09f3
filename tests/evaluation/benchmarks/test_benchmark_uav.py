"""UAV123: parts of recordings, frames without a target, attributes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from benchmark_files import numbers_of, write, write_boxes, write_images

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks import uav
from mtltrack.evaluation.benchmarks.lists import listed


def test_list() -> None:
    entries = listed("uav")
    assert len(entries) == 123
    assert sum(entry.frames or 0 for entry in entries.values()) == 112578  # as the paper says
    assert (entries["bird1_2"].first, entries["bird1_2"].last) == (775, 1477)
    assert (entries["uav1_3"].first, entries["uav1_3"].last) == (2473, 3469)
    assert entries["building1"].attributes == frozenset() and entries["person1"].attributes == {"CM"}


def test_attributes_are_as_frequent_as_in_the_paper() -> None:
    counts = Counter(name for entry in listed("uav").values() for name in entry.attributes)
    assert counts == dict(zip(uav.ATTRIBUTES, (109, 68, 48, 28, 33, 73, 30, 21, 31, 60, 70, 39), strict=True))


def test_parts_of_a_recording(tmp_path: Path) -> None:
    write_images(tmp_path / "data_seq" / "UAV123" / "bird1", range(770, 780), 6)
    write(tmp_path / "anno" / "UAV123" / "bird1_2.txt", "1,2,3,4\nNaN,NaN,NaN,NaN\n5,6,7,8\n")
    found = uav.load(tmp_path)
    assert found.protocol == "uav"
    sequence = found.sequences[0]
    assert sequence.name == "uav_bird1_2" and numbers_of(sequence) == [775, 776, 777]
    assert sequence.visible is not None and sequence.visible.tolist() == [True, False, True]
    assert sequence.attributes == {"SV", "ARC", "LR", "FM", "FOC", "POC", "OV"}
    path = write(tmp_path / "anno" / "UAV123" / "att" / "bird1_2.txt", "0,0,0,0,0,0,0,1,0,0,0,1\n")
    assert uav.load(tmp_path).sequences[0].attributes == {"BC", "SOB"}
    path.write_text("0,1")
    with pytest.raises(DataError, match=r"bird1_2\.txt: has 2 entries, but the list of attributes \(SV ARC"):
        uav.load(tmp_path)


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"uav: no sequence was found in .*anno/UAV123\. Below its root"):
        uav.load(tmp_path)
    write_boxes(tmp_path / "anno" / "UAV123" / "car1_s.txt", 2)
    with pytest.raises(DataError, match=r"images of 'car1_s' are missing, .*data_seq/UAV123/car1_s\."):
        uav.load(tmp_path)
