"""Rendered traffic written to files and read again."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mtltrack.cli.make_synthetic import main
from mtltrack.core.errors import DataError
from mtltrack.core.zones import read_zones
from mtltrack.data.build import build_dataset
from mtltrack.data.sequences import SequenceDataset
from mtltrack.data.synthetic.export import write_traffic
from mtltrack.data.synthetic.traffic.sequences import TrafficSequences
from mtltrack.evaluation.benchmarks import folder_benchmark

SIZE = (160, 96)
ARGUMENTS = ["--sequences", "2", "--frames", "16", "--size", "160", "96", "--seed", "6", "--kinds", "leave"]


@pytest.fixture(scope="module")
def world() -> TrafficSequences:
    return TrafficSequences(2, 16, SIZE, seed=6, kinds=["leave"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("traffic")
    assert main([*ARGUMENTS, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed")
    assert main([*ARGUMENTS, "--lmdb", "--out", str(out)]) == 0
    return out


def reading(root: Path) -> SequenceDataset:
    arguments = {
        "TYPE": "Got10k",
        "ROOT": str(root),
        "SPLIT": "train_full",
        "CLS_ANN_DIR": str(root / "train"),
    }
    return build_dataset(arguments)


@pytest.mark.parametrize("root", ["folder", "packed"])
def test_what_is_read_again_has_equal_labels(
    root: str, world: TrafficSequences, request: pytest.FixtureRequest
) -> None:
    read = reading(request.getfixturevalue(root))
    assert read.num_sequences == 2
    for i in range(2):
        info, truth = read.sequence(i), world.sequence(i)
        assert info.name == truth.name
        assert np.abs(info.boxes_xywh - truth.boxes_xywh).max() <= 5e-5 + 1e-9  # four decimals in the file
        assert np.array_equal(info.visible, truth.visible)
        assert info.times() == pytest.approx(truth.times())
        for name in ("flags", "index", "valid"):
            assert np.array_equal(info.labels["cls"][name], truth.labels["cls"][name])
        assert info.alerts == truth.alerts and any(truth.alerts.values())
        assert list(info.zones) == list(truth.zones)
        for name, polygon in truth.zones.items():
            assert np.array_equal(info.zones[name], polygon)
        for frame, plate in truth.plates.items():
            found = info.plates[frame]
            assert found.text == plate.text
            assert (found.box_xyxy is None) == (plate.box_xyxy is None)
            if plate.box_xyxy is not None:
                assert found.box_xyxy == pytest.approx(plate.box_xyxy, abs=0.006)
        assert info.masked is not None and info.masked.all()
        assert np.array_equal(read.mask(i, 9), world.mask(i, 9))
        difference = np.abs(read.image(i, 9).astype(int) - world.image(i, 9))
        assert difference.mean() < 6  # JPEG


def test_the_files_are_those_of_the_layout(folder: Path, world: TrafficSequences) -> None:
    names = (folder / "train" / "list.txt").read_text().split()
    assert names == [world.sequence_name(0), world.sequence_name(1)]
    sequence = folder / "train" / names[1]
    images = sorted(path.name for path in sequence.glob("*.jpg"))
    assert images == [f"{k:08d}.jpg" for k in range(1, 17)]
    assert cv2.imread(str(sequence / images[0])).shape == (96, 160, 3)
    assert len((sequence / "absence.label").read_text().split()) == 16
    assert set((sequence / "cover.label").read_text().split()) <= {str(k) for k in range(9)}
    assert "anno_fps: 10Hz" in (sequence / "meta_info.ini").read_text()
    lines = [json.loads(line) for line in (sequence / f"{names[1]}.jsonl").read_text().splitlines()]
    assert [line["frame_id"] for line in lines] == list(range(1, 17))
    assert set(lines[0]) >= {
        "timestamp",
        "mask",
        "plate",
        "alert",
        "cv_response",
        "vlm_response",
        "ground_truth_bbox",
    }
    assert lines[0]["mask"]["size"] == [96, 160]
    assert list(read_zones(sequence / "zones.json")) == list(world.sequence(1).zones)


def test_testing_reads_the_folder(folder: Path, world: TrafficSequences) -> None:
    benchmark = folder_benchmark(folder / "train")
    assert [sequence.name for sequence in benchmark.sequences] == [world.sequence_name(k) for k in range(2)]
    first = benchmark.sequences[0]
    assert len(first) == 16 and not first.one_based
    assert first.init_box == pytest.approx(list(world.sequence(0).boxes_xywh[0]), abs=1e-4)


def test_the_other_part_of_the_layout(tmp_path: Path) -> None:
    arguments = ["--sequences", "1", "--frames", "8", "--size", "96", "64", "--split", "val", "--fps", "5"]
    assert main([*arguments, "--quality", "60", "--alert-seconds", "9", "--out", str(tmp_path / "out")]) == 0
    read = build_dataset({"TYPE": "Got10k", "ROOT": str(tmp_path / "out"), "SPLIT": "official_val"})
    assert read.sequence(0).num_frames == 8 and read.sequence(0).fps == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to write: give --out DIR, --sheet FILE, or both"),
        (["--out", "x", "--quality", "0"], "--quality is 0; it must be from 1 to 100"),
        (["--sheet", "x.gif"], "--sheet x.gif must end in .jpg or .png"),
        (
            ["--out", "x", "--format", "png"],
            "--format is for --world textures; take it out, or change --world",
        ),
        (
            ["--out", "x", "--world", "textures", "--lmdb", "--fps", "3"],
            "--lmdb, --fps is for --world traffic",
        ),
        (["--out", "x", "--sequences", "0"], "NUM_SEQUENCES of at least 1"),
        (["--out", "x", "--kinds", "drive"], "'drive' in KINDS is no kind of sequence"),
    ],
)
def test_bad_options_say_what_is_wanted(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_with_files_is_left_alone(folder: Path, world: TrafficSequences) -> None:
    with pytest.raises(DataError, match="already holds files; name a new folder, or empty this one"):
        write_traffic(world, folder, "train", 90, False, lambda done, total: None)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, world: TrafficSequences) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"file/below.*can't be written"):
        write_traffic(world, tmp_path / "file" / "below", "train", 90, False, lambda done, total: None)
    with pytest.raises(DataError, match=r"the LMDB .*below can't be written"):
        write_traffic(world, tmp_path / "file" / "below", "train", 90, True, lambda done, total: None)
