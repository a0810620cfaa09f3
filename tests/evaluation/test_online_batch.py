"""Several videos in one batch: each answers what it answers alone, whatever the others are at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mtltrack.cli.build import build_tracker
from mtltrack.core.config import Config, config_from_dict
from mtltrack.evaluation.benchmarks import load_benchmark
from mtltrack.evaluation.online import OnlineTracker
from mtltrack.evaluation.results import ResultFolder, read_boxes, read_tasks
from mtltrack.evaluation.runner import Settings, run
from mtltrack.models.tracker import Tracker

HEADS = {
    "cls": {"TYPE": "ClsHead", "HIDDEN_DIM": 8},
    "alert": {"TYPE": "AlertHead"},
    "ocr": {"TYPE": "OCRHead", "HIDDEN_DIM": 8, "WIDTH": 8},
    "plate": {"TYPE": "PlateHead", "HIDDEN_DIM": 16},
    "seg": {"TYPE": "SegHead", "HIDDEN_DIM": 8},
}
ZONES = ({}, {"lane": [[0, 0], [150, 0], [150, 110]]}, {"kerb": [[5, 5], [90, 5], [90, 80], [5, 80]]})


def settings(script: str) -> Config:
    values = {
        "DATA": {
            "SEARCH": {"SIZE": 64, "FACTOR": 4.0, "NUMBER": 1},
            "TEMPLATE": {"SIZE": 32},
            "DETAIL": {"SIZE": 48, "FACTOR": 1.5},
        },
        "MODEL": {
            "NEW_HIP": script == "hiptrack",
            "BACKBONE": {
                "TYPE": "vit_tiny_patch16_224_ce",
                "EMBED_DIM": 24,
                "DEPTH": 2,
                "NUM_HEADS": 2,
                "CE_LOC": [1],
                "CE_KEEP_RATIO": [0.7],
                "CE_TEMPLATE_RANGE": "GT_BOX",  # rows of each template's own box
            },
            "HEAD": {"NUM_CHANNELS": 16},
            **({"HISTORY": {"KEY_DIM": 8, "ENCODER_WIDTH": 4}, "MAX_MEM": 2} if script == "hiptrack" else {}),
        },
        "TASKS": HEADS,
        "TEST": {"UPDATE_INTERVAL": 4},
    }
    return config_from_dict(values, script=script)


def make(script: str = "hiptrack") -> OnlineTracker:
    torch.manual_seed(0)
    cfg = settings(script)
    return OnlineTracker(build_tracker(cfg, script), cfg)


@dataclass
class Video:
    """Noise of its own size, a box, zones, and time stamps at its own rate, or none."""

    images: list[np.ndarray]
    box: list[float]
    zones: dict[str, Any]
    rate: float | None

    def time(self, index: int) -> float | None:
        return None if self.rate is None else 3.0 + index / self.rate


def videos(lengths: Sequence[int]) -> list[Video]:
    random = np.random.default_rng(3)
    made = []
    for number, length in enumerate(lengths):
        size = (120, 160, 3) if number % 2 else (90, 200, 3)
        images = [random.integers(0, 256, size, dtype=np.uint8) for _ in range(length)]
        box = [20.0 + 13 * number, 15.0 + 7 * number, 24.0 + 5 * number, 20.0]
        made.append(Video(images, box, dict(ZONES[number % 3]), (None, 10.0, 2.0)[number % 3]))
    return made


def alone(tracker: OnlineTracker, video: Video) -> list[dict[str, Any]]:
    tracker.initialize(video.images[0], video.box, video.time(0), video.zones)
    rest = enumerate(video.images[1:], start=1)
    return [tracker.track(image, video.time(index)) for index, image in rest]


def together(tracker: OnlineTracker, given: Sequence[Video], begin: Sequence[int]) -> list[list[Any]]:
    """Run the videos in one batch; each joins at a step of its own and leaves at its end."""
    found: list[list[Any]] = [[] for _ in given]
    targets = [tracker.start(video.images[0], video.box, video.time(0), video.zones) for video in given]
    for step in range(max(first + len(video.images) for first, video in zip(begin, given, strict=True))):
        running = [
            (number, step - first + 1)
            for number, (first, video) in enumerate(zip(begin, given, strict=True))
            if 1 <= step - first + 1 < len(video.images)
        ]
        answers = tracker.track_together(
            [targets[number] for number, _ in running],
            [given[number].images[index] for number, index in running],
            [given[number].time(index) for number, index in running],
        )
        for (number, _), answer in zip(running, answers, strict=True):
            found[number].append(answer)
    return found


def assert_alike(one: Any, other: Any, place: str = "") -> None:
    """Numbers within 1e-3 (of pixels and seconds) and 1e-4 (of shares); all else equal."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_alike(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_alike(a, b, f"{place}[{index}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-4 if abs(one) <= 1 else 1e-3), place
    elif isinstance(one, np.ndarray):
        np.testing.assert_allclose(one, other, atol=1e-4, err_msg=place)
    else:
        assert one == other, place


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_a_batch_answers_what_each_video_answers_alone(script: str) -> None:
    """The memory of two entries is written at frames 5, 10, 12 and 16: some read templates, some are written,
    and one's oldest entry is gone already."""
    given = videos([18, 6, 14, 13])
    batched = together(make(script), given, begin=[0, 2, 3, 5])
    single = make(script)
    for number, video in enumerate(given):
        expected = alone(single, video)
        assert len(batched[number]) == len(expected) == len(video.images) - 1
        for index, (answer, wanted) in enumerate(zip(batched[number], expected, strict=True), start=1):
            assert_alike(answer, wanted, f"video {number} frame {index}")
    boxes = [answer["target_bbox"] for found in batched for answer in found]
    assert len({tuple(box) for box in boxes}) == len(boxes)  # else equal boxes would say little


def test_videos_keep_apart() -> None:
    """The others in the batch don't matter: a video beside itself, later, and beside another."""
    video, other = videos([14, 14])
    beside = together(make(), [video, video], begin=[0, 3])
    assert_alike(beside[0], beside[1])
    assert_alike(together(make(), [other, video], begin=[1, 0])[1], beside[0])


def test_a_bad_frame_ends_one_video() -> None:
    tracker, given = make(), videos([4, 4, 4])
    targets = [tracker.start(video.images[0], video.box, 1.0) for video in given]
    images: list[Any] = [given[0].images[1], np.zeros((4, 4)), given[2].images[1]]
    first, second, third = tracker.track_together(targets, images, [2.0, 2.0, 0.5])
    assert isinstance(first, dict) and first["score"] >= 0
    assert "found float64 (4, 4)" in str(second)
    assert "frame 1 is at 0.5 s, the one before at 1.0 s" in str(third)
    assert tracker.track_together([], [], []) == []


def test_a_failing_head_ends_one_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that can't stand bright frames fails the whole batch; only the bright video may end."""
    given = videos([12, 12])
    bright = 10
    given[1].images[bright][:] = 255
    expected = alone(make(), given[0])
    tracker = make()
    head, forward = tracker.net.graph.heads["seg"], tracker.net.graph.heads["seg"].forward

    def fails(tokens: Any, upstream: Any, clip: Any) -> Any:
        if bool(((clip.search > 2.0).flatten(1).float().mean(1) > 0.15).any()):  # noise has 0.06 of white
            raise FloatingPointError("too bright")
        return forward(tokens, upstream, clip)

    monkeypatch.setattr(head, "forward", fails)
    targets = [tracker.start(video.images[0], video.box, video.time(0), video.zones) for video in given]
    for index in range(1, 12):
        images = [video.images[index] for video in given[: len(targets)]]
        answers = tracker.track_together(targets, images, [v.time(index) for v in given[: len(targets)]])
        assert_alike(answers[0], expected[index - 1], f"frame {index}")
        if index == bright:
            assert isinstance(answers[1], FloatingPointError) and str(answers[1]) == "too bright"
            targets.pop()
        assert targets[0].memory is not None
        assert targets[0].memory.count == min(2, sum(index >= written for written in (5, 10)))


def test_a_batch_that_no_video_is_to_blame_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, given = make("ostrack"), videos([3, 3])
    targets = [tracker.start(video.images[0], video.box) for video in given]
    images = [video.images[1] for video in given]
    run = Tracker.track_videos
    errors = [torch.OutOfMemoryError("4 GiB"), ValueError("no even batches")]

    def refuses(self: Tracker, clip: Any, *more: Any) -> Any:
        if clip.batch_size > 1:
            raise errors[0]
        return run(self, clip, *more)

    monkeypatch.setattr(Tracker, "track_videos", refuses)
    found = tracker.track_together(targets, images, [None, None])
    wanted = "no memory for 2 videos in one batch: OutOfMemoryError: 4 GiB; give a smaller --batch"
    assert all(isinstance(error, RuntimeError) and wanted in str(error) for error in found)
    errors.pop(0)
    found = tracker.track_together(targets, images, [None, None])
    wanted = (
        "a batch of 2 videos fails, though each alone doesn't: ValueError: no even batches; give a smaller"
    )
    assert all(isinstance(error, RuntimeError) and wanted in str(error) for error in found)


def test_result_files_hold_what_one_after_the_other_writes(tmp_path: Path) -> None:
    for number, video in enumerate(videos([9, 4, 13])):
        images = tmp_path / "data" / f"v{number}" / "img"
        images.mkdir(parents=True)
        for index, image in enumerate(video.images):
            cv2.imwrite(str(images / f"{index + 1:04d}.png"), image)
        line = ",".join(map(str, video.box)) + "\n"
        (images.parent / "groundtruth.txt").write_text(line * len(video.images))
    sequences = load_benchmark(str(tmp_path / "data")).sequences
    folders = []
    for batch in (1, 2):
        folder = ResultFolder.of(tmp_path / "results", "tiny", str(batch))
        summary = run(lambda device: make(), sequences, Settings(folder, decimals=6, batch=batch))
        assert len(summary.done) == 3, summary.failed
        folders.append(folder)
    one, two = folders
    for name in ("v0", "v1", "v2"):
        np.testing.assert_allclose(read_boxes(one.boxes(name)), read_boxes(two.boxes(name)), atol=1e-3)
        assert_alike(read_tasks(one.tasks(name)), read_tasks(two.tasks(name)), name)
