"""TempleColor-128 and its part that OTB hasn't."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import numbers_of, write, write_boxes, write_images

from mtltrack.core.errors import DataError
from mtltrack.core.paths import known_roots
from mtltrack.evaluation.benchmarks import tc128
from mtltrack.evaluation.benchmarks.lists import listed


def make(root: Path, name: str, first: int, count: int) -> None:
    write_images(root / name / "img", range(1, 12))
    write_boxes(root / name / f"{name}_gt.txt", count, first)
    write(root / name / f"{name}_frames.txt", f"{first},{first + count - 1}\n")


def test_list() -> None:
    entries = listed("tc128")
    assert len(entries) == 129 and sum("_ce" in name for name in entries) == 78
    assert entries["Crossing"].attributes == {"SV", "DEF", "BC"}
    assert entries["Thunder_ce"].attributes == frozenset()


def test_layout(tmp_path: Path) -> None:
    make(tmp_path, "Airport_ce", 3, 4)
    make(tmp_path, "Jogging_1", 1, 2)
    (tmp_path / "notes").mkdir()
    whole, new = tc128.load(tmp_path), tc128.load_ce(tmp_path)
    assert [item.name for item in whole.sequences] == ["Airport_ce", "Jogging_1"]
    assert [item.name for item in new.sequences] == ["Airport_ce"] and new.name == "tc128ce"
    assert numbers_of(new.sequences[0]) == [3, 4, 5, 6] and new.sequences[0].boxes_xywh[0, 0] == 3
    assert whole.sequences[1].attributes == {"OCC", "DEF", "OPR"}
    assert whole.notes[0].startswith("127 of the 129 sequences are not in")
    assert new.notes[0].startswith("77 of the 78 sequences are not in")


def test_both_names_share_a_root() -> None:
    roots = known_roots()["testing"]
    assert roots["tc128ce"]["shares"] == "tc128" and roots["tc128ce"]["folder"] == roots["tc128"]["folder"]


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tc128: no sequence was found in .*<Seq>/<Seq>_frames\.txt"):
        tc128.load(tmp_path)
    with pytest.raises(DataError, match=r"tc128: there is no folder .*nowhere\. Below its root"):
        tc128.load(tmp_path / "nowhere")
    make(tmp_path, "Cup", 1, 2)
    path = tmp_path / "Cup" / "Cup_frames.txt"
    path.write_text("5,2\n")
    with pytest.raises(DataError, match=r"Cup_frames\.txt' says 5,2; wanted first,last"):
        tc128.load(tmp_path)
    path.write_text("1,5\n")
    with pytest.raises(DataError, match=r"Cup_gt\.txt' has 2 boxes, .*images 1 to 5, which are 5"):
        tc128.load(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"Cup_frames\.txt' is missing; wanted a line first,last"):
        tc128.load(tmp_path)
