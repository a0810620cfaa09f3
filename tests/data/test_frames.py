"""Frames that are decoded no finer than their crops need."""

from __future__ import annotations

from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from mtltrack.cli.build_data import crop_settings
from mtltrack.core.config import config_from_dict
from mtltrack.core.errors import DataError
from mtltrack.data.augment import ClipTransform, CropSettings, SampleRandom, ViewSettings
from mtltrack.data.crops import CropWindow, cut
from mtltrack.data.datasets.folder import FolderSequences
from mtltrack.data.frames import JpegFrame, WholeFrame, cut_reduced, divisor_for, open_frame
from mtltrack.data.images import decode_image, upright_jpeg_size
from mtltrack.data.labelled import LabelledSequences
from mtltrack.data.sampler import ClipDataset
from mtltrack.data.sequences import SequenceInfo

ODD = (403, 301)  # width and height: no multiple of 2
CROP = CropSettings(ViewSettings(24, 2.0), ViewSettings(48, 4.0, 1.0, 0.2), reduced_decode=True)


def waves(size: tuple[int, int]) -> np.ndarray:
    """Return a picture that is smooth, so that no way to make it smaller changes it much."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    colours = [
        128 + 90 * np.sin(x / a + b) * np.cos(y / c) for a, b, c in ((30, 0, 50), (45, 1, 25), (60, 2, 35))
    ]
    return np.rint(np.stack(colours, axis=-1)).astype(np.uint8)


WAVES = waves(ODD)


def as_file(image: np.ndarray, suffix: str = ".jpg") -> bytes:
    """Return a file without much loss, colours at full resolution."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    return cv2.imencode(suffix, image[..., ::-1], options if suffix == ".jpg" else [])[1].tobytes()


def write_folder(root: Path, image: np.ndarray, side: float, frames: int = 4, suffix: str = ".jpg") -> Path:
    """Write one sequence of OTB's layout whose target, `side` pixels large, stays in the middle."""
    (root / "one" / "img").mkdir(parents=True)
    for frame in range(frames):
        (root / "one" / "img" / f"{frame + 1:04d}{suffix}").write_bytes(as_file(image, suffix))
    x, y = (image.shape[1] - side) / 2 + 1, (image.shape[0] - side) / 2 + 1
    (root / "one" / "groundtruth_rect.txt").write_text(f"{x},{y},{side},{side}\n" * frames)
    return root


def clips_of(source: object, crop: CropSettings = CROP) -> ClipDataset:
    return ClipDataset([source], None, 8, 2, crop, "causal", 200, seed=3, tasks=())  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("side", "divisor"), [(1, 1), (95, 1), (96, 2), (191, 2), (192, 4), (383, 4), (384, 8), (5000, 8)]
)
def test_the_scale_that_a_crop_of_48_pixels_can_do_with(side: int, divisor: int) -> None:
    assert divisor_for(side, 48) == divisor
    assert divisor == 1 or side / divisor >= 48  # pixels of the reduced window: never enlarged


@pytest.mark.parametrize("divisor", [2, 4, 8])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("left", [-37, 3, 190])
def test_places_are_those_of_the_whole_frame(divisor: int, mirrored: bool, left: int) -> None:
    """The frame rises by half a level a pixel; of its blocks the means are known, so no decoder is needed."""
    wide, high = (np.arange(-(-side // divisor)) * divisor / 2 + 20 for side in ODD)
    image = np.stack(np.broadcast_arrays(wide[None], high[:, None], 0), axis=-1).astype(np.uint8)
    window = CropWindow(left, -20, 25 * divisor + 11)
    crop = cut_reduced(image, divisor, ODD, window, 25, mirrored=mirrored)

    centres = (np.arange(25) + 0.5) * window.side / 25 - 0.5  # in frame pixels from the window's corner
    x, y = window.left + centres, window.top + centres
    if mirrored:
        x = ODD[0] - 1 - x
    start = 20 - (divisor - 1) / 4  # of the first pixel; that of the first block's mean is 20
    wanted = np.stack(np.broadcast_arrays(x[None] / 2 + start, y[:, None] / 2 + start), axis=-1)
    columns, rows = (
        (edge >= divisor) & (edge < limit - divisor) for edge, limit in ((x, ODD[0]), (y, ODD[1]))
    )
    inside = rows[:, None] & columns[None]
    error = (crop[..., :2] - wanted)[inside]
    assert len(error) > 100 and np.abs(error).max() <= 0.6  # rounded
    assert np.abs(error.mean(axis=0)).max() < 0.1  # a fifth of a pixel


@pytest.mark.parametrize("grayscale", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    "window",
    [
        CropWindow(40, 30, 210),  # inside
        CropWindow(-61, -47, 251),  # beyond the near edges
        CropWindow(205, 99, 333),  # beyond the far ones
        CropWindow(-300, -350, 1001),  # all around the frame
        CropWindow(500, 30, 201),  # shows nothing of it
    ],
)
def test_a_crop_is_close_to_that_of_the_whole_frame(
    window: CropWindow, mirrored: bool, grayscale: bool
) -> None:
    data = as_file(WAVES)
    whole = decode_image(data, "a.jpg")
    wanted = cut(whole[:, ::-1] if mirrored else whole, window, 48, grayscale)
    frame = JpegFrame(data, "a.jpg", ODD)
    found = frame.cut(window, 48, grayscale, mirrored)
    assert frame.divisor == divisor_for(window.side, 48) > 1
    difference = np.abs(found.astype(int) - wanted)
    near_edge = cv2.dilate(((wanted == 0).all(axis=-1)).astype(np.uint8), np.ones((5, 5))) > 0
    assert difference[~near_edge].max(initial=0) <= 6 and difference.mean() < 1.5
    assert difference[near_edge].max(initial=0) <= 24  # blended with padding of another width
    assert not found[(wanted == 0).all(axis=-1)].any()
    assert not grayscale or (found == found[..., :1]).all()


def test_a_crop_that_needs_the_pixels_gets_all_of_them() -> None:
    data = as_file(WAVES)
    frame = JpegFrame(data, "a.jpg", ODD)
    small, large = CropWindow(100, 100, 95), CropWindow(50, 50, 200)
    assert np.array_equal(frame.cut(small, 48), cut(decode_image(data, "a.jpg"), small, 48))
    assert frame.divisor == 1
    # and so does one that is cut afterwards: what is there is used
    assert np.array_equal(frame.cut(large, 48), cut(decode_image(data, "a.jpg"), large, 48))


def test_a_finer_crop_decodes_again_unless_it_was_announced() -> None:
    data = as_file(WAVES)
    coarse, fine = CropWindow(0, 0, 300), CropWindow(100, 100, 100)
    frame = JpegFrame(data, "a.jpg", ODD)
    before = frame.cut(coarse, 48)
    assert frame.divisor == 4
    frame.cut(fine, 48)
    assert frame.divisor == 2
    announced = JpegFrame(data, "a.jpg", ODD)
    announced.need(fine, 48)
    assert announced.divisor == 1  # nothing was decoded yet
    assert np.array_equal(announced.cut(coarse, 48), frame.cut(coarse, 48)) and announced.divisor == 2
    assert not np.array_equal(before, frame.cut(coarse, 48))


@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_reduced_sizes_are_rounded_up(divisor: int) -> None:
    for size in (ODD, (400, 296), (9, 17)):
        image = decode_image(as_file(waves(size)), "a.jpg", divisor)
        assert image.shape == (-(-size[1] // divisor), -(-size[0] // divisor), 3)
        blocks = waves(size)[: size[1] // 8 * 8, : size[0] // 8 * 8].astype(float)
        means = blocks.reshape(len(blocks) // divisor, divisor, -1, divisor, 3).mean(axis=(1, 3))
        assert np.abs(image[: len(means), : means.shape[1]] - means).max() <= 3


def test_the_head_of_a_jpeg_tells_its_size(tmp_path: Path) -> None:
    assert upright_jpeg_size(as_file(WAVES), "a.jpg") == ODD
    assert upright_jpeg_size(as_file(WAVES, ".png"), "a.png") is None
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(WAVES).save(path, exif=exif)
    assert upright_jpeg_size(path.read_bytes(), "turned.jpg") is None
    with pytest.raises(
        DataError, match=r"b\.jpg: the image can't be decoded \(20 bytes\)\. Fetch the file again"
    ):
        upright_jpeg_size(b"\xff\xd8" + bytes(16) + b"\xff\xd9", "b.jpg")


def test_what_is_no_upright_jpeg_is_decoded_in_full(tmp_path: Path) -> None:
    source = FolderSequences(write_folder(tmp_path / "png", WAVES, 60, suffix=".png"))
    assert isinstance(open_frame(source, 0, 1, reduced=True), WholeFrame)
    turned = FolderSequences(write_folder(tmp_path / "jpg", WAVES, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(WAVES).save(tmp_path / "jpg/one/img/0002.jpg", exif=exif)
    frame = open_frame(turned, 0, 1, reduced=True)
    assert isinstance(frame, WholeFrame) and frame.size == (ODD[1], ODD[0])
    assert isinstance(open_frame(turned, 0, 0, reduced=True), JpegFrame)
    assert isinstance(open_frame(turned, 0, 0), WholeFrame)


def test_a_damaged_note_of_the_camera_is_the_decoders_to_read(tmp_path: Path) -> None:
    """OpenCV still finds in it that the photograph is to be turned, Pillow doesn't."""
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(WAVES).save(path, exif=exif)
    data = path.read_bytes()
    entries = data.index(b"Exif\0\0") + 14  # the number of entries, which are fewer
    damaged = data[:entries] + b"\xff\xff" + data[entries + 2 :]
    assert decode_image(damaged, "turned.jpg").shape == (ODD[0], ODD[1], 3)
    assert upright_jpeg_size(damaged, "turned.jpg") is None
    frame = JpegFrame(data, "turned.jpg", ODD)
    with pytest.raises(
        DataError, match=r"turned.jpg: decoded at 1/4 it has 76 x 101 pixels; wanted 101 x 76 by"
    ):
        frame.cut(CropWindow(0, 0, 200), 48)


class _Darker(FolderSequences):
    def image(self, i: int, frame: int) -> np.ndarray:
        return super().image(i, frame) // 2


class _Rendered:
    name, num_sequences = "rendered", 1

    def sequence_name(self, i: int) -> str:
        return "one"

    def sequence(self, i: int) -> SequenceInfo:
        return SequenceInfo("one", np.tile([170.0, 120.0, 60.0, 60.0], (4, 1)), np.ones(4, dtype=bool))

    def image(self, i: int, frame: int) -> np.ndarray:
        return WAVES


def test_pixels_that_a_data_set_makes_itself_stay_its_own(tmp_path: Path) -> None:
    root = write_folder(tmp_path, WAVES, 60)
    frame = open_frame(_Darker(root), 0, 0, reduced=True)
    assert isinstance(frame, WholeFrame) and frame.image.max() < 128
    assert isinstance(open_frame(_Rendered(), 0, 0, reduced=True), WholeFrame)  # type: ignore[arg-type]
    (tmp_path / "labels" / "one").mkdir(parents=True)
    (tmp_path / "labels" / "one" / "one.jsonl").write_text('{"frame_id": 1}\n')
    for inner, kind in ((FolderSequences(root), JpegFrame), (_Rendered(), WholeFrame)):
        joined = LabelledSequences(inner, tmp_path / "labels")  # type: ignore[arg-type]
        assert isinstance(open_frame(joined, 0, 0, reduced=True), kind)


def test_an_lmdb_is_reduced_as_its_folder_is(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "folder", WAVES, 60)
    with (
        lmdb.open(str(tmp_path / "packed"), map_size=2**24) as packed,
        packed.begin(write=True) as transaction,
    ):
        for path in root.rglob("*.*"):
            transaction.put(path.relative_to(root).as_posix().encode(), path.read_bytes())
    for number in range(4):
        one, other = (clips_of(FolderSequences(place))[0, number] for place in (root, tmp_path / "packed"))
        assert torch.equal(one.search, other.search) and torch.equal(one.template, other.template)


@pytest.mark.parametrize("detail", [None, ViewSettings(32, 3.0, 0.25, 0.1)])
@pytest.mark.parametrize("source", ["folder", "png", "rendered"])
def test_all_but_the_pixels_is_as_without_it(
    tmp_path: Path, source: str, detail: ViewSettings | None
) -> None:
    if source == "rendered":
        data: object = _Rendered()
    else:
        suffix = ".png" if source == "png" else ".jpg"
        data = FolderSequences(write_folder(tmp_path, WAVES, 60, suffix=suffix))
    full = CropSettings(CROP.template, CROP.search, detail)
    reduced = CropSettings(CROP.template, CROP.search, detail, reduced_decode=True)
    differ = 0
    for number in range(8):
        wanted, found = (clips_of(data, crop)[0, number] for crop in (full, reduced))
        for name in ("template_box_xywh", "affine", "timestamps", "template_brightness", "search_brightness"):
            assert torch.equal(getattr(found, name), getattr(wanted, name)), name
        assert torch.equal(found.labels["box"]["cxcywh"], wanted.labels["box"]["cxcywh"])
        assert found.source == wanted.source
        if detail is not None and found.detail is not None and wanted.detail is not None:
            assert found.detail_affine is not None and torch.equal(found.detail_affine, wanted.detail_affine)
            assert (found.detail.int() - wanted.detail.int()).abs().float().mean() < 1.5
        error = (found.search.int() - wanted.search.int()).abs()
        differ += int(error.any())
        assert error.float().mean() < 1.5
    assert differ == (8 if source == "folder" else 0)


def test_the_detail_view_decides_for_the_search_crop(tmp_path: Path) -> None:
    data = as_file(WAVES)
    box = torch.tensor([170.0, 120.0, 60.0, 60.0])
    for detail, divisor in (
        (None, 4),
        (ViewSettings(32, 3.0), 4),
        (ViewSettings(64, 3.0), 2),
        (ViewSettings(200, 3.0), 1),
    ):
        frames = [JpegFrame(data, "a.jpg", ODD) for _ in range(2)]
        settings = CropSettings(ViewSettings(24, 2.0), ViewSettings(48, 4.0), detail)
        ClipTransform(settings, augment=False)((frames[0], box), [(frames[1], box)], SampleRandom(0))
        assert frames[0].divisor == 4  # 120 pixels for 24; the template has no detail view
        assert frames[1].divisor == divisor  # 240 for 48; 180 for 32, 64 and 200


def test_a_broken_file_is_bad_data_and_no_other_draw(tmp_path: Path) -> None:
    root = write_folder(tmp_path, WAVES, 60)
    path = root / "one/img/0003.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"0003\.jpg: the image is cut off \(2000 bytes, no end marker\)"):
        open_frame(FolderSequences(root), 0, 2, reduced=True)
    data = as_file(WAVES)
    scan = data.index(b"\xff\xdb")  # its tables are gone: the head can be read, the rest can't
    path.write_bytes(data[:scan] + b"\xff\xc0\x00\x11\x08" + data[-2:])
    with pytest.raises(DataError, match=r"0003\.jpg: the image can't be decoded"):
        open_frame(FolderSequences(root), 0, 2, reduced=True).cut(CropWindow(0, 0, 200), 48)
    bad = [text for k in range(8) for text in clips_of(FolderSequences(root))[0, k].source["bad"]]
    assert bad and all("0003.jpg: the image can't be decoded" in text for text in bad)


def test_the_switch_of_the_configuration() -> None:
    assert not crop_settings(config_from_dict({}, script="hiptrack")).reduced_decode
    cfg = config_from_dict({"DATA": {"REDUCED_DECODE": True}}, script="hiptrack")
    assert crop_settings(cfg).reduced_decode
