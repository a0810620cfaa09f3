"""Sequences in slots: who is followed with whom, what fails alone, and which time is booked."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_trackers import StillBatch, StillTracker, walk, write_sequence

from mtltrack.evaluation import slots
from mtltrack.evaluation.benchmarks import Sequence, load_benchmark
from mtltrack.evaluation.provenance import load_records
from mtltrack.evaluation.results import ResultFolder, read_boxes
from mtltrack.evaluation.runner import Settings, run
from mtltrack.evaluation.slots import EvaluationError

LENGTHS = {11: 6, 12: 3, 13: 5, 14: 2, 15: 1}  # width of the target -> frames


@pytest.fixture
def sequences(tmp_path: Path) -> tuple[Sequence, ...]:
    for width, length in LENGTHS.items():
        write_sequence(tmp_path / "data" / f"w{width}", walk(length, width=width))
    return load_benchmark(str(tmp_path / "data")).sequences


def settings(tmp_path: Path, batch: int, name: str = "still") -> Settings:
    return Settings(ResultFolder.of(tmp_path / "results", "fake", name), batch=batch)


def contents(folder: ResultFolder) -> dict[str, bytes]:
    paths = [path for path in folder.path.iterdir() if not path.name.endswith("_time.txt")]
    return {path.name: path.read_bytes() for path in paths if path.name != "run.json"}


def test_a_sequence_takes_the_slot_of_one_that_has_ended(
    sequences: tuple[Sequence, ...], tmp_path: Path
) -> None:
    tracker = StillBatch()
    events: list[tuple[str, str]] = []
    summary = run(
        lambda device: tracker,
        sequences,
        settings(tmp_path, 2),
        progress=lambda event, name, frames, seconds: events.append((event, name)),
    )
    assert sorted(summary.done) == ["w11", "w12", "w13", "w14", "w15"]
    assert {name: frames for name, (frames, _) in summary.done.items()} == {
        f"w{width}": length for width, length in LENGTHS.items()
    }
    # the longest first: w11 (6) and w13 (5); when w13 ends w12 (3) starts while w11 goes on, and so forth
    assert tracker.together == [[11, 13], [11, 13], [11, 13], [11, 13], [11], [12], [12, 14]]
    assert events[:3] == [("start", "w11"), ("start", "w13"), ("done", "w13")]


def test_files_are_those_of_one_after_the_other(sequences: tuple[Sequence, ...], tmp_path: Path) -> None:
    one, three = settings(tmp_path, 1, "one"), settings(tmp_path, 3, "three")
    run(lambda device: StillBatch(), sequences, one)
    run(lambda device: StillBatch(), sequences, three)
    assert contents(one.folder) == contents(three.folder) and len(contents(one.folder)) == 5 + 4
    assert load_records(one.folder).sequences.keys() == load_records(three.folder).sequences.keys()
    assert run(lambda device: StillBatch(), sequences, three).skipped == [item.name for item in sequences]


def test_one_failing_sequence_leaves_its_batch(sequences: tuple[Sequence, ...], tmp_path: Path) -> None:
    lost = next(item for item in sequences if item.name == "w12")
    lost.frames[2].unlink()
    nowhere = replace(sequences[0], name="nowhere", boxes_xywh=np.zeros((len(sequences[0]), 4)))
    summary = run(lambda device: StillBatch(fail=(13,)), [*sequences, nowhere], settings(tmp_path, 4))
    assert sorted(summary.failed) == ["nowhere", "w12", "w13"]
    assert "no target of width 13" in summary.failed["w13"] and "Traceback" in summary.failed["w13"]
    assert summary.failed["w12"] == f"can't read the image '{lost.frames[2]}': No such file or directory"
    assert "the box of frame 1 is [0.0, 0.0, 0.0, 0.0], wanted w, h > 0" in summary.failed["nowhere"]
    assert sorted(summary.done) == ["w11", "w14", "w15"]
    assert read_boxes(settings(tmp_path, 4).folder.boxes("w11")).shape == (6, 4)


def test_a_batch_that_fails_fails_its_sequences(sequences: tuple[Sequence, ...], tmp_path: Path) -> None:
    class Broken(StillBatch):
        def track_together(self, *arguments: Any) -> Any:
            if len(arguments[0]) > 1:
                raise RuntimeError("the batch is broken")
            return super().track_together(*arguments)

    summary = run(lambda device: Broken(), sequences[:3], settings(tmp_path, 2))
    assert sorted(summary.failed) == ["w11", "w13"] and "the batch is broken" in summary.failed["w11"]
    assert list(summary.done) == ["w12"]


def test_a_failure_holds_nothing(sequences: tuple[Sequence, ...], tmp_path: Path) -> None:
    """What a failing pass had taken is free when the next one begins, without the collector's help."""
    held: list[weakref.ref[Any]] = []

    class Large:
        """Stands in for a tensor."""

    class Full(StillBatch):
        def track_together(self, targets: Any, *more: Any) -> Any:
            assert not any(reference() is not None for reference in held)
            if targets[0].box[2] == 11:
                large = Large()
                held.append(weakref.ref(large))
                try:
                    raise MemoryError("full")
                except MemoryError as error:
                    raise RuntimeError("too many") from error
            return super().track_together(targets, *more)

    gc.disable()
    try:
        summary = run(lambda device: Full(), sequences[:4], settings(tmp_path, 2))
    finally:
        gc.enable()
    assert len(held) == 1 and sorted(summary.failed) == ["w11", "w13"]
    assert sorted(summary.done) == ["w12", "w14"]


def test_results_that_cannot_be_written_fail_one(sequences: tuple[Sequence, ...], tmp_path: Path) -> None:
    class Lost(StillBatch):
        def track_together(self, targets: Any, *more: Any) -> Any:
            answers = super().track_together(targets, *more)
            for target, answer in zip(targets, answers, strict=True):
                if target.box[2] == 13:
                    answer["target_bbox"] = [float("nan")] * 4
            return answers

    summary = run(lambda device: Lost(), sequences[:3], settings(tmp_path, 3))
    assert list(summary.failed) == ["w13"] and "a tracker must answer numbers" in summary.failed["w13"]
    assert sorted(summary.done) == ["w11", "w12"]


def test_a_frame_is_booked_with_its_share_of_the_pass(
    sequences: tuple[Sequence, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(slots.time, "perf_counter", lambda: next(clock))  # a second passes between two looks
    where = settings(tmp_path, 3)
    summary = run(lambda device: StillBatch(), sequences[:3], where)
    # starting takes a second each; then passes of three (two of them), two (two) and one (one)
    share = [1, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1]
    for width, length in ((11, 6), (12, 3), (13, 5)):
        assert np.loadtxt(where.folder.times(f"w{width}")) == pytest.approx(share[:length], abs=1e-4)
    assert summary.done["w12"][1] == pytest.approx(2 / 3)
    assert summary.frames_per_second == pytest.approx(11 / 5)  # 5 + 2 + 4 frames in five passes of a second


def test_a_tracker_of_one_sequence_is_refused(sequences: tuple[Sequence, ...], tmp_path: Path) -> None:
    message = r"StillTracker follows one sequence at a time: 2 at once need .*; leave --batch out"
    with pytest.raises(EvaluationError, match=message):
        run(lambda device: StillTracker(), sequences, settings(tmp_path, 2))
    alone = run(
        lambda device: StillTracker(), sequences[:1], settings(tmp_path, 2)
    )  # nothing to follow beside it
    assert list(alone.done) == ["w11"]
