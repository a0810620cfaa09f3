"""Running trackers over sequences: files, resuming, failures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_trackers
import numpy as np
import pytest
from fake_trackers import StillFactory, walk, write_sequence

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks import Benchmark, load_benchmark, parse_ranges
from mtltrack.evaluation.provenance import Provenance, load_records
from mtltrack.evaluation.results import ResultFolder, read_boxes, read_tasks
from mtltrack.evaluation.runner import Settings, run
from mtltrack.evaluation.slots import EvaluationError


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    write_sequence(tmp_path / "data" / "long", walk(6))
    write_sequence(tmp_path / "data" / "short", walk(3))
    write_sequence(tmp_path / "data" / "middle", walk(4, width=12))
    return load_benchmark(str(tmp_path / "data"))


@pytest.fixture
def folder(tmp_path: Path) -> ResultFolder:
    return ResultFolder.of(tmp_path / "results", "fake", "still")


def test_files_of_a_run(benchmark: Benchmark, folder: ResultFolder) -> None:
    summary = run(StillFactory(), benchmark.sequences, Settings(folder))
    assert sorted(summary.done) == ["long", "middle", "short"] and not summary.failed
    assert folder.boxes("short").read_text() == "3\t4\t10\t8\n" * 3
    assert len(folder.times("short").read_text().split()) == 3
    first, second, third = read_tasks(folder.tasks("short"))
    assert first == {"frame": 1}
    assert second == {
        "frame": 2,
        "score": 0.25,
        "cls": {"name": "Normal", "index": 9, "confidence": 0.5},
    }
    assert third["frame"] == 3
    assert folder.sequences() == ["long", "middle", "short"]
    assert not list(folder.path.glob(".*"))  # nothing half written is left


def test_tracker_gets_pixels_that_count_from_zero(benchmark: Benchmark, folder: ResultFolder) -> None:
    seen: list[list[float]] = []

    class Spy(fake_trackers.StillTracker):
        def initialize(self, rgb: np.ndarray, box_xywh: list[float], **more: Any) -> None:
            seen.append(list(box_xywh))
            super().initialize(rgb, box_xywh, **more)

    run(lambda device: Spy(), benchmark.select("short", {}).sequences, Settings(folder))
    assert seen == [[2.0, 3.0, 10.0, 8.0]]  # the file says 3, 4 and counts from 1
    assert read_boxes(folder.boxes("short"))[1].tolist() == [3.0, 4.0, 10.0, 8.0]


def test_one_tracker_runs_all_sequences(benchmark: Benchmark, folder: ResultFolder) -> None:
    made: list[str | None] = []

    def factory(device: str | None) -> fake_trackers.StillTracker:
        made.append(device)
        return StillFactory()(device)

    assert len(run(factory, benchmark.sequences, Settings(folder), devices=["cpu"]).done) == 3
    assert made == ["cpu"]
    run(factory, benchmark.sequences, Settings(folder), devices=["cpu"])
    assert made == ["cpu"]  # all results are there: no tracker is needed


def test_zones_and_time_stamps_reach_the_tracker(benchmark: Benchmark, folder: ResultFolder) -> None:
    told: list[Any] = []

    class Spy(fake_trackers.StillTracker):
        def initialize(self, rgb: np.ndarray, box_xywh: list[float], **more: Any) -> None:
            told.append(more)
            super().initialize(rgb, box_xywh, **more)

        def track(self, rgb: np.ndarray, **more: Any) -> dict[str, Any]:
            told.append(more)
            return super().track(rgb, **more)

    plain = benchmark.select("short", {}).sequences[0]
    zones = {"lane": np.array([[0.0, 0], [9, 0], [9, 9]])}
    timed = replace(plain, timestamps=np.array([1.0, 1.5, 4.0]), zones=zones)
    run(lambda device: Spy(), [timed], Settings(folder))
    assert told == [{"timestamp": 1.0, "zones": zones}, {"timestamp": 1.5}, {"timestamp": 4.0}]
    told.clear()
    run(lambda device: Spy(), [plain], Settings(folder), force=True)
    assert told == [{"timestamp": None, "zones": {}}, {"timestamp": None}, {"timestamp": None}]


def test_no_task_file_without_tasks(benchmark: Benchmark, folder: ResultFolder) -> None:
    run(StillFactory(), benchmark.sequences, Settings(folder))
    run(StillFactory(tasks=False), benchmark.sequences, Settings(folder), force=True)
    assert not folder.tasks("short").exists()


def test_a_run_goes_on_where_it_stopped(benchmark: Benchmark, folder: ResultFolder) -> None:
    run(StillFactory(), benchmark.select("short", {}).sequences, Settings(folder))
    before = folder.boxes("short").stat().st_mtime_ns
    summary = run(StillFactory(), benchmark.sequences, Settings(folder))
    assert summary.skipped == ["short"] and sorted(summary.done) == ["long", "middle"]
    assert folder.boxes("short").stat().st_mtime_ns == before
    assert sorted(run(StillFactory(), benchmark.sequences, Settings(folder), force=True).done) == [
        "long",
        "middle",
        "short",
    ]


def test_results_of_another_range_are_refused(benchmark: Benchmark, folder: ResultFolder) -> None:
    first = benchmark.select("long", parse_ranges(["long=1:3"]))
    assert list(run(StillFactory(), first.sequences, Settings(folder)).done) == ["long"]
    part = benchmark.select("long", parse_ranges(["long=3:5"]))  # as many frames
    with pytest.raises(DataError, match=r"'long' \(on the frames 1 to 3\).*--runid N.*--force"):
        run(StillFactory(), part.sequences, Settings(folder))
    assert list(run(StillFactory(), part.sequences, Settings(folder), force=True).done) == ["long"]
    assert run(StillFactory(), part.sequences, Settings(folder)).skipped == ["long"]
    assert len(read_boxes(folder.boxes("long"))) == 3
    assert [entry["frame"] for entry in read_tasks(folder.tasks("long"))] == [3, 4, 5]


def test_an_incomplete_file_is_made_again(benchmark: Benchmark, folder: ResultFolder) -> None:
    run(StillFactory(), benchmark.sequences, Settings(folder))
    folder.boxes("long").write_text("3\t4\t10\t8\n")
    assert list(run(StillFactory(), benchmark.sequences, Settings(folder)).done) == ["long"]


def test_forcing_a_part_leaves_the_others_what_they_are(benchmark: Benchmark, folder: ResultFolder) -> None:
    one, two = Provenance(sha256="1" * 64), Provenance(sha256="2" * 64)
    run(StillFactory(), benchmark.sequences, Settings(folder, made_by=one))
    short = benchmark.select("short", {}).sequences
    run(StillFactory(), short, Settings(folder, made_by=two), force=True)
    with pytest.raises(DataError, match=r"'long' \(.*'middle' \("):
        run(StillFactory(), benchmark.sequences, Settings(folder, made_by=two))
    assert run(StillFactory(), short, Settings(folder, made_by=two)).skipped == ["short"]


def test_a_forced_sequence_that_fails_has_no_results(benchmark: Benchmark, folder: ResultFolder) -> None:
    run(StillFactory(), benchmark.sequences, Settings(folder))
    run(StillFactory(fail=(12,)), benchmark.sequences, Settings(folder), force=True)
    assert folder.sequences() == ["long", "short"]


def test_one_failing_sequence_leaves_the_others(benchmark: Benchmark, folder: ResultFolder) -> None:
    summary = run(StillFactory(fail=(12,)), benchmark.sequences, Settings(folder))
    assert list(summary.failed) == ["middle"] and sorted(summary.done) == ["long", "short"]
    assert "no target of width 12" in summary.failed["middle"] and "Traceback" in summary.failed["middle"]
    assert folder.sequences() == ["long", "short"]


def test_a_missing_image_names_itself(benchmark: Benchmark, folder: ResultFolder) -> None:
    sequence = next(item for item in benchmark.sequences if item.name == "short")
    sequence.frames[1].unlink()
    summary = run(StillFactory(), benchmark.sequences, Settings(folder))
    assert summary.failed == {
        "short": f"can't read the image '{sequence.frames[1]}': No such file or directory"
    }


def test_worker_processes(tmp_path: Path, folder: ResultFolder) -> None:
    for name, count, width in (("a", 6, 10), ("b", 5, 11), ("c", 4, 12), ("d", 3, 13), ("e", 2, 13)):
        write_sequence(tmp_path / "data" / name, walk(count, width=width))
    events: list[tuple[str, str]] = []

    def note(event: str, sequence: str, frames: int, seconds: float) -> None:
        events.append((event, sequence))

    sequences = load_benchmark(str(tmp_path / "data")).sequences
    factory = StillFactory(fail=(12,), die=(10, 11))  # the two that come first end their processes
    summary = run(factory, sequences, Settings(folder), threads=2, progress=note)
    assert sorted(summary.done) == ["d", "e"] and folder.sequences() == ["d", "e"]
    assert summary.failed.pop("a") == summary.failed.pop("b") == "the worker process died with status 7"
    assert list(summary.failed) == ["c"] and "no target of width 12" in summary.failed["c"]
    assert load_records(folder).sequences["d"].frames == (1, 3)
    assert {("failed", "a"), ("failed", "c"), ("done", "d"), ("start", "e")} <= set(events)


def test_a_tracker_that_cannot_be_built(benchmark: Benchmark, folder: ResultFolder) -> None:
    with pytest.raises(EvaluationError, match=r"(?s)can't be built.*weights\.pth\.tar"):
        run(fake_trackers.broken_factory, benchmark.sequences, Settings(folder), threads=2)
    with pytest.raises(FileNotFoundError):
        run(fake_trackers.broken_factory, benchmark.sequences, Settings(folder))


def test_a_first_box_without_size_is_refused(tmp_path: Path, folder: ResultFolder) -> None:
    boxes = walk(3)
    boxes[0] = 0
    write_sequence(tmp_path / "data" / "gone", boxes)
    summary = run(StillFactory(), load_benchmark(str(tmp_path / "data")).sequences, Settings(folder))
    assert "the box of frame 1 is [0.0, 0.0, 0.0, 0.0], wanted w, h > 0" in summary.failed["gone"]


def test_speed_leaves_out_first_frames(benchmark: Benchmark, folder: ResultFolder) -> None:
    summary = run(StillFactory(), benchmark.sequences, Settings(folder))
    summary.done = {"a": (11, 2.0), "b": (6, 1.0)}
    assert summary.frames_per_second == pytest.approx(15 / 3)


def test_answers_that_json_does_not_know(benchmark: Benchmark, folder: ResultFolder) -> None:
    run(StillFactory(), benchmark.sequences, Settings(folder))
    assert all(json.loads(line) for line in folder.tasks("long").read_text().splitlines())
