"""Every layout, from a folder and from an LMDB: the same sequences, published visibility, named faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import FRAMES, box_lines, box_of, make_folder, make_got10k, make_lasot, make_vid, write_text

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.registry import DATASETS
from mtltrack.data.datasets import Coco, FolderSequences, Got10k, ImagenetVid, Lasot, TrackingNet
from mtltrack.data.pack import pack_folder
from mtltrack.data.splits import lasot_test_names

Made = Callable[[str], Path]
BUILDERS: dict[str, Callable[[Path], object]] = {
    "folder": FolderSequences,
    "lasot": Lasot,
    "got10k": Got10k,
    "trackingnet": TrackingNet,
    "coco": Coco,
    "vid": ImagenetVid,
}


def packed(layout: str, root: Path, target: Path) -> Path:
    """Pack a data set as its LMDB is made: TrackingNet one file a set."""
    if layout != "trackingnet":
        pack_folder(root, target)
        return target
    for part in root.iterdir():
        pack_folder(part, target / f"{part.name}_lmdb")
    return target


@pytest.mark.parametrize("layout", list(BUILDERS))
def test_folder_and_lmdb_give_the_same(layout: str, made: Made, tmp_path: Path) -> None:
    root = made(layout)
    files = BUILDERS[layout](root)
    lmdb = BUILDERS[layout](packed(layout, root, tmp_path / "packed"))
    assert files.num_sequences == lmdb.num_sequences > 0
    for i in range(files.num_sequences):
        a, b = files.sequence(i), lmdb.sequence(i)
        assert a.name == b.name == files.sequence_name(i)
        np.testing.assert_array_equal(a.boxes_xywh, b.boxes_xywh)
        np.testing.assert_array_equal(a.visible, b.visible)
        last = a.num_frames - 1
        np.testing.assert_array_equal(files.image(i, last), lmdb.image(i, last))


@pytest.mark.parametrize("layout", list(BUILDERS))
def test_boxes_lie_on_the_target(layout: str, made: Made) -> None:
    """The target is the only bright part of a frame, so pixels say whether boxes fit the images."""
    data = BUILDERS[layout](made(layout))
    info = data.sequence(0)
    frame = int(np.flatnonzero(info.visible)[-1])
    rows, columns = np.nonzero(data.image(0, frame)[:, :, 0] > 140)
    x, y, w, h = info.boxes_xywh[frame]
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], [x, y, x + w, y + h], atol=1
    )


def test_lasot_visibility_and_splits(made: Made) -> None:
    train, test, both = (Lasot(made("lasot"), split) for split in ("train", "test", "all"))
    assert (train.names, test.names, both.names) == (["zebra-9"], ["zebra-10"], ["zebra-9", "zebra-10"])
    info = train.sequence(0)
    assert info.visible.tolist() == [False, False, False] + [True] * (
        FRAMES - 3
    )  # no box, occluded, out of view
    assert len(lasot_test_names()) == len(set(lasot_test_names())) == 280
    with pytest.raises(ConfigError, match=r"SPLIT of LaSOT is 'val'\..* Choose one of train, test, all"):
        Lasot(made("lasot"), "val")


def test_got10k_visibility_rate_and_splits(made: Made, tmp_path: Path) -> None:
    data = Got10k(made("got10k"))
    info = data.sequence(0)
    assert info.visible.tolist() == [False, False] + [True] * (FRAMES - 2)  # absent, covered
    assert info.fps == 10.0 and info.times()[5] == 0.5
    assert Got10k(made("got10k"), "official_val").names[0] == "GOT-10k_Val_000001"
    write_text(tmp_path / "split.txt", "2\n0\nGOT-10k_Train_000002\n")
    chosen = Got10k(made("got10k"), "vottrain", tmp_path / "split.txt")
    assert chosen.names == [f"GOT-10k_Train_{n:06d}" for n in (3, 1, 2)]
    write_text(tmp_path / "split.txt", "0\n7\n")
    with pytest.raises(
        DataError, match=r"split\.txt:2: '7' is neither a sequence of list\.txt nor its number from 0 to 2"
    ):
        Got10k(made("got10k"), "vottrain", tmp_path / "split.txt")
    with pytest.raises(
        DataError, match=r"needs the published list got10k_vot_val_split\.txt: copy it from.*SPLIT_FILE"
    ):
        Got10k(made("got10k"), "votval")


def test_got10k_finds_the_published_list_in_its_root(tmp_path: Path) -> None:
    root = make_got10k(tmp_path)
    write_text(root / "got10k_vot_val_split.txt", "1\n")
    assert Got10k(root, "votval").names == ["GOT-10k_Train_000002"]


def test_trackingnet_sets_and_boxes_without_area(made: Made) -> None:
    data = TrackingNet(made("trackingnet"))
    assert data.names == ["aa_0", "bb_1"]
    assert np.flatnonzero(~data.sequence(0).visible).tolist() == [5]
    assert TrackingNet(made("trackingnet"), sets=[3]).names == ["bb_1"]
    with pytest.raises(
        DataError, match=r"has no set TRAIN_5 \(nor TRAIN_<n>_lmdb\); there: TRAIN_0, TRAIN_3"
    ):
        TrackingNet(made("trackingnet"), sets=[0, 5])


def test_coco_objects_are_still_sequences_and_crowds_are_left_out(made: Made) -> None:
    data = Coco(made("coco"))
    assert data.names == ["100", "101", "103"]
    assert not data.sequence(0).is_video and data.sequence(0).visible.tolist() == [True]
    assert data.sequence(2).visible.tolist() == [False]


def test_vid_tracks_end_where_the_object_is_missing(made: Made) -> None:
    data = ImagenetVid(made("vid"))
    assert data.num_sequences == 2
    assert np.flatnonzero(~data.sequence(0).visible).tolist() == [4]  # occluded
    assert (data.sequence(1).first_frame, data.sequence(1).num_frames) == (4, 6)
    np.testing.assert_array_equal(data.image(1, 0), data.image(0, 3))


def test_vid_reads_its_cache(tmp_path: Path) -> None:
    root = make_vid(tmp_path)
    assert ImagenetVid(root).num_sequences == 2
    tracks = json.loads((root / "cache.json").read_text())
    write_text(root / "cache.json", json.dumps(tracks[:1]))
    assert ImagenetVid(root).num_sequences == 1
    write_text(root / "cache.json", '[{"anno": []}]')
    with pytest.raises(DataError, match=r"cache\.json isn't a list of sequences .*Delete it"):
        ImagenetVid(root)


def test_folder_ranges_and_pixel_origin(made: Made) -> None:
    data = FolderSequences(made("folder"), ranges={"tram": [3, 8]})
    info = data.sequence(0)
    assert data.names == ["tram"] and info.num_frames == 6 and info.first_frame == 3
    assert info.boxes_xywh[0].tolist() == list(map(float, box_of(2)))  # 1 was subtracted from x and y
    assert info.times()[0] == pytest.approx(2 / 30)
    zero_based = FolderSequences(made("folder"), one_based=False).sequence(0)
    assert zero_based.boxes_xywh[0, 0] == box_of(0)[0] + 1
    np.testing.assert_array_equal(data.image(0, 0), FolderSequences(made("folder")).image(1, 2))


def test_folder_separators_absence_and_several_targets(tmp_path: Path) -> None:
    root = make_folder(tmp_path, ("duo",))
    lines = [line.replace(",", "\t" if n % 2 else "  ") for n, line in enumerate(box_lines())]
    lines[4] = "nan,nan,nan,nan"
    (root / "duo" / "groundtruth_rect.txt").rename(root / "duo" / "groundtruth_rect.1.txt")
    write_text(root / "duo" / "groundtruth_rect.2.txt", "\n".join(lines) + "\n\n")
    data = FolderSequences(root)
    assert data.names == ["duo-1", "duo-2"]
    assert np.flatnonzero(~data.sequence(1).visible).tolist() == [4]
    np.testing.assert_array_equal(data.image(1, 3), data.image(0, 3))
    (root / "duo" / "groundtruth_rect.1.txt").rename(root / "duo" / "groundtruth_a.txt")
    (root / "duo" / "groundtruth_rect.2.txt").rename(root / "duo" / "groundtruth_b.txt")
    with pytest.raises(DataError, match=r"several box files .*Name the right one groundtruth_rect\.txt"):
        FolderSequences(root)


def test_images_may_lie_beside_the_boxes(tmp_path: Path) -> None:
    root = make_folder(tmp_path, ("flat",))
    for path in (root / "flat" / "img").iterdir():
        path.rename(root / "flat" / path.name)
    assert FolderSequences(root).image(0, 0).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3", r"line 3: wanted four numbers x,y,w,h; found 3 in '1,2,3'\. Correct the line"),
        ("1,2,a,4", r"line 3: wanted four numbers x,y,w,h; found '1,2,a,4'"),
        (
            "1,2,0,4",
            r"line 3: the box '1,2,0,4' has no area \(w and h must be above 0\)\. Correct it, or write nan",
        ),
        ("1,2,inf,4", r"line 3: the box '1,2,inf,4' isn't finite"),
    ],
)
def test_faulty_lines_are_kept_for_the_draw_that_hits_them(line: str, message: str, tmp_path: Path) -> None:
    root = make_folder(tmp_path, ("bike",))
    lines = box_lines()
    lines[2] = line
    write_text(root / "bike" / "groundtruth_rect.txt", "\n".join(lines))
    info = FolderSequences(root, ranges={"bike": [2, 9]}).sequence(0)
    assert list(info.faults) == [1] and not info.visible[1]
    with pytest.raises(DataError, match=r"bike/groundtruth_rect\.txt, " + message):
        raise DataError(info.faults[1])


def test_counts_that_differ_are_named(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "folder", ("bike",))
    (root / "bike" / "img" / "0024.jpg").unlink()
    with pytest.raises(
        DataError, match=r"groundtruth_rect\.txt: has 24 entries, but the folder of .*0001\.jpg has 23"
    ):
        FolderSequences(root).sequence(0)
    root = make_lasot(tmp_path / "lasot")
    write_text(root / "zebra" / "zebra-9" / "out_of_view.txt", "0,1")
    with pytest.raises(DataError, match=r"out_of_view\.txt: has 2 entries, but .*groundtruth\.txt has 24"):
        Lasot(root).sequence(0)
    write_text(root / "zebra" / "zebra-9" / "out_of_view.txt", "0,x")
    with pytest.raises(DataError, match=r"out_of_view\.txt: wanted one number a frame, .*'x'"):
        Lasot(root).sequence(0)


def test_wrong_ranges_are_named(made: Made) -> None:
    with pytest.raises(
        DataError, match=r"RANGES names the sequence 'trum'.* Did you mean 'tram'\? There: bike, tram"
    ):
        FolderSequences(made("folder"), ranges={"trum": [1, 2]})
    with pytest.raises(DataError, match=r"RANGES of 'tram' must be \[first, last\].*found \[5, 2\]"):
        FolderSequences(made("folder"), ranges={"tram": [5, 2]})
    with pytest.raises(DataError, match=r"RANGES of 'tram' ends at frame 99, but the sequence has 24"):
        FolderSequences(made("folder"), ranges={"tram": [5, 99]}).sequence(0)


@pytest.mark.parametrize("layout", ["folder", "lasot", "trackingnet"])
def test_an_empty_folder_is_named(layout: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"(has no sequences: .*Correct the folder|has no set TRAIN_0 to TRAIN_11)"
    ):
        BUILDERS[layout](tmp_path)


def test_all_are_registered() -> None:
    for name in (
        "FolderSequences",
        "Lasot",
        "Got10k",
        "TrackingNet",
        "Coco",
        "ImagenetVid",
        "SyntheticSequences",
    ):
        assert DATASETS.get(name).__name__ == name
