"""ITB and TNL2K, whose folders are the list."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import numbers_of, write, write_boxes, write_images

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks import itb, tnl2k


def test_itb(tmp_path: Path) -> None:
    for scenario, name in (("Human part", "face2"), ("Human part", "face10"), ("animal", "cat")):
        write_images(tmp_path / scenario / name, range(1, 3), 5)
        write_boxes(tmp_path / scenario / name / "groundtruth.txt", 2)
    found = itb.load(tmp_path)
    assert [item.name for item in found.sequences] == ["face2", "face10", "cat"]
    assert found.sequences[0].attributes == {"Human_part"} and numbers_of(found.sequences[0]) == [1, 2]
    write_images(tmp_path / "animal" / "face2", [1])
    write_boxes(tmp_path / "animal" / "face2" / "groundtruth.txt", 1)
    with pytest.raises(DataError, match=r"two sequences in .* are called 'face2'.*rename the folder of one"):
        itb.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"itb: no sequence was found in .*<scenario>/<seq>/groundtruth\.txt"):
        itb.load(tmp_path / "empty")


def test_tnl2k(tmp_path: Path) -> None:
    folder = tmp_path / "CrashCar_video_04"
    write_images(folder / "imgs", range(1, 4), 8, "png")
    write(folder / "groundtruth.txt", "1,2,3,4\n0,0,0,0\n5,6,7,8\n")
    found = tnl2k.load(tmp_path)
    assert found.notes == (f"1 sequences in {tmp_path}, the benchmark has 700",)
    sequence = found.sequences[0]
    assert sequence.visible is not None and sequence.visible.tolist() == [True, False, True]
    assert sequence.attributes == frozenset()
    flags = ["0"] * 17
    flags[0] = flags[16] = "1"
    path = write(folder / "attributes.txt", " ".join(flags))
    assert tnl2k.load(tmp_path).sequences[0].attributes == {"CM", "MS"}
    path.write_text(",".join(["1", *flags]))
    assert tnl2k.load(tmp_path).sequences[0].attributes == {"CM", "MS"}
    path.write_text("1 0")
    with pytest.raises(
        DataError, match=r"attributes\.txt: has 2 entries, but the list of attributes \(CM ROT"
    ):
        tnl2k.load(tmp_path)
    with pytest.raises(DataError, match=r"tnl2k: there is no folder .*<seq>/imgs"):
        tnl2k.load(tmp_path / "nowhere")
