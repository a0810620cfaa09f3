"""Which frames are shown as the worst, from overlaps worked out by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_trackers import walk, write_sequence

from mtltrack.evaluation.analysis import MOST_PICTURES, analyse, show_worst
from mtltrack.evaluation.report import Results, Rules, Truth, evaluate
from mtltrack.evaluation.results import ResultFolder, write_results
from mtltrack.evaluation.worst_frames import draw_worst, worst_frames

RIGHT = np.array([1.0, 0, 0, 0])


def moved(boxes: np.ndarray, **by_frame: float) -> np.ndarray:
    """Move the boxes of some frames (`f3=5.0`: frame 3, counted from 1) to the right."""
    boxes = boxes.copy()
    for name, pixels in by_frame.items():
        boxes[int(name[1:]) - 1] += pixels * RIGHT
    return boxes


def results_of(folder: Path, **boxes: np.ndarray) -> ResultFolder:
    results = ResultFolder(folder)
    for name, rows in boxes.items():
        write_results(results, name, rows, [0.1] * len(rows), decimals=2)
    return results


def test_the_worst_frame_of_the_worst_sequences(tmp_path: Path) -> None:
    still = walk(6, step=0)  # boxes 10 x 8
    truths = [Truth("good", still), Truth("lost", still, first_frame=101), Truth("fair", still)]
    results = results_of(
        tmp_path,
        good=moved(still, f4=2),  # an overlap of 8 / 12
        # overlaps 1, 0.9 / 1.1, 0, 0, 0, 1; frame 5 is farthest off
        lost=moved(still, f2=1, f3=10, f4=15, f5=30),
        fair=moved(still, f2=5, f3=6),  # overlaps 5 / 15 and 4 / 16
    )
    (report,) = evaluate(truths, {"t": results}, Rules())
    worst, second = worst_frames(report, truths, results, Rules(), 2)
    assert (worst.sequence, worst.index, worst.frame, worst.overlap) == ("lost", 4, 105, 0.0)
    assert worst.distance == pytest.approx(3.0)  # 30 pixels are 3 widths
    assert worst.lost_since == 103 and worst.box_xywh == (33.0, 4.0, 10.0, 8.0)
    assert worst.words() == "lost, frame 105: overlap 0.00, 3.0 box sizes off, lost since frame 103"
    assert (second.sequence, second.frame, second.lost_since) == ("fair", 3, None)
    assert second.overlap == pytest.approx(4 / 16)
    assert second.words() == "fair, frame 3: overlap 0.25, 0.6 box sizes off"
    assert len(worst_frames(report, truths, results, Rules(), 9)) == 3


def test_frames_without_a_target_are_not_the_worst(tmp_path: Path) -> None:
    boxes = walk(4, step=0)
    hidden = np.array([True, True, False, True])
    gone = boxes.copy()
    gone[1:] = 0
    truths = [Truth("a", boxes, visible=hidden), Truth("b", gone)]
    results = results_of(tmp_path, a=moved(boxes, f2=2, f3=100), b=boxes)
    (report,) = evaluate(truths, {"t": results}, Rules())
    found = worst_frames(report, truths, results, Rules(), 5)
    assert [(frame.sequence, frame.frame) for frame in found] == [("a", 2)]  # b never has a target again


def test_a_result_that_ends_early_is_lost_where_it_ends(tmp_path: Path) -> None:
    boxes = walk(4, step=0)
    results = results_of(tmp_path, a=boxes[:2])
    rules = Rules(allow_partial=True)
    (report,) = evaluate([Truth("a", boxes)], {"t": results}, rules)
    (frame,) = worst_frames(report, [Truth("a", boxes)], results, rules, 1)
    assert frame.frame == 3 and frame.words() == "a, frame 3: overlap 0.00, no box, lost since frame 3"


def test_pictures_show_both_boxes(tmp_path: Path) -> None:
    boxes = walk(3, step=0)
    place = write_sequence(tmp_path / "data" / "a", boxes)
    frames = tuple(sorted((place / "img").iterdir()))
    shift = np.array([1.0, 1, 0, 0])
    truth = Truth("a", boxes, frames=frames, shift=shift)
    results = results_of(tmp_path / "r", a=moved(boxes, f3=20))
    (report,) = evaluate([truth], {"t": results}, Rules())
    (frame,) = worst_frames(report, [truth], results, Rules(), 1)
    data = draw_worst(frame, truth)
    assert data is not None and data[:2] == b"\xff\xd8" and len(data) < 20_000
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (300, 400, 3)  # ten times as large as the frame
    # the true box begins at x = 3 - 1, the tracker's at 22; both 8 high from y = 3 on
    blue, green, red = (int(value) for value in image[70, 20])
    assert green > 150 and blue < 120 and red < 120
    blue, green, red = (int(value) for value in image[70, 220])
    assert blue > 150 and red < 120
    frames[2].unlink()
    assert draw_worst(frame, truth) is None and draw_worst(frame, Truth("a", boxes)) is None


def test_the_number_of_pictures_is_limited(tmp_path: Path) -> None:
    boxes = walk(3, step=0)
    truths = [Truth(f"s{number}", boxes) for number in range(MOST_PICTURES + 1)]
    results = results_of(tmp_path, **{truth.name: moved(boxes, f2=3) for truth in truths})
    trackers: dict[str, Results] = {"a": results, "b": results}
    analysis = analyse("mine", truths, trackers, Rules())
    for each, shown in ((3, 6), (99, MOST_PICTURES), (0, 0)):
        show_worst(analysis, truths, trackers, each)
        assert len(analysis.worst) == shown
    many = {f"t{number}": results for number in range(MOST_PICTURES + 1)}
    analysis = analyse("mine", truths[:1], many, Rules())
    show_worst(analysis, truths[:1], many, 4)
    assert len(analysis.worst) == MOST_PICTURES + 1  # one each
