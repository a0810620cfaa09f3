"""Photographs of plates: what is read of them, where crops are cut, how broken files are named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.data.build import build_dataset
from mtltrack.data.datasets.ccpd import Ccpd, character_tables, parse_name
from mtltrack.data.datasets.plate_scenes import PlateScenes
from mtltrack.data.datasets.plate_stills import nearest_format, vehicle_box
from mtltrack.data.pack import pack_folder

CCPD_NAME = "025-95_113-154&383_386&473-386&473_177&454_154&383_363&402-0_0_22_27_27_33_16-37-15.jpg"


def write_image(path: Path, width: int = 320, height: int = 240, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), value, dtype=np.uint8))


def write_scene(folder: Path, stem: str, *lines: str, suffix: str = "png") -> None:
    """Write an image and a label file; a line is what stands behind the image's name."""
    write_image(folder / f"{stem}.{suffix}")
    text = "".join(f"{stem}.{suffix}\t{line}\n" for line in lines)
    (folder / f"{stem}.txt").write_text(text, encoding="utf-8")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    root = tmp_path / "scenes"
    for number in range(6):
        write_scene(root / "eu", f"car{number}", f"100\t120\t52\t11\tAB {number}-C")
    write_scene(root / "us", "truck", "10\t20\t61\t30\t7fr971", "200\t100\t60\t30")
    return root


def test_each_plate_is_a_still_sequence_with_text_and_no_vehicle(scenes: Path) -> None:
    data = PlateScenes(scenes, split="all")
    assert data.names == [*(f"eu-car{k}" for k in range(6)), "us-truck", "us-truck-2"]
    info = data.sequence(6)
    plate = info.plates[0]
    assert plate.box_xyxy == (10.0, 20.0, 71.0, 50.0) and plate.text == "7FR971"
    assert plate.where == f"{scenes / 'us' / 'truck.txt'}, line 1"
    assert info.num_frames == 1 and not info.is_video and not info.box_labelled and info.has_text
    second = data.sequence(7)
    assert second.plates[0].box_xyxy == (200.0, 100.0, 260.0, 130.0)
    assert second.plates[0].text is None and not second.has_text
    assert data.sequence(0).plates[0].text == "AB0C"
    assert data.image(7, 0).shape == (240, 320, 3)


def test_every_nth_photograph_is_for_testing_and_none_is_for_both(scenes: Path) -> None:
    train, test = PlateScenes(scenes, test_every=3), PlateScenes(scenes, "test", test_every=3)
    assert test.names == ["eu-car2", "eu-car5"]
    assert sorted(train.names + test.names) == sorted(PlateScenes(scenes, "all").names)


def test_photographs_of_one_vehicle_stay_together(tmp_path: Path) -> None:
    for name, text in (("a", "X1"), ("b", "X2"), ("c", "x 1"), ("d", "X3"), ("e", "X4")):
        write_scene(tmp_path, name, f"10\t10\t50\t12\t{text}")
    # c counts as a, so the second vehicle is b and the fourth e
    assert PlateScenes(tmp_path, "test", test_every=2).names == ["b", "e"]
    assert PlateScenes(tmp_path, "train", test_every=2).names == ["a", "c", "d"]


def test_the_root_may_be_one_folder_and_folders_can_be_chosen(scenes: Path) -> None:
    whole, part = PlateScenes(scenes, "all").sequence(7), PlateScenes(scenes / "us", "all").sequence(1)
    np.testing.assert_array_equal(whole.boxes_xywh, part.boxes_xywh)  # cut alike
    assert PlateScenes(scenes / "us", "all").names == ["truck", "truck-2"]
    assert PlateScenes(scenes, "all", folders=["us"]).names == ["us-truck", "us-truck-2"]
    with pytest.raises(DataError, match=r"FOLDERS names 'uk', which isn't in .* There: eu, us\."):
        PlateScenes(scenes, folders=["uk"])


def test_a_packed_folder_gives_the_same(scenes: Path, tmp_path: Path) -> None:
    pack_folder(scenes, tmp_path / "packed")
    files, packed = PlateScenes(scenes, "all"), PlateScenes(tmp_path / "packed", "all")
    assert files.names == packed.names
    for i in range(files.num_sequences):
        np.testing.assert_array_equal(files.sequence(i).boxes_xywh, packed.sequence(i).boxes_xywh)
        assert files.sequence(i).plates[0].box_xyxy == packed.sequence(i).plates[0].box_xyxy


def test_it_can_be_named_in_a_configuration(scenes: Path) -> None:
    data = build_dataset({"TYPE": "PlateScenes", "ROOT": str(scenes), "SPLIT": "test", "TEST_EVERY": 3})
    assert data.num_sequences == 2


def test_a_vehicle_s_box_is_some_plates_wide_and_its_plate_is_not_always_at_one_place() -> None:
    plate = (100.0, 100.0, 152.0, 111.0)  # 52 pixels wide: a hundred pixels a metre in Europe
    boxes = np.array([vehicle_box(plate, "eu", f"car{k}") for k in range(200)])
    assert np.array_equal(boxes[7], vehicle_box(plate, "eu", "car7"))
    width, height = boxes[:, 2], boxes[:, 3]
    assert 180 * np.exp(-0.2) <= width.min() < 155 and 205 < width.max() <= 180 * np.exp(0.2)
    assert 0.65 <= (height / width).min() and (height / width).max() <= 0.95
    across, down = (126 - boxes[:, 0]) / width, (105.5 - boxes[:, 1]) / height
    assert 0.3 <= across.min() < 0.35 < 0.65 < across.max() <= 0.7
    assert 0.4 <= down.min() < 0.45 < 0.8 < down.max() <= 0.85
    wide = vehicle_box(plate, "us", "car7")  # the same pixels on a shorter plate: a larger vehicle
    assert wide[2] == pytest.approx(boxes[7, 2] * 0.52 / 0.305)


def test_proportions_tell_the_format() -> None:
    assert nearest_format((0, 0, 100, 50)) == "us"
    assert nearest_format((0, 0, 460, 100)) == "eu"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("10\t20\t30", r"car\.txt, line 2: wanted file, x, y, w, h and the text, separated by tabs; found"),
        ("10\t20\tx\t9\tA", r"car\.txt, line 2: wanted file, x, y, w, h"),
        ("10\t20\t0\t9\tA", r"car\.txt, line 2: the plate's box has no area"),
        ("10\t20\tnan\t9\tA", r"car\.txt, line 2: the plate's box has no area"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    write_scene(tmp_path, "car", "10\t10\t50\t12\tX1", line)
    with pytest.raises(DataError, match=message):
        PlateScenes(tmp_path)


def test_missing_images_plates_outside_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"plate_scenes has no sequences: .* holds no <image>\.txt beside"):
        PlateScenes(tmp_path)
    write_scene(tmp_path, "car", "300\t10\t50\t12\tX1")
    with pytest.raises(DataError, match=r"car\.txt, line 1: the plate x1=300 .* which is 320 x 240 pixels"):
        PlateScenes(tmp_path, "all").sequence(0)
    (tmp_path / "car.png").unlink()
    with pytest.raises(DataError, match=r"car\.txt, line 1: the image .*car\.png doesn't exist"):
        PlateScenes(tmp_path)


@pytest.mark.parametrize("arguments", [{"split": "val"}, {"test_every": 1}])
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"SPLIT train, test or all, and TEST_EVERY of at least 2; found"):
        PlateScenes(tmp_path, **arguments)


def test_a_ccpd_name_is_its_label() -> None:
    box, text = parse_name(CCPD_NAME, "here")
    assert box == (154.0, 383.0, 386.0, 473.0) and text == "皖AY339S"
    eight = CCPD_NAME.replace("0_0_22_27_27_33_16", "10_2_3_24_24_24_24_33")
    assert parse_name(eight, "here")[1] == "苏CD00009"
    assert parse_name(CCPD_NAME.replace("0_0_22_27", "0_0_34_27"), "here")[1] is None
    assert [len(table) for table in character_tables().values()] == [34, 25, 35]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photo.jpg", r"folder/photo\.jpg: the name isn't a label of CCPD; wanted area-tilt-x1&y1_x2&y2-"),
        (CCPD_NAME.replace("_16-37", "-37"), r"the name isn't a label of CCPD"),
        (CCPD_NAME.replace("154&383_386&473-", "386&383_154&473-"), r"the plate's box .* has no area"),
        (CCPD_NAME.replace("-0_0_22", "-34_0_22"), r"number 34 at place 1 of the text .* \(0 to 33\)"),
        (CCPD_NAME.replace("-0_0_22", "-0_25_22"), r"number 25 at place 2 of the text .* \(0 to 24\)"),
    ],
)
def test_a_name_that_is_no_label_says_why(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_name(name, f"folder/{name}")


def test_ccpd_reads_folders_and_lists(tmp_path: Path) -> None:
    other = CCPD_NAME.replace("025-", "030-")
    for folder, name in (("ccpd_base", CCPD_NAME), ("ccpd_blur", other), ("ccpd_np", "1.jpg")):
        write_image(tmp_path / folder / name, 720, 1160)
    data = Ccpd(tmp_path)
    assert data.num_sequences == 2  # the cars without plates are left out
    info = data.sequence(0)
    assert info.plates[0].text == "皖AY339S" and info.plates[0].where.endswith(CCPD_NAME)
    assert not info.is_video and not info.box_labelled and info.has_text
    assert 232 * 1.8 / 0.44 * np.exp(-0.2) <= info.boxes_xywh[0, 2] <= 232 * 1.8 / 0.44 * np.exp(0.2)
    assert data.image(0, 0).shape == (1160, 720, 3)
    assert Ccpd(tmp_path, folders=["ccpd_blur"]).num_sequences == 1
    assert Ccpd(tmp_path / "ccpd_base").num_sequences == 1
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "test.txt").write_text(f"ccpd_blur/{other}\n", encoding="utf-8")
    listed = Ccpd(tmp_path, split="test")
    assert listed.num_sequences == 1 and listed.sequence(0).plates[0].where.endswith(other)


def test_ccpd_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ccpd has no sequences: .* holds no images named area-tilt"):
        Ccpd(tmp_path)
    with pytest.raises(DataError, match=r"SPLIT: there is no .*splits/train\.txt\. There: no lists\."):
        Ccpd(tmp_path, split="train")
    with pytest.raises(DataError, match=r"FOLDERS names 'ccpd_db', which isn't in"):
        Ccpd(tmp_path, folders=["ccpd_db"])
    with pytest.raises(ConfigError, match=r"Ccpd takes SPLIT or FOLDERS, not both"):
        Ccpd(tmp_path, split="train", folders=["ccpd_base"])


def test_the_real_scenes(data_root: Path) -> None:
    root = data_root / "plates" / "scenes"
    train, test = PlateScenes(root, "train"), PlateScenes(root, "test")
    assert train.num_sequences + test.num_sequences == 56 and test.num_sequences >= 10
    everything = PlateScenes(root, "all")
    for i in range(everything.num_sequences):
        info = everything.sequence(i)
        x, y, w, h = info.boxes_xywh[0]
        x1, y1, x2, y2 = info.plates[0].box_xyxy
        assert x < x1 and y < y1 and x2 < x + w and y2 < y + h, info.name  # the plate hangs on its vehicle

    def read(data: PlateScenes) -> set[str | None]:
        return {data.sequence(i).plates[0].text for i in range(data.num_sequences)}

    assert not read(train) & read(test)  # no vehicle is in both parts
