from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.registry import DATASETS
from mtltrack.data.datasets import Davis
from mtltrack.data.images import image_size
from mtltrack.data.pack import pack_folder

WIDTH, HEIGHT, FRAMES = 64, 48, 6
PALETTE = [value for number in range(256) for value in (number, 255 - number, 7)]


def numbers_of(video: str, frame: int) -> np.ndarray:
    """`tram` is one object that leaves in the last frame; `pair` two, and a pixel of neither."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    if video == "tram":
        if frame < FRAMES - 1:
            mask[10:20, 5 + frame : 25 + frame] = 255
        return mask
    mask[4 : 12 + frame, 8:20] = 1
    if frame != 2:
        mask[30:40, 40 - frame : 50] = 2
    mask[47, 63] = 255
    return mask


def write_png(path: Path, numbers: np.ndarray, palette: bool = False) -> None:
    image = Image.fromarray(numbers)
    if palette:
        image.putpalette(PALETTE)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "davis"
    rng = np.random.default_rng(0)
    for video in ("pair", "tram"):
        for frame in range(FRAMES):
            image = folder / f"JPEGImages/480p/{video}/{frame:05d}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(image), rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
            write_png(mask_file(folder, video, frame), numbers_of(video, frame), palette=video == "pair")
    for year, text in (("2016", "/JPEGImages/480p/tram/00000.jpg /x/00000.png\n"), ("2017", "pair\n\n")):
        (folder / "ImageSets" / year).mkdir(parents=True)
        (folder / "ImageSets" / year / "val.txt").write_text(text, encoding="utf-8")
    return folder


def mask_file(root: Path, video: str, frame: int) -> Path:
    return root / f"Annotations/480p/{video}/{frame:05d}.png"


def test_one_sequence_an_object(root: Path) -> None:
    data = DATASETS.create("Davis", root=root)
    assert data.names == ["pair-1", "pair-2", "tram"]
    first, second, tram = (data.sequence(i) for i in range(3))
    assert first.boxes_xywh.tolist() == [[8, 4, 12, 8 + frame] for frame in range(FRAMES)]
    assert second.visible.tolist() == [True, True, False, True, True, True]
    assert second.boxes_xywh[3].tolist() == [37, 30, 13, 10]
    assert tram.visible.tolist() == [True] * (FRAMES - 1) + [False]
    assert tram.boxes_xywh[4].tolist() == [9, 10, 20, 10]
    for i, number in ((0, 1), (1, 2)):
        for frame in (0, 2):
            mask = data.mask(i, frame)
            assert mask.dtype == np.uint8
            np.testing.assert_array_equal(mask, numbers_of("pair", frame) == number)
    np.testing.assert_array_equal(data.mask(2, 1), numbers_of("tram", 1) == 255)
    # an absent target has an empty mask, which is a label
    assert tram.masked is not None and tram.masked.all() and not data.mask(2, FRAMES - 1).any()
    assert tram.mask_where[3].endswith("Annotations/480p/tram/00003.png")
    assert tram.times()[1] == pytest.approx(1 / 24)
    assert data.image(0, 0).shape == (HEIGHT, WIDTH, 3)


def test_lmdb_and_pickled_copy_give_the_same(root: Path, tmp_path: Path) -> None:
    pack_folder(root, tmp_path / "packed")
    files, packed = Davis(root), pickle.loads(pickle.dumps(Davis(tmp_path / "packed")))
    assert files.names == packed.names
    for i in range(files.num_sequences):
        np.testing.assert_array_equal(files.sequence(i).boxes_xywh, packed.sequence(i).boxes_xywh)
        np.testing.assert_array_equal(files.mask(i, 3), packed.mask(i, 3))
        np.testing.assert_array_equal(files.image(i, 5), packed.image(i, 5))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"split": "2016/val"}, ["tram"]),
        ({"split": "2017/val"}, ["pair-1", "pair-2"]),
        ({"sequences": ["pair"]}, ["pair-1", "pair-2"]),
        ({"ranges": {"tram": [2, 4]}}, ["tram"]),
    ],
)
def test_choosing_videos(root: Path, arguments: dict[str, Any], names: list[str]) -> None:
    assert Davis(root, **arguments).names == names


def test_ranges_cut_a_video(root: Path) -> None:
    data = Davis(root, ranges={"tram": [2, 4]})
    info = data.sequence(0)
    assert info.num_frames == 3 and info.first_frame == 2
    assert info.boxes_xywh[:, 0].tolist() == [6, 7, 8]
    np.testing.assert_array_equal(data.image(0, 0), Davis(root).image(2, 1))
    np.testing.assert_array_equal(data.mask(0, 2), numbers_of("tram", 3) == 255)


def test_masks_that_cannot_be_used_are_faults_of_their_frames(root: Path) -> None:
    write_png(mask_file(root, "tram", 1), np.zeros((HEIGHT, WIDTH + 2), np.uint8))
    mask_file(root, "tram", 2).write_bytes(b"\x89PNG cut off")
    mask_file(root, "tram", 3).unlink()
    data = Davis(root, sequences=["tram"])
    info = data.sequence(0)
    assert info.masked is not None and info.masked.tolist() == [True, False, False, False, True, True]
    assert info.visible.tolist() == [True, False, False, False, True, False]
    assert sorted(info.faults) == [1, 2]
    with pytest.raises(DataError, match=r"tram/00001.png: the mask is 66 x 48 pixels, but its frame is 64 x"):
        data.mask(0, 1)
    with pytest.raises(DataError, match=r"tram/00002.png: the mask can't be read"):
        data.mask(0, 2)
    with pytest.raises(DataError, match=r"tram/00003.jpg: the image has no mask of its name. Add it"):
        data.mask(0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": "1080p"}, r"davis has no sequences: .* holds no JPEGImages/1080p/<video>/\*.jpg"),
        ({"split": "2018/val"}, r"SPLIT: there is no .*2018/val.txt. There: 2016/val, 2017/val."),
        ({"sequences": ["trem"]}, "SEQUENCES names the video 'trem'.*Did you mean 'tram'"),
        ({"ranges": {"bus": [1, 2]}}, "RANGES names the sequence 'bus', which isn't in"),
    ],
)
def test_wrong_arguments(root: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Davis(root, **arguments)


def test_rates_and_ranges_out_of_bounds(root: Path) -> None:
    with pytest.raises(ConfigError, match="Davis needs FPS above 0; found 0"):
        Davis(root, fps=0)
    with pytest.raises(DataError, match="RANGES of 'tram' ends at frame 9, but the video has 6"):
        Davis(root, ranges={"tram": [1, 9]}).sequence(0)


def test_incomplete_folders_are_named(root: Path) -> None:
    (root / "ImageSets/2017/val.txt").write_text("tram\nbus\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"2017/val.txt, line 2: the video 'bus' has no masks in"):
        Davis(root, split="2017/val")
    (root / "JPEGImages/480p/pair/00004.jpg").unlink()
    with pytest.raises(DataError, match=r"pair/00004.png: has no image of its name in .* \(1 such masks\)"):
        Davis(root).sequence(0)
    smooth = np.arange(HEIGHT * WIDTH, dtype=np.int64).reshape(HEIGHT, WIDTH) % 99
    write_png(mask_file(root, "pair", 0), smooth.astype(np.uint8))
    with pytest.raises(DataError, match=r"pair/00000.png: holds 98 values besides 0; wanted 0 and 255"):
        Davis(root)


def test_image_size_is_that_of_the_decoded_image(root: Path, tmp_path: Path) -> None:
    data = (root / "JPEGImages/480p/tram/00000.jpg").read_bytes()
    assert image_size(data, "a.jpg") == (WIDTH, HEIGHT)
    image = Image.open(root / "JPEGImages/480p/tram/00000.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright
    image.save(tmp_path / "turned.jpg", exif=exif)
    turned = (tmp_path / "turned.jpg").read_bytes()
    assert image_size(turned, "b.jpg") == (HEIGHT, WIDTH)
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (WIDTH, HEIGHT)
    with pytest.raises(DataError, match=r"c.jpg: the image can't be decoded \(4 bytes\)"):
        image_size(b"none", "c.jpg")


def test_real_videos(data_root: Path) -> None:
    data = Davis(data_root / "vos")
    assert data.names == ["car-shadow", "drift-chicane"]
    info = data.sequence(0)
    assert info.num_frames == 40 and info.visible.all() and not info.faults
    mask = data.mask(0, 7)
    assert mask.shape == data.image(0, 7).shape[:2] == (480, 854)
    x, y, w, h = (int(value) for value in info.boxes_xywh[7])
    assert mask[y : y + h, x : x + w].sum() == mask.sum() > 0.3 * w * h
    assert mask[y].any() and mask[y + h - 1].any() and mask[:, x].any() and mask[:, x + w - 1].any()
