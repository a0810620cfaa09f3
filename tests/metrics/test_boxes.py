"""Overlaps and distances worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.metrics import boxes


def as_array(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=float)


def test_overlap_by_hand() -> None:
    pred = as_array([0, 0, 10, 10], [5, 0, 10, 10], [20, 20, 5, 5], [0, 0, 1, 1], [0, 0, 2, 3])
    true = as_array([0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 1, 1], [1, 1, 2, 3])
    # 1; 50 of 150; disjoint; a single pixel; 1 x 2 of 6 + 6 - 2
    assert boxes.overlap(pred, true) == pytest.approx([1, 1 / 3, 0, 1, 0.2])


def test_touching_boxes_do_not_overlap() -> None:
    assert boxes.overlap(as_array([10, 0, 10, 10]), as_array([0, 0, 10, 10])).tolist() == [0.0]


def test_two_empty_boxes_have_no_overlap_to_speak_of() -> None:
    assert np.isnan(boxes.overlap(as_array([0, 0, 0, 0]), as_array([0, 0, 0, 0]))).all()


def test_centre_counts_the_last_pixel() -> None:
    assert boxes.box_centres(as_array([0, 0, 3, 5])).tolist() == [[1.0, 2.0]]
    assert boxes.centre_error(as_array([3, 0, 3, 5]), as_array([0, 4, 3, 5])).tolist() == [5.0]


def test_normalised_centre_error() -> None:
    pred, true = as_array([6, 0, 20, 10]), as_array([0, 4, 20, 10])
    assert boxes.normalised_centre_error(pred, true) == pytest.approx([0.5])  # (6 / 20, 4 / 10)
    assert np.isinf(boxes.normalised_centre_error(as_array([5, 5, 2, 2]), as_array([0, 0, 0, 4]))).all()
    assert boxes.toolkit_centre_error(as_array([3, 4, 0, 0]), as_array([0, 0, 0, 0])).tolist() == [5.0]


def test_clipping_to_the_image() -> None:
    box = as_array([-5, 2, 10, 10])
    assert boxes.clip_to_image(box, (20, 8)).tolist() == [[0, 2, 10, 6]]  # the toolkit's: the box slides in
    assert boxes.clip_to_image(box, (20, 8), shrink=True).tolist() == [[0, 2, 5, 6]]
    outside = boxes.clip_to_image(as_array([30, 30, 5, 5]), (20, 8))
    assert outside.tolist() == [[20, 8, 0, 0]]


def test_bounded_overlap() -> None:
    pred, true = as_array([-5, 0, 10, 10]), as_array([0, 0, 10, 10])
    assert boxes.rect_iou(pred, true) == pytest.approx([1 / 3])
    assert boxes.rect_iou(pred, true, (100, 100)) == pytest.approx([1.0])
    assert boxes.rect_iou(pred, true, (100, 100), shrink=True) == pytest.approx([0.5])


def test_shapes_are_checked() -> None:
    assert boxes.as_boxes([]).shape == (0, 4)
    assert boxes.as_boxes([1, 2, 3, 4]).shape == (1, 4)
    with pytest.raises(DataError, match=r"predictions must have the shape \(N, 4\).*found \(2, 3\)"):
        boxes.as_boxes([[1, 2, 3], [4, 5, 6]], "predictions")
