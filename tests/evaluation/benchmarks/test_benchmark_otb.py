"""OTB: start frames, several targets of one video, attributes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from benchmark_files import numbers_of, write, write_boxes, write_images

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks import otb
from mtltrack.evaluation.benchmarks.lists import listed

SHORT = {
    "Illumination Variation": "IV",
    "Scale Variation": "SV",
    "Occlusion": "OCC",
    "Deformation": "DEF",
    "Motion Blur": "MB",
    "Fast Motion": "FM",
    "In-Plane Rotation": "IPR",
    "Out-of-Plane Rotation": "OPR",
    "Out-of-View": "OV",
    "Background Clutters": "BC",
    "Low Resolution": "LR",
}


def test_list() -> None:
    entries = listed("otb")
    assert len(entries) == 100
    starts = {name: entry.first for name, entry in entries.items() if entry.first != 1}
    assert starts == {"BlurCar1": 247, "BlurCar3": 3, "BlurCar4": 18, "David": 300, "Tiger1": 6}
    assert [name for name in entries if name[-2:] in ("_1", "_2")] == [
        "Human4_2",
        "Jogging_1",
        "Jogging_2",
        "Skating2_1",
        "Skating2_2",
    ]
    assert entries["David"].last == 770 and entries["David"].frames == 471
    assert entries["Football1"].frames == 74 and entries["Doll"].frames == 3872
    assert entries["Fish"].attributes == {"IV"}
    assert entries["Basketball"].attributes == {"IV", "OCC", "DEF", "OPR", "BC"}


def test_list_is_the_toolkits(data_root: Path) -> None:
    path = data_root / "evalcheck" / "OTB100.json.gz"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    theirs = json.loads(gzip.decompress(path.read_bytes()))
    ours = listed("otb")
    assert [name.replace("-", "_") for name in theirs] == list(ours)
    for name, entry in theirs.items():
        mine = ours[name.replace("-", "_")]
        first, last = (int(Path(entry["img_names"][place]).stem) for place in (0, -1))
        assert (mine.first, mine.last, mine.frames) == (first, last, len(entry["gt_rect"]))
        assert mine.attributes == {SHORT[words] for words in entry["attr"]}, name


def test_ranges_and_targets(tmp_path: Path) -> None:
    write_images(tmp_path / "David" / "img", range(298, 303))
    write_boxes(tmp_path / "David" / "groundtruth_rect.txt", 3, first=300, separator="\t")
    write_images(tmp_path / "Jogging" / "img", range(1, 3))
    write_images(tmp_path / "Human4" / "img", range(1, 3))
    for target in (1, 2):
        write_boxes(tmp_path / "Jogging" / f"groundtruth_rect.{target}.txt", 2)
        write_boxes(tmp_path / "Human4" / f"groundtruth_rect.{target}.txt", 2)
    write_boxes(tmp_path / "Mine" / "groundtruth_rect.txt", 2)
    found = otb.load(tmp_path)
    assert [item.name for item in found.sequences] == ["David", "Human4_2", "Jogging_1", "Jogging_2"]
    assert numbers_of(found.sequences[0]) == [300, 301, 302]
    assert found.sequences[0].boxes_xywh[:, 0].tolist() == [300, 301, 302]
    assert not found.sequences[0].one_based and found.sequences[0].visible is None
    notes = "\n".join(found.notes)
    assert "4 sequences have another number of frames than in the benchmark; scores over them" in notes
    assert "published ones: 'David' (3, not 471), 'Human4_2' (2, not 667), 'Jogging_1' (2, not 307)" in notes
    assert f"96 of the 100 sequences are not in {tmp_path}: Basketball, Biker" in notes
    assert "not of OTB-100, left out: Mine" in notes


@pytest.mark.parametrize("trimmed", [False, True])
def test_tiger1_begins_with_its_sixth_image(tmp_path: Path, trimmed: bool) -> None:
    first, count = (6, 349) if trimmed else (1, 354)
    write_images(tmp_path / "Tiger1" / "img", range(first, 355))
    write_boxes(tmp_path / "Tiger1" / "groundtruth_rect.txt", count, first=first)
    sequence = otb.load(tmp_path).sequences[0]
    assert len(sequence) == 349 and numbers_of(sequence)[0] == 6 and sequence.boxes_xywh[0, 0] == 6


def test_a_copy_that_is_numbered_anew(tmp_path: Path) -> None:
    write_images(tmp_path / "David" / "img", range(1, 472))
    write_boxes(tmp_path / "David" / "groundtruth_rect.txt", 471)
    found = otb.load(tmp_path)
    assert numbers_of(found.sequences[0])[0] == 1 and len(found.sequences[0]) == 471
    assert len(found.notes) == 1  # of the sequences that are missing


def test_attributes_beside_the_sequence_come_first(tmp_path: Path) -> None:
    for name in ("Crossing", "Fish"):
        write_images(tmp_path / name / "img", [1])
        write_boxes(tmp_path / name / "groundtruth_rect.txt", 1)
    path = write(tmp_path / "Crossing" / "attrs.txt", "SV, DEF, FM, OPR, BC")
    crossing, fish = otb.load(tmp_path).sequences
    assert crossing.attributes == {"SV", "DEF", "FM", "OPR", "BC"} and fish.attributes == {"IV"}
    path.write_text("1,0,1")
    with pytest.raises(DataError, match=r"attrs\.txt: '1' is no attribute; wanted short names such as OCC"):
        otb.load(tmp_path)


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"otb: no sequence was found in .*roots\.otb in local\.yaml .*<Seq>/groundtruth_rect\.txt",
    ):
        otb.load(tmp_path)
    write_boxes(tmp_path / "Fish" / "groundtruth_rect.txt", 2)
    with pytest.raises(DataError, match=r"the images of 'Fish' are missing, there is no folder .*Fish/img"):
        otb.load(tmp_path)
    write_images(tmp_path / "Fish" / "img", [1])
    with pytest.raises(DataError, match="'Fish' has 1 images but 2 ground truth boxes"):
        otb.load(tmp_path)
