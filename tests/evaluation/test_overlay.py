"""What is drawn into frames, and the videos made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_trackers import walk, write_sequence

from mtltrack.core.errors import DataError
from mtltrack.core.rle import encode_mask
from mtltrack.evaluation import overlay
from mtltrack.evaluation.benchmarks import load_benchmark
from mtltrack.evaluation.canvas import Canvas
from mtltrack.evaluation.overlay import ALERT_RGB, PLATE_RGB, PREDICTION_RGB, TRUTH_RGB, draw, write_overlay
from mtltrack.evaluation.results import ResultFolder, write_results

GREY = np.full((360, 640, 3), 90, dtype=np.uint8)
BOX = [300.0, 150.0, 120.0, 80.0]
ZONES = {"lane": np.array([[40.0, 250.0], [500.0, 250.0], [500.0, 340.0], [40.0, 340.0]])}


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels that differ."""
    return (before != after).any(axis=2)


def area(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what isn't 0, the last ones beyond it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_boxes() -> None:
    drawn = draw(GREY, BOX, [100, 160, 50, 40])
    assert tuple(drawn[150, 350]) == tuple(drawn[229, 350]) == tuple(drawn[200, 419]) == PREDICTION_RGB
    assert tuple(drawn[160, 120]) == TRUTH_RGB and tuple(drawn[199, 120]) == TRUTH_RGB
    # nothing else is touched: outlines are one pixel wide, none is inside or around
    assert changed(GREY, drawn).sum() == 2 * (120 + 80) - 4 + 2 * (50 + 40) - 4
    assert (GREY == 90).all()
    assert not changed(GREY, draw(GREY, [np.nan] * 4, [1, 1, 0, 5])).any()


def test_a_mask_tints_its_pixels() -> None:
    mask = np.zeros((360, 640), dtype=np.uint8)
    mask[170:200, 320:380] = 1
    drawn = draw(GREY, said={"seg": {"mask": encode_mask(mask), "area": 1800, "confidence": 0.5}})
    # 60 % of the frame's 90 and 40 % of (0, 190, 255)
    assert drawn[185, 350].tolist() == [54, 130, 156]
    assert changed(GREY, drawn)[165:205, 300:400].sum() == pytest.approx(1800, abs=200)  # and its outline


def test_plate_and_text() -> None:
    plate = {"present": True, "confidence": 0.9, "bbox": [340.0, 200.0, 380.0, 212.0]}
    bare = draw(GREY, said={"plate": plate})
    assert tuple(bare[200, 360]) == tuple(bare[211, 379]) == PLATE_RGB
    reading = {
        "text": "AB12",
        "confidence": 0.4,
        "fused": {"text": "京A12345", "confidence": 0.9, "frames": 3},
    }
    read = draw(GREY, said={"plate": plate, "ocr": reading})
    left, top, right, bottom = area((read == PLATE_RGB).all(axis=2))
    assert (left, top) == (340, 200) and bottom > 220 and right > 390  # the text stands below the plate
    gone = draw(GREY, said={"plate": {**plate, "present": False}, "ocr": reading})
    assert not (gone == PLATE_RGB).all(axis=2).any()


def test_chinese_letters_are_drawn_and_differ() -> None:
    pictures = []
    for text in ("京", "沪", "?"):
        canvas = Canvas(np.zeros((40, 60, 3), dtype=np.uint8))
        canvas.write(text, 10, 30, (255, 255, 255))
        pictures.append(canvas.image)
    assert all(picture.any() for picture in pictures)
    assert changed(pictures[0], pictures[1]).any() and changed(pictures[0], pictures[2]).any()


def stop(alert: bool, seconds: float) -> dict[str, Any]:
    return {"alert": {"alert": alert, "stopped": seconds, "overlap": 0.5, "zone": "lane", "speed": 0.0}}


def test_an_alert_is_red() -> None:
    calm, red = draw(GREY, BOX, None, stop(False, 30), ZONES), draw(GREY, BOX, None, stop(True, 130), ZONES)
    assert tuple(calm[0, 600]) == (90, 90, 90) and tuple(red[0, 600]) == tuple(red[359, 0]) == ALERT_RGB
    assert tuple(calm[200, 419]) == PREDICTION_RGB and tuple(red[200, 419]) == ALERT_RGB
    inside = red[330, 100].astype(int), calm[330, 100].astype(int)
    assert inside[0][0] > inside[1][0] and inside[0][1] < 90  # the zone's red is stronger than its orange
    assert calm[330, 100].tolist() == [110, 97, 84]  # 88 % of 90 and 12 % of (255, 150, 40)
    assert changed(calm, red)[340:, 250:390].any()  # what is written at the lower edge
    others = draw(GREY, BOX, None, stop(True, 130), {"other": ZONES["lane"]})
    np.testing.assert_array_equal(others[330, 100], calm[330, 100])  # only the zone that is named turns red


def test_the_stop_clock_stands_on_the_box() -> None:
    moving, still = (draw(GREY, BOX, None, stop(False, seconds)) for seconds in (0.0, 65.0))
    left, top, _, bottom = area(changed(moving, still)[100:, 250:])
    assert (left + 250, bottom + 100) == (300, 150) and 120 < top + 100 < 150
    assert overlay.clock(65.9) == "1:05" and overlay.clock(0.5) == "0:00" and overlay.clock(7384) == "2:03:04"


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (320, 240), (1920, 1080)])
def test_any_size_and_boxes_at_the_edge(size: tuple[int, int]) -> None:
    frame = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    said = {
        "score": 0.5,
        "cls": {"name": "Normal", "confidence": 0.5},
        "plate": {"present": True, "confidence": 1.0, "bbox": [-5, size[1] - 3, size[0] + 5, size[1] + 9]},
        "ocr": {"text": "ABC123", "confidence": 1.0},
        **stop(True, 500),
    }
    zones = {"far": ZONES["lane"] + 1e6, "near": np.array([[-50.0, -50], [20, -50], [20, 20]])}
    drawn = draw(frame, [-20, -20, 60, 50], [0, 0, size[0], size[1]], said, zones, "a long title " * 9)
    assert drawn.shape == frame.shape and drawn.any()


def test_rows_of_the_panel() -> None:
    said = {
        "frame": 3,
        "score": 0.5,
        "cls": {"name": "Occlusion", "confidence": 0.25, "flags": ["Occlusion", "Motion Blur"]},
        "seg": {"mask": {}, "area": 1200, "confidence": 0.875},
        "plate": {"present": False, "confidence": 0.125, "bbox": None},
        "ocr": {"text": "", "confidence": 0.0, "fused": {"text": "", "confidence": 0.0, "frames": 0}},
        "alert": {"alert": False, "stopped": 61.0, "overlap": 0.5, "zone": "lane"},
        "speed": {"name": "fast", "confidence": 0.75},
    }
    assert overlay.describe(said) == [
        ("scene", "Occlusion, Motion Blur  0.25"),
        ("mask", "1200 px  0.88"),
        ("plate", "none  0.12"),
        ("text", "none"),
        ("stop", "1:01  lane 0.50"),
        ("speed", "fast  0.75"),
    ]
    read = {"ocr": {"text": "A", "confidence": 0.5, "fused": {"text": "AB", "confidence": 0.75, "frames": 4}}}
    assert overlay.describe(read) == [("text", "AB  0.75  of 4 frames")]
    assert overlay.describe({"cls": {"name": "Normal", "confidence": 0.25}}) == [("scene", "Normal  0.25")]
    title = draw(GREY, title="a")
    assert changed(GREY, title)[:40, :60].any() and not changed(GREY, title)[60:].any()


def test_words_keep_out_of_the_targets_way() -> None:
    left = draw(GREY, [300.0, 100.0, 50.0, 40.0], title="frame 1")
    right = draw(GREY, [10.0, 10.0, 120.0, 80.0], title="frame 1")
    wide = draw(GREY, [10.0, 10.0, 620.0, 80.0], title="frame 1")
    assert area(changed(GREY, left)[:60])[2] < 200 and not changed(GREY, left)[:40, 400:].any()
    assert area(changed(GREY, right)[:9])[0] > 400  # above the box only the words
    assert area(changed(GREY, wide)[:9])[2] < 200  # no corner is free
    middle, target = (270, 295), [200.0, 250.0, 150.0, 90.0]
    around = np.s_[middle[1] - 4 : middle[1] + 4, middle[0] - 10 : middle[0] + 10]
    free, taken = (draw(GREY, box, zones=ZONES) for box in (None, target))
    assert len(np.unique(free[around])) > 4  # letters
    assert len(np.unique(taken[around].reshape(-1, 3), axis=0)) == 1  # the tint alone
    assert changed(free, taken)[260:300, 40:200].any()


def frames_of(path: Path) -> tuple[list[np.ndarray], float]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (answer := video.read())[0]:
        frames.append(answer[1])
    rate = float(video.get(cv2.CAP_PROP_FPS))
    video.release()
    return frames, rate


def test_overlay_video(tmp_path: Path) -> None:
    boxes = walk(5, step=2, width=40) * 4
    write_sequence(tmp_path / "data" / "s", boxes, size=(321, 240))
    sequence = load_benchmark(str(tmp_path / "data")).sequences[0]
    folder = ResultFolder(tmp_path / "r")
    moved = boxes + 100.0 * np.array([1, 1, 0, 0])
    write_results(folder, "s", moved, [0.1] * 5, [{"frame": n} for n in range(1, 6)])
    frames, rate = frames_of(write_overlay(sequence, folder, tmp_path / "s.mp4", fps=10))
    assert len(frames) == 5 and frames[0].shape == (240, 320, 3) and rate == 10
    blue, green, red = frames[4][115:119, 200].astype(int).max(axis=0)  # the upper edge of the predicted box
    assert blue > 150 and blue > green + 30 and green > red + 40
    timed = replace(sequence, timestamps=np.array([0.0, 0.25, 0.5, 5.0, 5.25]))
    assert frames_of(write_overlay(timed, folder, tmp_path / "t.mp4", fps=10))[1] == 4  # the median distance
    slow = replace(sequence, timestamps=300.0 * np.arange(5))
    assert frames_of(write_overlay(slow, folder, tmp_path / "u.mp4"))[1] == 1
    write_results(folder, "s", boxes[:3], [0.1] * 3)
    with pytest.raises(DataError, match="holds 3 boxes, but 's' has 5 frames"):
        write_overlay(sequence, folder, tmp_path / "v.mp4")
