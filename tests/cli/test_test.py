"""`tracking/test.py` and `tracking/analysis_results.py`, end to end with a tracker without a network."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtltrack.cli import analysis, analysis_sources, test, video_demo
from mtltrack.core.config import load_config
from mtltrack.core.errors import CheckpointError, DataError
from mtltrack.core.kernels import ONEDNN, KernelChoice
from mtltrack.evaluation.overlay import VideoWriter
from mtltrack.evaluation.results import ResultFolder, read_boxes, read_tasks

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))
from fake_trackers import StillBatch, StillTracker, walk, write_sequence

NAME = ("hiptrack", "hiptrack_cls_tiny")


@pytest.fixture
def save_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint that the fake tracker takes for its own, and data beside it."""
    folder = tmp_path / "out"
    write_checkpoint(folder, 3)
    for name, count in (("a", 4), ("b", 3)):
        write_sequence(tmp_path / "data" / name, walk(count, step=5))
    monkeypatch.setattr(test.TrackerFromCheckpoint, "__call__", lambda self, device: StillTracker())
    return folder


def write_checkpoint(save_dir: Path, epoch: int, value: float = 0.0, **more: object) -> Path:
    folder = save_dir / "checkpoints" / "train" / NAME[0] / NAME[1]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"HIPTrack_ep{epoch:04d}.pth.tar"
    names = ("backbone.cls_token", "cls_head.classifier.weight")
    torch.save({"net": {name: torch.full((1,), value) for name in names}, "epoch": epoch, **more}, path)
    return path


def command(save_dir: Path, *more: str) -> list[str]:
    return [
        *NAME,
        "--save_dir",
        str(save_dir),
        "--dataset",
        str(save_dir.parent / "data"),
        "--device",
        "cpu",
        *more,
    ]


def test_from_checkpoint_to_scores(save_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert test.main(command(save_dir, "--video")) == 0
    said = capsys.readouterr().out
    assert "HIPTrack_ep0003.pth.tar (the newest)" in said and "[2/2] b: 3 frames" in said
    assert "2 run, 0 there already, 0 failed" in said
    results = save_dir / "test" / "tracking_results" / NAME[0] / NAME[1]
    assert read_boxes(results / "a.txt").tolist() == [[3, 4, 10, 8]] * 4
    assert (results / "videos" / "b.mp4").stat().st_size > 0

    assert analysis.main(["--save_dir", str(save_dir), "--per-sequence", "--baseline"]) == 0
    said = capsys.readouterr().out
    assert "hiptrack/hiptrack_cls_tiny" in said and "first box held still" in said
    table = (save_dir / "test" / "tracking_results" / "analysis_data.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    means = [row for row in rows if row["sequence"] == "mean"]
    # the fake tracker holds the first box: overlaps 1, 1/3, 0, 0 and 1, 1/3, 0
    assert [float(row["mIoU"]) for row in means] == pytest.approx([(4 / 3 / 4 + 4 / 3 / 3) / 2] * 2)

    assert test.main(command(save_dir)) == 0
    assert "0 run, 2 there already" in capsys.readouterr().out


def test_tables_of_the_tasks(
    save_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Reader(StillTracker):
        def track(self, rgb: np.ndarray, **more: Any) -> dict[str, Any]:
            frame = int(rgb[0, 0, 0]) + 1  # the image of frame n is filled with n - 1
            plate = {"present": True, "confidence": 0.9, "bbox": [frame, 5.0, frame + 8.0, 9.0]}
            ocr = {"text": f"AB{frame}", "confidence": 0.5, "characters": [0.5] * 3}
            return {"target_bbox": self.box, "score": 0.5, "tasks": {"plate": plate, "ocr": ocr}}

    def write_labels(folder: Path, text: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            {"frame_id": frame, "plate": {"bbox": [frame, 5.0, frame + 8.0, 9.0], "text": text}}
            for frame in range(1, 5)
        ]
        (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    monkeypatch.setattr(test.TrackerFromCheckpoint, "__call__", lambda self, device: Reader())
    assert test.main(command(save_dir, "--frames", "a=2:4", "--sequence", "a")) == 0
    capsys.readouterr()
    assert analysis.main(["--save_dir", str(save_dir), "--write"]) == 0
    assert "plates (plate)" not in capsys.readouterr().out
    write_labels(save_dir.parent / "data" / "a", "AB3")
    assert analysis.main(["--save_dir", str(save_dir), "--per-sequence", "--write"]) == 0
    said = capsys.readouterr().out
    assert "plates (plate)" in said and "plate texts (ocr)" in said and "most common text" in said
    write_labels(save_dir.parent / "labels" / "a", "AB9")
    name = "/".join(NAME)
    for labels, exact in (([], 0.5), (["--labels", str(save_dir.parent / "labels")], 0.0)):
        assert analysis.main(["--save_dir", str(save_dir), "--write", "json", *labels]) == 0
        path = save_dir / "test" / "tracking_results" / "analysis_data.json"
        found = json.loads(path.read_text())["tasks"]
        assert found["plate"][name]["rows"][name]["AP50"] == 1.0  # frames 3 and 4; 2 is where it started
        assert found["ocr"][name]["rows"][name] | {"cer": 0, "length": 0} == {
            "frames": 2,
            "exact": exact,
            "cer": 0,
            "length": 0,
        }
    capsys.readouterr()
    assert analysis.main(["--save_dir", str(save_dir), "--labels", "nowhere"]) == 1
    assert "--labels 'nowhere' is no folder" in capsys.readouterr().err


def test_ranges_are_remembered(save_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert test.main(command(save_dir, "--frames", "a=2:3", "--sequence", "a", "--decimals", "1")) == 0
    path = save_dir / "test" / "tracking_results" / NAME[0] / NAME[1] / "a.txt"
    assert path.read_text() == "8.0\t4.0\t10.0\t8.0\n" * 2
    assert analysis.main(["--save_dir", str(save_dir)]) == 0
    assert "frames: a 2 to 3" in capsys.readouterr().out
    data = str(save_dir.parent / "data")
    assert analysis.main(["--save_dir", str(save_dir), "--dataset", data]) == 1
    assert "has no results for 1 of 2 sequences (b)" in capsys.readouterr().err
    assert (
        analysis.main(
            ["--save_dir", str(save_dir), "--dataset", data, "--frames", "a=1:4", "--allow-partial"]
        )
        == 0
    )


def test_another_checkpoint_is_not_mixed_in(save_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert test.main(command(save_dir)) == 0
    write_checkpoint(save_dir, 4, value=1.0)
    assert test.main(command(save_dir)) == 1
    assert "--runid N for this run, or overwrite them by --force" in capsys.readouterr().err
    assert test.main(command(save_dir, "--runid", "7")) == 0
    assert (save_dir / "test" / "tracking_results" / NAME[0] / f"{NAME[1]}_007" / "a.txt").is_file()
    assert test.main(command(save_dir, "--force")) == 0


def test_checkpoints_in_turn_on_one_sequence_and_the_other(
    save_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert test.main(command(save_dir, "--sequence", "a")) == 0
    write_checkpoint(save_dir, 4, value=1.0)
    assert test.main(command(save_dir, "--sequence", "b")) == 0  # nothing of b is there
    capsys.readouterr()
    assert test.main(command(save_dir)) == 1
    assert "'a' (with the weights" in (error := capsys.readouterr().err) and "'b'" not in error
    assert test.main(command(save_dir, "--sequence", "a", "--force")) == 0
    assert test.main(command(save_dir)) == 0
    assert "0 run, 2 there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--frames", "a=3:4"], "on the frames 1 to 2"),
        (["--frames", "a=1:2", "--zero-based"], "count from 1"),
    ],
)
def test_other_frames_and_pixels_are_not_taken(
    save_dir: Path, options: list[str], difference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert test.main(command(save_dir, "--sequence", "a", "--frames", "a=1:2")) == 0
    assert test.main(command(save_dir, "--sequence", "a", *options)) == 1
    assert difference in capsys.readouterr().err


def test_results_that_can_not_be_written_stop_before_anything_is_tracked(
    save_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert test.main(command(save_dir, "--results", str(tmp_path / "file" / "results"))) == 1
    told = capsys.readouterr()
    assert "--results: nothing can be written to" in told.err and "weights" not in told.out


def test_the_epoch_does_not_matter_where_the_weights_are_the_same(
    save_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert test.main(command(save_dir, "--cfg-options", "TEST.EPOCH=4")) == 0
    assert test.main(command(save_dir, "--cfg-options", "TEST.EPOCH=3")) == 0
    assert "0 run, 2 there already" in capsys.readouterr().out
    assert test.main(command(save_dir, "--cfg-options", "TEST.UPDATE_INTERVAL=7")) == 1
    assert re.search(
        r"with another configuration: TEST\.UPDATE_INTERVAL \d+, now 7\)", capsys.readouterr().err
    )


def test_a_mistyped_benchmark_is_the_first_thing_told(
    save_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert test.main([*NAME, "--save_dir", str(save_dir), "--dataset", "lassot"]) == 1
    told = capsys.readouterr()
    assert "neither a benchmark nor a folder. Did you mean 'lasot'?" in told.err and told.out == ""


def test_a_sequence_of_that_name_in_another_data_set(
    save_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sequence(tmp_path / "other" / "a", walk(4))
    assert test.main(command(save_dir, "--sequence", "a")) == 0
    other = ["--dataset", str(tmp_path / "other")]
    assert test.main([*command(save_dir), *other]) == 1
    assert f"'a' (from the data set {tmp_path / 'data'})" in capsys.readouterr().err


def test_analysis_scores_the_frames_of_each_sequence(
    save_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert test.main(command(save_dir, "--sequence", "a", "--frames", "a=3:4")) == 0
    assert test.main(command(save_dir, "--sequence", "b")) == 0  # which must not forget the range of a
    capsys.readouterr()
    assert analysis.main(["--save_dir", str(save_dir), "--write"]) == 0
    assert "frames: a 3 to 4; all of the other sequences" in capsys.readouterr().out
    data = str(save_dir.parent / "data")
    assert analysis.main(["--save_dir", str(save_dir), "--dataset", data, "--frames", "a=1:2"]) == 1
    assert "a=1:2: the results were made on the frames 3 to 4" in capsys.readouterr().err


def test_a_failing_sequence_is_status_one(
    save_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sequence(save_dir.parent / "data" / "c", walk(3, width=12))
    monkeypatch.setattr(
        test.TrackerFromCheckpoint, "__call__", lambda self, device: StillTracker(fail=(12.0,))
    )
    assert test.main(command(save_dir)) == 1
    out, err = capsys.readouterr()
    assert "2 run, 0 there already, 1 failed" in out and "error: sequence 'c':" in err


def test_which_checkpoint(save_dir: Path, tmp_path: Path) -> None:
    newest = write_checkpoint(save_dir, 12)
    assert test.find_checkpoint(None, save_dir, *NAME, epoch=500) == (newest, "the newest")
    many = write_checkpoint(save_dir, 9999), write_checkpoint(save_dir, 10000)
    assert test.find_checkpoint(None, save_dir, *NAME, epoch=500) == (many[1], "the newest")
    for path in many:
        path.unlink()
    newest.with_name("mine_epoch.pth.tar").touch()  # no checkpoint of a run
    assert test.find_checkpoint(None, save_dir, *NAME, epoch=500) == (newest, "the newest")
    third = newest.with_name("HIPTrack_ep0003.pth.tar")
    assert test.find_checkpoint(None, save_dir, *NAME, epoch=3) == (third, "TEST.EPOCH")
    assert test.find_checkpoint(str(third), save_dir, *NAME, epoch=12) == (third, "--checkpoint")
    with pytest.raises(CheckpointError, match="'nowhere' is no file"):
        test.find_checkpoint("nowhere", save_dir, *NAME, epoch=1)
    with pytest.raises(
        CheckpointError, match=r"no checkpoint .* train .* first \(python tracking/train.py --script hip"
    ):
        test.find_checkpoint(None, tmp_path, *NAME, epoch=1)


def test_notes_about_the_checkpoint(save_dir: Path) -> None:
    stored = {"MODEL": {"HEAD": {"TYPE": "CENTER"}, "MAX_MEM": 150}}
    path = write_checkpoint(save_dir, 5, config=stored)
    given = {"MODEL": {"HEAD": {"TYPE": "CORNER"}, "MAX_MEM": 150}}
    first, second = test.checkpoint_notes(path, given, ["cls", "seg"])
    assert first.endswith("MODEL.HEAD.TYPE: trained with 'CENTER', tested with 'CORNER'")
    assert second == "the checkpoint has no weights of seg_head: what 'seg' answers is random"


def test_what_analysis_cannot_find(save_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analysis.main(["--save_dir", str(save_dir)]) == 1
    assert "no results: " in capsys.readouterr().err
    assert test.main(command(save_dir)) == 0
    assert analysis.main(["--save_dir", str(save_dir), "--trackers", "hiptrack/hiptrack_cls_tini"]) == 1
    assert "Did you mean 'hiptrack/hiptrack_cls_tiny'?" in capsys.readouterr().err
    folders = {}
    for number, last in ((1, 2), (2, 3)):
        assert test.main(command(save_dir, "--runid", str(number), "--frames", f"a=1:{last}")) == 0
        path = save_dir / "test" / "tracking_results" / NAME[0] / f"{NAME[1]}_{number:03d}"
        folders[str(number)] = ResultFolder(path)
    with pytest.raises(DataError, match="the trackers were tested on different frames"):
        analysis_sources.tested_ranges(folders, str(save_dir.parent / "data"))


def test_raw_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, shift in (("gt", 0.0), ("results/one", 0.0), ("results/two", 5.0)):
        (tmp_path / folder).mkdir(parents=True)
        boxes = walk(3) + shift * np.array([1, 0, 0, 0])
        np.savetxt(tmp_path / folder / "s.txt", boxes, delimiter=",", fmt="%g")
    arguments = ["--results", str(tmp_path / "results"), "--ground-truth", str(tmp_path / "gt")]
    assert analysis.main([*arguments, "--write", "json"]) == 0
    content = json.loads((tmp_path / "results" / f"analysis_{tmp_path.name}.json").read_text())
    found = {item["tracker"]: item["mean"]["mIoU"] for item in content["trackers"]}
    assert found == pytest.approx({"one": 1.0, "two": (1 + 2 / 3) / 3})
    assert analysis.main([*arguments, "--frames", "s=1:2"]) == 1
    assert "--frames needs --dataset" in capsys.readouterr().err


def test_video_demo(
    save_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = save_dir.parent / "clip.mp4"
    with VideoWriter(clip, (64, 48)) as video:
        for value in (10, 60, 110):
            video.write(np.full((48, 64, 3), value, dtype=np.uint8))
    monkeypatch.setattr(video_demo, "has_display", lambda: False)
    arguments = [*NAME, str(clip), "--save_dir", str(save_dir)]
    assert video_demo.main(arguments) == 1
    assert "give it by --optional_box X Y W H" in capsys.readouterr().err
    assert video_demo.main([*arguments, "--optional_box", "5", "6", "20", "10", "--save_results"]) == 0
    results = save_dir / "test" / "tracking_results" / NAME[0] / NAME[1]
    assert read_boxes(results / "video_clip.txt").tolist() == [[5, 6, 20, 10]] * 3
    assert (results / "videos" / "video_clip.mp4").stat().st_size > 0
    assert video_demo.main([*arguments, "--optional_box", "70", "6", "20", "10"]) == 1
    assert "lie in the frame of 64x48" in capsys.readouterr().err
    assert video_demo.main([*NAME, "no.mp4", "--optional_box", "1", "1", "2", "2"]) == 1
    assert "no frame can be read from 'no.mp4': no such file" in capsys.readouterr().err


def test_video_demo_with_zones(
    save_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, zones = save_dir.parent / "clip.mp4", save_dir.parent / "zones.json"
    with VideoWriter(clip, (64, 48), 12.5) as video:
        for _ in range(4):
            video.write(np.full((48, 64, 3), 90, dtype=np.uint8))
    zones.write_text('{\n  "lane": [[0, 0], [60, 0], [60, 40]]\n}')
    told: list[Any] = []

    class Spy(StillTracker):
        def initialize(self, rgb: np.ndarray, box_xywh: list[float], **more: Any) -> None:
            told.append({name: points.tolist() for name, points in more["zones"].items()})
            told.append(more["timestamp"])
            super().initialize(rgb, box_xywh, **more)

        def track(self, rgb: np.ndarray, **more: Any) -> dict[str, Any]:
            told.append(more["timestamp"])
            alert = {"alert": len(told) > 4, "stopped": 2.0, "overlap": 1.0, "zone": "lane", "speed": 0.0}
            return {"target_bbox": self.box, "score": 0.5, "tasks": {"alert": alert}}

    monkeypatch.setattr(video_demo, "has_display", lambda: False)
    monkeypatch.setattr(test.TrackerFromCheckpoint, "__call__", lambda self, device: Spy())
    arguments = [*NAME, str(clip), "--save_dir", str(save_dir), "--optional_box", "5", "6", "20", "10"]
    assert video_demo.main([*arguments, "--zones", str(zones), "--save_results"]) == 0
    assert told[0] == {"lane": [[0, 0], [60, 0], [60, 40]]}
    assert told[1:] == pytest.approx([0.0, 0.08, 0.16, 0.24])
    results = save_dir / "test" / "tracking_results" / NAME[0] / NAME[1]
    lines = read_tasks(results / "video_clip.tasks.jsonl")
    assert lines[0] == {"frame": 1} and [line["alert"]["alert"] for line in lines[1:]] == [False, False, True]
    written = [image for image, _ in video_demo.read_frames(results / "videos" / "video_clip.mp4")]
    assert len(written) == 4 and video_demo.frame_rate(results / "videos" / "video_clip.mp4") == 12.5
    corner = [image[40:, 60:].mean(axis=(0, 1)) for image in written]
    assert corner[3][0] > corner[2][0] + 60  # the frame of the alert is red

    zones.write_text('{\n  "ok": [[0, 0], [9, 0], [9, 9]],\n  "lane": [[0, 0], [60, 0]]\n}')
    assert video_demo.main([*arguments, "--zones", str(zones)]) == 1
    assert "zones.json:3" in (said := capsys.readouterr().err) and "lane" in said
    assert video_demo.main([*arguments, "--zones", "none.json"]) == 1
    assert "none.json" in capsys.readouterr().err


@pytest.mark.parametrize("module", [test, analysis, video_demo])
def test_help_has_examples(module: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        module.main(["--help"])  # type: ignore[attr-defined]
    assert "examples:" in capsys.readouterr().out


def test_several_sequences_at_once(
    save_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = StillBatch()
    monkeypatch.setattr(test.TrackerFromCheckpoint, "__call__", lambda self, device: tracker)
    assert test.main(command(save_dir, "--batch", "2")) == 0
    assert tracker.together == [[10, 10], [10, 10], [10]]  # a has four frames, b three
    assert "2 run, 0 there already, 0 failed" in capsys.readouterr().out
    assert test.main(command(save_dir, "--batch", "0")) == 1
    assert "--batch must be 1 or more, found 0" in capsys.readouterr().err
    monkeypatch.setattr(test.TrackerFromCheckpoint, "__call__", lambda self, device: StillTracker())
    assert test.main(command(save_dir, "--batch", "2", "--force")) == 1
    assert "error: StillTracker follows one sequence at a time" in capsys.readouterr().err


def test_all_processes_take_the_kernel_that_is_named(
    save_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def factory(self: test.TrackerFromCheckpoint, device: str | None) -> StillTracker:
        taken.append(load_config(self.config, self.options, script=self.script).TEST.MATMUL)
        return StillTracker()

    taken: list[str] = []
    monkeypatch.setattr(test.TrackerFromCheckpoint, "__call__", factory)
    monkeypatch.setattr(test, "kernel_for", lambda wanted, device: KernelChoice(ONEDNN, f"was {wanted}"))
    assert test.main(command(save_dir)) == 0
    assert "float32 products on the CPU: onednn (was auto)" in capsys.readouterr().out
    assert taken == [ONEDNN]
