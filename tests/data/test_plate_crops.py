"""Folders of plate crops: reading, splitting, refusing."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mtltrack.core.alphabets import encode_text, load_alphabet
from mtltrack.core.errors import ConfigError, DataError
from mtltrack.data.datasets import PlateCrops


def write_crops(
    root: Path, lines: list[str], pictures: tuple[str, ...] = ("a", "b", "c", "d", "e", "f")
) -> Path:
    for i, name in enumerate(pictures):
        image = np.full((24 + i, 94, 3), 10 * i, np.uint8)
        assert cv2.imwrite(str(root / f"{name}.png"), image)
    (root / "groundtruth.csv").write_bytes("".join(line + "\r\n" for line in lines).encode())
    return root


LINES = [
    "a.png,皖A·12 345",
    "b.png,ca,5nny-092",
    "c.png,XO706",
    "",
    "d.png,AB12",
    "e.png,XO706",
    "f.png,CD34",
]


def test_a_crop_is_a_still_whose_plate_fills_it(tmp_path):
    data = PlateCrops(write_crops(tmp_path, LINES))
    assert data.num_sequences == 6 and data.sequence_name(1) == "b.png"
    info = data.sequence(1)
    assert data.image(1, 0).shape == (25, 94, 3)
    assert info.num_frames == 1 and not info.is_video and not info.box_labelled and info.has_text
    assert info.boxes_xywh.tolist() == [[0, 0, 94, 25]] and info.visible.all()
    plate = info.plates[0]
    assert plate.box_xyxy == (0, 0, 94, 25) and plate.text == "5NNY092"
    assert plate.where == f"{tmp_path / 'groundtruth.csv'}:2"
    assert [data.text(i) for i in (0, 2, 5)] == ["皖A12345", "XO706", "CD34"]
    assert data.sequence(5).plates[0].where.endswith(":7")  # empty lines are counted


def test_every_so_many_th_text_is_for_the_test_and_equal_texts_stay_together(tmp_path):
    root = write_crops(tmp_path, LINES)
    parts = {split: PlateCrops(root, split=split, test_every=3).names for split in ("train", "test", "all")}
    assert parts["test"] == ["c.png", "e.png"]  # the third text, of two pictures
    assert parts["train"] == ["a.png", "b.png", "d.png", "f.png"]
    assert len(parts["all"]) == 6
    assert PlateCrops(root, split="test").names == ["f.png"]  # the fifth text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.png", r"groundtruth\.csv:2: wanted 'file name,TEXT', found 'b\.png'"),
        ("b.png, - ", r"groundtruth\.csv:2: wanted 'file name,TEXT'"),
        ("x.png,AB12", r"groundtruth\.csv:2: the picture .*x\.png doesn't exist"),
    ],
)
def test_a_line_that_cant_be_used_is_named(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        PlateCrops(write_crops(tmp_path, ["a.png,AB12", line]))


def test_arguments_out_of_range_are_refused(tmp_path):
    root = write_crops(tmp_path, LINES)
    with pytest.raises(ConfigError, match=r"SPLIT of train, test, all .* found 'val' and 5"):
        PlateCrops(root, split="val")
    with pytest.raises(ConfigError, match=r"TEST_EVERY of at least 2; found 'all' and 1"):
        PlateCrops(root, test_every=1)
    with pytest.raises(DataError, match=r"plate_crops has no sequences: .*lines for the split 'test'"):
        PlateCrops(root, split="test", test_every=50)
    with pytest.raises(DataError, match=r"labels\.csv: can't be read"):
        PlateCrops(root, labels="labels.csv")


@pytest.mark.parametrize(
    ("folder", "pictures", "test", "first"),
    [("crops_us", 50, 10, "5NNY092"), ("crops_cn", 325, 65, "皖AVY501")],
)
def test_the_real_crops_load(data_root, folder, pictures, test, first):
    root = data_root / "plates" / folder
    if not root.is_dir():
        pytest.skip(f"no {root}")
    data, kept = PlateCrops(root), PlateCrops(root, split="test")
    assert (data.num_sequences, kept.num_sequences) == (pictures, test)
    assert data.text(0) == first
    for i in range(pictures):
        encode_text(data.text(i), load_alphabet("chinese"), 24, "here")
    learned = PlateCrops(root, split="train")
    texts = [{part.text(i) for i in range(part.num_sequences)} for part in (learned, kept)]
    assert not texts[0] & texts[1]
