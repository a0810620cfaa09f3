"""Reading test data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_trackers import walk, write_sequence

from mtltrack.core.errors import DataError
from mtltrack.data.datasets.folder import FolderSequences
from mtltrack.evaluation.benchmarks import load_benchmark, parse_ranges
from mtltrack.evaluation.benchmarks.reading import image_files


def images(folder: Path, numbers: range, digits: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:0{digits}d}.jpg").write_bytes(b"")


def boxes_file(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, walk(count), delimiter=",", fmt="%g")


def test_folder_of_sequences(tmp_path: Path) -> None:
    write_sequence(tmp_path / "b", walk(4))
    write_sequence(tmp_path / "a", walk(3))
    (tmp_path / "notes").mkdir()
    found = load_benchmark(str(tmp_path))
    assert [(item.name, len(item)) for item in found.sequences] == [("a", 3), ("b", 4)]
    assert found.name == tmp_path.name and found.sequences[0].one_based
    assert not load_benchmark(str(tmp_path), one_based=False).sequences[0].one_based
    assert [item.name for item in load_benchmark(str(tmp_path / "a")).sequences] == ["a"]


def test_images_are_sorted_by_their_number(tmp_path: Path) -> None:
    for name in ("frame10.jpg", "frame9.jpg", "frame100.jpg", "readme.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in image_files(tmp_path)] == ["frame9.jpg", "frame10.jpg", "frame100.jpg"]


@pytest.mark.parametrize("place", ["img", "imgs", "images", "color", ""])
def test_training_and_testing_take_the_same_images(tmp_path: Path, place: str) -> None:
    names = ["cam2_9.jpg", "cam2_10.jpg", "cam10_1.jpg"]  # in the order of people
    (tmp_path / "a" / "img").mkdir(parents=True)  # is empty unless it is the place
    (tmp_path / "a" / place).mkdir(exist_ok=True)
    for name in names:
        (tmp_path / "a" / place / name).touch()
    boxes_file(tmp_path / "a" / "groundtruth.txt", 3)
    tested = load_benchmark(str(tmp_path)).sequences[0].frames
    assert list(tested) == [tmp_path / "a" / place / name for name in names]
    trained = FolderSequences(tmp_path)
    assert [tmp_path / trained._image_key(0, frame) for frame in range(3)] == list(tested)


def test_a_sequence_without_images(tmp_path: Path) -> None:
    boxes_file(tmp_path / "a" / "groundtruth.txt", 3)
    with pytest.raises(DataError, match=r"a: there are no images, nor below it in img, imgs, images, color"):
        load_benchmark(str(tmp_path))


def test_ranges(tmp_path: Path) -> None:
    write_sequence(tmp_path / "a", walk(6))
    cut = load_benchmark(str(tmp_path), parse_ranges(["a=3:5"])).sequences[0]
    assert cut.first_frame == 3 and [path.stem for path in cut.frames] == ["0003", "0004", "0005"]
    assert cut.init_box == [5, 4, 10, 8]
    with pytest.raises(DataError, match="a=3:7 is outside of the sequence, which has the frames 1 to 6"):
        load_benchmark(str(tmp_path), {"a": (3, 7)})
    with pytest.raises(DataError, match="first must not be after last"):
        load_benchmark(str(tmp_path), {"a": (4, 3)})
    with pytest.raises(DataError, match=r"names 'aa', which is no sequence of .* Did you mean 'a'"):
        load_benchmark(str(tmp_path), {"aa": (1, 2)})


@pytest.mark.parametrize("text", ["a", "a=1", "a=x:2", "=1:2"])
def test_bad_ranges(text: str) -> None:
    with pytest.raises(DataError, match="wanted SEQ=first:last"):
        parse_ranges([text])
    with pytest.raises(DataError, match="names 'a' twice"):
        parse_ranges(["a=1:2", "a=3:4"])


def test_one_sequence_by_name_or_number(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sequence(tmp_path / name, walk(2))
    assert [item.name for item in load_benchmark(str(tmp_path), sequence="b").sequences] == ["b"]
    assert [item.name for item in load_benchmark(str(tmp_path), sequence="0").sequences] == ["a"]
    with pytest.raises(DataError, match=r"has no sequence '2'.*a number from 0 to 1"):
        load_benchmark(str(tmp_path), sequence="2")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither a benchmark nor a folder. Did you mean 'lasot'"):
        load_benchmark("lasott")
    with pytest.raises(DataError, match="no sequence found in"):
        load_benchmark(str(tmp_path))
    folder = write_sequence(tmp_path / "a", walk(3))
    (folder / "img" / "0002.png").unlink()
    with pytest.raises(DataError, match="'a' has 2 images but 3 ground truth boxes"):
        load_benchmark(str(tmp_path))
    (folder / "groundtruth_rect.txt").rename(folder / "groundtruth_x.txt")
    (folder / "groundtruth_y.txt").touch()
    with pytest.raises(DataError, match="several ground truth files"):
        load_benchmark(str(tmp_path))


def write_times(folder: Path, times: list[float | None]) -> None:
    lines = [
        {"frame_id": n} if t is None else {"frame_id": n, "timestamp": t} for n, t in enumerate(times, 1)
    ]
    (folder / f"{folder.name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_zones_and_time_stamps_beside_a_sequence(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "a", walk(4))
    write_times(folder, [0.0, 0.5, 2.0, 2.5])
    (folder / "zones.json").write_text('{"lane": [[0, 0], [30, 0], [30, 20]]}')
    write_sequence(tmp_path / "b", walk(2))
    found, bare = load_benchmark(str(tmp_path)).sequences
    assert found.timestamps is not None and found.timestamps.tolist() == [0.0, 0.5, 2.0, 2.5]
    assert found.zones["lane"].tolist() == [[0, 0], [30, 0], [30, 20]] and found.rate == 2.0
    assert bare.timestamps is None and not bare.zones and bare.rate is None
    part = load_benchmark(str(tmp_path), parse_ranges(["a=2:3"])).sequences[0]
    assert part.timestamps is not None and part.timestamps.tolist() == [0.5, 2.0] and "lane" in part.zones
    write_times(folder, [None] * 4)
    assert load_benchmark(str(tmp_path)).sequences[0].timestamps is None


def test_broken_zones_and_time_stamps(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "a", walk(3))
    write_times(folder, [0.0, 0.5, 0.5])
    with pytest.raises(
        DataError, match=r"a\.jsonl:3: timestamp 0.5 of frame 3 isn't later than 0.5 of frame 2"
    ):
        load_benchmark(str(tmp_path))
    write_times(folder, [0.0, None, 0.5])
    with pytest.raises(DataError, match=r"a\.jsonl: frame 2 has no timestamp, but others have"):
        load_benchmark(str(tmp_path))
    write_times(folder, [0.0, 0.5, 1.0])
    (folder / "zones.json").write_text('{\n"lane": [[0, 0], [9, 9], [9, 0], [0, 9]]}')
    with pytest.raises(DataError, match=r"zones\.json:2: .*lane"):
        load_benchmark(str(tmp_path))


@pytest.mark.parametrize("mark", ["meta_info.ini", "absence.label"])
def test_a_folder_in_got10ks_layout_counts_from_zero(tmp_path: Path, mark: str) -> None:
    folder = tmp_path / "world" / "train" / "GOT-10k_Train_000001"
    images(folder, range(1, 4), 8)
    boxes_file(folder / "groundtruth.txt", 3)
    (folder / mark).write_text("0\n1\n0\n" if mark == "absence.label" else "[METAINFO]\n")
    (folder / "cover.label").write_text("8\n0\n4\n")
    (tmp_path / "world" / "train" / "list.txt").write_text("GOT-10k_Train_000001\n")
    found = load_benchmark(str(tmp_path / "world" / "train")).sequences[0]
    assert not found.one_based and [path.stem for path in found.frames] == [
        "00000001",
        "00000002",
        "00000003",
    ]
    if mark == "absence.label":
        assert found.visible is not None and found.visible.tolist() == [True, False, True]
    assert found.cover is not None and found.cover.tolist() == [8, 0, 4]
    with pytest.raises(DataError, match=r"no sequence found .* Did you mean '.*world/train'\?"):
        load_benchmark(str(tmp_path / "world"))


def test_real_sequences(data_root: Path) -> None:
    found = load_benchmark(str(data_root / "sot"))
    lengths = {item.name: len(item) for item in found.sequences}
    assert lengths == {"Car4_0001-0250": 250, "Crossing": 120}
