"""The server for the VOT toolkit, with a stand-in for the protocol's library."""

from __future__ import annotations

import configparser
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_trax import QUIT, Mask, Polygon, Rectangle, Special, fake_trax, request

from mtltrack.core.errors import DataError
from mtltrack.core.rle import encode_mask
from mtltrack.evaluation.vot import mask_box, region_box, registry_entry, serve


class Walker:
    """A tracker whose box moves one pixel to the right a frame; its mask is the filled box."""

    def __init__(self, log: list[Any], number: int) -> None:
        self.log, self.number = log, number

    def initialize(self, rgb: np.ndarray, box_xywh: list[float], **_: Any) -> None:
        self.box = list(box_xywh)
        self.log.append((f"start {self.number}", int(rgb[0, 0, 0]), self.box))

    def track(self, rgb: np.ndarray, **_: Any) -> dict[str, Any]:
        self.box = [self.box[0] + 1, *self.box[1:]]
        self.log.append((f"track {self.number}", int(rgb[0, 0, 0])))
        x, y, w, h = map(int, self.box)
        mask = np.zeros(rgb.shape[:2], np.uint8)
        mask[y : y + h, x : x + w] = 1
        return {"target_bbox": self.box, "score": 0.25, "tasks": {"seg": {"mask": encode_mask(mask)}}}


@pytest.fixture
def frames(tmp_path: Path) -> list[Path]:
    """Pictures of 8 x 6 pixels whose red is 10 times their number."""
    paths = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((6, 8, 3), (0, 0, 10 * number), np.uint8))  # BGR
        paths.append(path)
    return paths


def walkers(log: list[Any]) -> Callable[[], Walker]:
    made: list[Walker] = []

    def factory() -> Walker:
        made.append(Walker(log, len(made)))
        return made[-1]

    return factory


def numbers(answer: tuple[str, Any]) -> list[tuple[float, ...]]:
    assert answer[0] == "answer"
    return [region.bounds() for region, _ in answer[1]]


def test_order_of_the_protocol(frames: list[Path]) -> None:
    """Wait, start, answer as given; wait, track, answer; then the end."""
    log: list[Any] = []
    first = Rectangle(1.0, 2.0, 3.0, 2.0)
    script = [request("initialize", frames[1], first), request("frame", frames[2]), QUIT]
    trax = fake_trax(script, log)
    assert serve(trax, walkers(log), masks=False, name="me") == 2
    assert log[0] == ("made", ["rectangle"], ["path"], {"tracker_name": "me", "multiobject": True})
    kinds = [entry[0] for entry in log[1:]]
    assert kinds == ["wait", "start 0", "answer", "wait", "track 0", "answer", "wait", "quit"]
    assert log[2] == ("start 0", 10, [1.0, 2.0, 3.0, 2.0])  # red of frame 1: the image comes as RGB
    assert log[3][1] == [(first, {})]
    assert numbers(log[6]) == [(2.0, 2.0, 3.0, 2.0)] and log[6][1][0][1] == {"confidence": 0.25}
    assert log[-1] == ("quit", None)


def test_targets_may_come_later_and_another_video_forgets_them(frames: list[Path]) -> None:
    log: list[Any] = []
    one, two = Rectangle(0.0, 0.0, 2.0, 2.0), Rectangle(4.0, 4.0, 2.0, 2.0)
    script = [
        request("initialize", frames[0], one),
        request("frame", frames[1], two),
        request("frame", frames[2]),
        request("initialize", frames[3], two),
        request("frame", frames[0]),
        QUIT,
    ]
    serve(fake_trax(script, log), walkers(log), masks=False)
    answers = [numbers(entry) for entry in log if entry[0] == "answer"]
    assert answers == [
        [(0.0, 0.0, 2.0, 2.0)],
        [(1.0, 0.0, 2.0, 2.0), (4.0, 4.0, 2.0, 2.0)],
        [(2.0, 0.0, 2.0, 2.0), (5.0, 4.0, 2.0, 2.0)],
        [(4.0, 4.0, 2.0, 2.0)],
        [(5.0, 4.0, 2.0, 2.0)],
    ]
    started = [entry[0] for entry in log if entry[0].startswith("start")]
    assert started == ["start 0", "start 1", "start 0"]  # the second video takes a tracker that is there


def test_masks_are_taken_and_answered(frames: list[Path]) -> None:
    log: list[Any] = []
    pixels = np.zeros((2, 3), np.uint8)
    pixels[:, 1:] = 1
    script = [request("initialize", frames[0], Mask(pixels, 1, 3)), request("frame", frames[1]), QUIT]
    serve(fake_trax(script, log), walkers(log), masks=True)
    assert log[0][1] == ["mask"]
    assert log[2] == ("start 0", 0, [2.0, 3.0, 2.0, 2.0])
    wanted = np.zeros((6, 8), np.uint8)
    wanted[3:5, 3:5] = 1  # moved by a pixel
    np.testing.assert_array_equal(log[6][1][0][0].array(), wanted)


def test_a_failure_is_told_to_the_toolkit_and_raised(frames: list[Path]) -> None:
    class Broken(Walker):
        def track(self, rgb: np.ndarray, **_: Any) -> dict[str, Any]:
            raise RuntimeError(f"no answer for {rgb.shape}")

    for hangs_up in (False, True):  # a toolkit that is gone doesn't hide the reason
        log: list[Any] = []
        script = [request("initialize", frames[0], Rectangle(0, 0, 2, 2)), request("frame", frames[1])]
        with pytest.raises(RuntimeError, match=r"no answer for \(6, 8, 3\)"):
            serve(fake_trax(script, log, hangs_up), lambda entries=log: Broken(entries, 0), masks=False)
        assert log[-1] == ("quit", "RuntimeError: no answer for (6, 8, 3)")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    log: list[Any] = []
    script = [request("initialize", tmp_path / "none.jpg", Rectangle(0, 0, 2, 2))]
    with pytest.raises(DataError, match=r"can't read the image '.*none\.jpg'"):
        serve(fake_trax(script, log), walkers(log), masks=False)
    assert "none.jpg" in log[-1][1]


def test_an_end_that_fails_is_an_error() -> None:
    with pytest.raises(DataError, match="didn't end as it should: nobody listens"):
        serve(fake_trax([QUIT], [], hangs_up=True), walkers([]), masks=False)


def test_boxes_of_regions() -> None:
    assert region_box(Rectangle(1, 2, 3, 4)) == [1, 2, 3, 4]
    assert region_box(Polygon((1, 5), (3, 2), (4.5, 4))) == [1, 2, 3.5, 3]
    assert region_box(Mask(np.eye(2, 3, dtype=np.uint8), 4, 5)) == [4, 5, 2, 2]
    with pytest.raises(DataError, match="by a region of the kind 'special'"):
        region_box(Special())
    with pytest.raises(DataError, match="the mask of a target is empty"):
        mask_box(np.zeros((3, 3)))


def test_entry_in_the_list_of_trackers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trackers.ini"
    command = ["/a b/python", "vot.py", "--cfg-options", "TEST.EPOCH=%5"]
    registry_entry(path, "mine", "Mine", ["python", "old.py"])
    registry_entry(path, "other", "Other", ["python"])
    registry_entry(path, "mine", "50 %", command)
    entries = configparser.ConfigParser()
    entries.read(path)
    assert entries.sections() == ["mine", "other"]
    assert dict(entries["mine"]) == {
        "label": "50 %",
        "protocol": "trax",
        "command": shlex.join(command),
        "timeout": "300",
    }


def test_entries_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "trackers.ini"
    for name in ("a-b", "1a", "ä"):
        with pytest.raises(DataError, match=f"letters, digits and _ for a tracker's name, not '{name}'"):
            registry_entry(path, name, name, ["python"])
    path.write_text("no section\n")
    with pytest.raises(DataError, match="isn't a list of trackers that could be added to"):
        registry_entry(path, "mine", "mine", ["python"])
    assert path.read_text() == "no section\n"
