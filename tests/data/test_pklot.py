"""Parking lots in PKLot's layout: made-up files and the real folder."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.core.registry import DATASETS
from mtltrack.data.datasets.pklot import PkLot

TIMES = ("2013-02-22_06_05_00", "2013-02-22_06_10_00", "2013-02-22_06_11_30")
SQUARE = ((10, 20), (40, 20), (40, 50), (10, 50))
SLANTED = ((50, 20), (70, 10), (90, 40), (60, 60))


def space(identity: str, occupied: str | None, contour: tuple[tuple[int, int], ...]) -> str:
    points = "".join(f'<point x="{x}" y="{y}" />' for x, y in contour)
    said = "" if occupied is None else f' occupied="{occupied}"'
    return f'<space id="{identity}"{said}>\n<contour>{points}</contour></space>'


def write(root: Path, folder: str, rows: list[list[str]], apart: bool = False) -> None:
    """Write one photograph for each row of spaces; `apart`: images and XML in folders of their own."""
    for number, (time, spaces) in enumerate(zip(TIMES, rows, strict=False)):
        labels = root / folder / ("bounding_boxes" if apart else "")
        images = root / folder / ("frames" if apart else "")
        labels.mkdir(parents=True, exist_ok=True)
        images.mkdir(parents=True, exist_ok=True)
        text = f'<parking id="made up">{"".join(spaces)}</parking>'
        (labels / f"{time}.xml").write_text(text, encoding="utf-8")
        image = np.full((72, 128, 3), 40 * (number + 1), dtype=np.uint8)
        cv2.imwrite(str(images / f"{time}.png"), image)


@pytest.fixture
def lot(tmp_path: Path) -> Path:
    rows = [
        [space("1", "1", SQUARE), space("2", "0", SLANTED)],
        [space("1", "1", SQUARE), space("2", "0", SLANTED)],
        [space("1", "0", SQUARE), space("2", None, SLANTED)],
    ]
    write(tmp_path, "UFPR05/Sunny/2013-02-22", rows)
    write(tmp_path, "sequence4", [[space("2", "1", SLANTED)]] * 3, apart=True)
    return tmp_path


def test_each_occupied_space_is_a_sequence(lot: Path) -> None:
    dataset = DATASETS.create("PkLot", root=lot)
    assert dataset.names == ["UFPR05/Sunny/2013-02-22/1", "sequence4/2"]
    first = dataset.sequence(0)
    np.testing.assert_array_equal(first.times(), [0, 300, 390])
    np.testing.assert_array_equal(first.boxes_xywh, [[10, 20, 30, 30]] * 3)
    assert first.visible.tolist() == [True, True, False]
    assert first.stopped.tolist() == [0, 300, 0]
    assert first.alerts == {0: False, 1: True}  # frame 2 is empty: nothing to alert about
    np.testing.assert_array_equal(first.zones["space 1"], SQUARE)
    assert not first.box_labelled
    assert int(dataset.image(0, 2)[0, 0, 0]) == 120


def test_images_may_lie_apart_from_their_labels(lot: Path) -> None:
    dataset = PkLot(lot)
    second = dataset.sequence(1)
    np.testing.assert_array_equal(second.boxes_xywh[0], [50, 10, 40, 50])
    assert second.stopped.tolist() == [0, 300, 390]
    assert second.alerts == {0: False, 1: True, 2: True}
    assert int(dataset.image(1, 0)[0, 0, 0]) == 40


def test_the_root_may_be_the_folder_itself(lot: Path) -> None:
    assert PkLot(lot / "sequence4").names == ["2"]
    assert PkLot(lot / "UFPR05" / "Sunny" / "2013-02-22").names == ["1"]


def test_the_time_allowed_is_a_setting(lot: Path) -> None:
    assert PkLot(lot, seconds=350).sequence(1).alerts == {0: False, 1: False, 2: True}


def spoil(folder: Path, old: str, new: str) -> Path:
    path = folder / "UFPR05" / "Sunny" / "2013-02-22" / f"{TIMES[1]}.xml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("</space>", "", ":3: broken XML"),
        ('occupied="1"', 'occupied="yes"', ":1: space '1': occupied must be 0 or 1, found 'yes'"),
        ('x="40" y="20"', 'x="40"', ":1: space '1': wanted a point with numbers x and y, found {'x': '40'}"),
        ('x="40" y="20"', 'x="10" y="60"', ":1: space '1' crosses or touches itself"),
        ('id="2"', 'id="1"', ":2: space '1' needs an id of its own"),
    ],
)
def test_broken_labels_are_named(lot: Path, old: str, new: str, wanted: str) -> None:
    path = spoil(lot, old, new)
    with pytest.raises(DataError) as error:
        PkLot(lot)
    assert str(error.value).startswith(f"{path}{wanted}")


def test_a_name_that_is_no_time_and_a_missing_image_are_named(lot: Path) -> None:
    folder = lot / "sequence4"
    (folder / "frames" / f"{TIMES[0]}.png").unlink()
    with pytest.raises(DataError, match=rf"{TIMES[0]}\.xml: has no image: looked for {TIMES[0]} .*frames\."):
        PkLot(lot)
    (folder / "bounding_boxes" / f"{TIMES[0]}.xml").rename(folder / "bounding_boxes" / "morning.xml")
    with pytest.raises(DataError, match=r"morning\.xml: the name of the file must be its time"):
        PkLot(lot)


def test_an_empty_folder_is_no_lot(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pklot has no sequences"):
        PkLot(tmp_path)


def test_the_real_lot(data_root: Path) -> None:
    """Time stamps ten minutes apart: who is there in two photographs running has stood for too long."""
    root = data_root / "stop" / "pklot_ufpr05"
    if not root.is_dir():
        pytest.skip(f"no PKLot folder at {root}")
    dataset = PkLot(root)
    occupied = []
    for path in sorted((root / "sequence4" / "bounding_boxes").glob("*.xml")):
        spaces = ElementTree.parse(path).iter("space")
        occupied.append({space.get("id") for space in spaces if space.get("occupied") == "1"})
    assert sorted(dataset.names) == sorted(f"sequence4/{identity}" for identity in set.union(*occupied))
    red = [set() for _ in occupied]
    for i in range(dataset.num_sequences):
        info = dataset.sequence(i)
        assert info.times().tolist() == [0, 600, 1200]
        for frame, alert in info.alerts.items():
            if alert:
                red[frame].add(info.name.split("/")[1])
    assert red[0] == set()
    assert red[1] == occupied[0] & occupied[1] and len(red[1]) > 5
    assert red[2] == occupied[1] & occupied[2] and len(red[2]) > 5
    assert dataset.image(0, 0).shape == (720, 1280, 3)
