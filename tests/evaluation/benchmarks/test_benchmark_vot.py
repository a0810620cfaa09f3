"""VOT2018 and VOT2022: lists, rotated boxes, masks, tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_files import numbers_of, write, write_images

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks import vot18, vot22
from mtltrack.evaluation.benchmarks.lists import listed
from mtltrack.evaluation.benchmarks.regions import read_regions


def test_lists() -> None:
    old, new = list(listed("vot18")), list(listed("vot22"))
    assert len(old) == 60 and len(new) == 62
    assert old[0] == "ants1" and old[-1] == "zebrafish1" and "bmx" in old and "bmx" not in new
    assert {"agility", "snake", "tennis"} <= set(new) - set(old)


def test_regions(tmp_path: Path) -> None:
    # 4 x 3 pixels at (10, 20): .##. / .##. / ....
    path = write(
        tmp_path / "groundtruth.txt",
        "1.5,2,30,40\n"
        "4,1,9,3,7,8,2,6\n"
        "m10,20,4,3,1,2,2,2,5\n"
        "m10,20,4,3,12\n"
        "0\n"
        "nan,nan,nan,nan\n"
        "0 0 4 0 4 3\n",
    )
    boxes = read_regions(path)
    assert boxes[0].tolist() == [1.5, 2, 30, 40]
    assert boxes[1].tolist() == [2, 1, 7, 7]  # x from 2 to 9, y from 1 to 8
    assert boxes[2].tolist() == [11, 20, 2, 2]
    assert np.isnan(boxes[3:6]).all()
    assert boxes[6].tolist() == [0, 0, 4, 3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3", r"line 2: wanted x,y,w,h, a polygon .* found '1,2,3'"),
        ("a,b,c,d", r"line 2: wanted x,y,w,h"),
        ("m1,2,3", r"line 2: wanted x,y,w,h"),
        ("m0,0,2,2,1,4", r"line 2: the runs of the mask add up to 5, but its rectangle has 2 x 2 pixels"),
    ],
)
def test_regions_that_cannot_be_read(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_regions(write(tmp_path / "groundtruth.txt", f"1,2,3,4\n{line}\n"))


def test_empty_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"groundtruth\.txt' is empty; wanted a region for each frame"):
        read_regions(write(tmp_path / "groundtruth.txt", "\n"))
    with pytest.raises(DataError, match=r"can't read '.*nothing\.txt'"):
        read_regions(tmp_path / "nothing.txt")


@pytest.mark.parametrize("place", ["", "sequences"])
def test_layout(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place / "ants1"
    write_images(folder / "color", range(1, 4), 8)
    write(folder / "groundtruth.txt", "4,1,9,3,7,8,2,6\n1\n1,1,2,1,2,2,1,2\n")
    write(folder / "occlusion.tag", "0\n1\n0\n")
    write(folder / "size_change.tag", "0\n0\n0\n")
    found = vot18.load(tmp_path)
    sequence = found.sequences[0]
    assert numbers_of(sequence) == [1, 2, 3] and sequence.boxes_xywh[1].tolist() == [0, 0, 0, 0]
    assert sequence.visible is not None and sequence.visible.tolist() == [True, False, True]
    assert sequence.attributes == {"occlusion"}
    assert found.notes[0].startswith("59 of the 60 sequences are not in")
    write(folder / "size_change.tag", "yes\n")
    with pytest.raises(DataError, match=r"size_change\.tag': wanted 0 or 1 a frame"):
        vot18.load(tmp_path)


def test_masks_of_vot22(tmp_path: Path) -> None:
    folder = tmp_path / "sequences" / "agility"
    write_images(folder / "color", range(1, 3), 8)
    write(folder / "groundtruth.txt", "m10,20,4,3,1,2,2,2,5\n3,4,5,6\n")
    sequence = vot22.load(tmp_path).sequences[0]
    assert sequence.boxes_xywh.tolist() == [[11, 20, 2, 2], [3, 4, 5, 6]]
    with pytest.raises(DataError, match=r"vot22: no sequence was found in .*roots\.vot22 in local\.yaml"):
        vot22.load(tmp_path / "sequences" / "agility")
