from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS
from mtltrack.core.rle import decode_png
from mtltrack.metrics.masks import (
    MaskMetrics,
    boundary,
    boundary_accuracy,
    mask_statistics,
    region_similarity,
)


def square(top: int, left: int, side: int, size: int = 100) -> np.ndarray:
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def test_region_similarity_by_hand() -> None:
    # 10 x 10 squares that share 5 x 10 pixels: 50 / 150
    assert region_similarity(square(20, 20, 10), square(20, 25, 10)) == pytest.approx(1 / 3)
    assert region_similarity(square(20, 20, 10) * 255, square(20, 20, 10)) == 1.0
    empty = square(0, 0, 0)
    assert region_similarity(empty, empty) == 1.0
    assert region_similarity(empty, square(0, 0, 1)) == 0.0


def test_boundary_lies_on_the_last_pixel_and_before_the_first() -> None:
    mask = np.zeros((5, 6), dtype=np.uint8)
    mask[2:4, 2:4] = 1
    expected = np.zeros((5, 6), dtype=np.uint8)
    expected[1:4, 1:4] = 1
    expected[2, 2] = 0  # all of its right and lower neighbours are like it
    np.testing.assert_array_equal(boundary(mask), expected)
    assert not boundary(np.ones((4, 4), dtype=np.uint8)).any()
    # no outline along the right and lower edges of the image
    corner = np.zeros((4, 4), dtype=np.uint8)
    corner[2:, 2:] = 1
    assert boundary(corner).tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]


def test_boundary_accuracy_by_hand() -> None:
    # an image of 100 x 100: 0.008 * 141.4 = 1.13, so outlines meet up to 2 pixels apart
    mask = square(30, 30, 20)
    assert boundary_accuracy(mask, mask) == 1.0
    assert boundary_accuracy(mask, square(31, 31, 20)) == 1.0
    assert boundary_accuracy(mask, square(60, 60, 20)) == 0.0
    empty = square(0, 0, 0)
    assert boundary_accuracy(empty, empty) == 1.0
    assert boundary_accuracy(empty, mask) == 0.0 == boundary_accuracy(mask, empty)
    # two bars across the image, one pixel wide, against one of them: the outline of a bar in row r is the
    # rows r - 1 and r, so half of what is predicted is met and all of what is true: 2 * 0.5 / 1.5
    one, two = np.zeros((2, 100, 100), dtype=np.uint8)
    one[20] = two[20] = two[70] = 1
    assert boundary_accuracy(two, one) == pytest.approx(2 / 3) == boundary_accuracy(one, two)


def disk_reference(predicted: np.ndarray, target: np.ndarray, reach: int) -> float:
    """F by widening each outline with a disk, the form in which the benchmark's authors wrote it."""
    grid = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = ((grid**2).sum(0) <= reach**2).astype(np.uint8)
    a, b = boundary(predicted), boundary(target)
    precision = (a & cv2.dilate(b, disk)).sum() / a.sum()
    recall = (b & cv2.dilate(a, disk)).sum() / b.sum()
    return 2 * precision * recall / (precision + recall)


def test_boundary_accuracy_equals_widening_by_a_disk() -> None:
    rng = np.random.default_rng(0)
    for size in ((120, 160), (480, 854)):
        reach = math.ceil(0.008 * math.hypot(*size))
        for _ in range(3):
            noise = [cv2.GaussianBlur(rng.random(size), (0, 0), 6) for _ in range(2)]
            masks = [(part > np.quantile(part, 0.8)).astype(np.uint8) for part in noise]
            expected = disk_reference(*masks, reach)
            assert 0.0 < expected < 1.0
            assert boundary_accuracy(*masks) == pytest.approx(expected, rel=1e-12)


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(DataError, match=r"need one size \(H, W\); found \(4, 4\) and \(4, 5\)"):
        region_similarity(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))


def test_statistics_by_hand() -> None:
    # nine frames: quarters are the frames 0 to 2 and 6 to 8
    scores = np.array([0.9, 0.8, 0.7, 0.5, 0.5, 0.5, 0.6, 0.4, 0.2])
    found = mask_statistics(scores)
    assert found["mean"] == pytest.approx(5.1 / 9)
    assert found["recall"] == pytest.approx(4 / 9)  # 0.5 isn't above 0.5
    assert found["decay"] == pytest.approx(0.8 - 0.4)
    assert all(math.isnan(value) for value in mask_statistics(np.zeros(0)).values())


def test_metrics_average_over_sequences() -> None:
    metrics = METRICS.get("MaskMetrics")()
    assert all(math.isnan(value) for value in metrics.compute().values())
    mask, other = square(20, 20, 10), square(20, 25, 10)
    for _ in range(3):
        metrics.update(mask, mask, "a")
    metrics.update(other, mask, "b")
    scores = metrics.compute()
    assert set(scores) == {f"{k}_{n}" for k in "JF" for n in ("mean", "recall", "decay")} | {"JF_mean"}
    assert scores["J_mean"] == pytest.approx((1 + 1 / 3) / 2)
    assert scores["J_recall"] == 0.5
    assert scores["JF_mean"] == pytest.approx((scores["J_mean"] + scores["F_mean"]) / 2)
    assert metrics.sequences()["b"]["J_mean"] == pytest.approx(1 / 3)
    metrics.reset()
    assert metrics.sequences() == {}
    only_regions = MaskMetrics(boundaries=False)
    only_regions.update(mask, other)
    assert set(only_regions.compute()) == {"J_mean", "J_recall", "J_decay"}


def test_scores_equal_the_published_ones(data_root: Path) -> None:
    folder = data_root / "evalcheck" / "davis_osvos"
    if not folder.is_dir():
        pytest.skip(f"no masks of OSVOS in {folder}")
    published = json.loads((folder / "published_J_F.json").read_text(encoding="utf-8"))
    metrics = MaskMetrics()
    for sequence in published:
        # the benchmark leaves the first and last frame out
        for path in sorted((folder / "results" / sequence).glob("*.png"))[1:-1]:
            truth = data_root / "vos" / "Annotations" / "480p" / sequence / path.name
            metrics.update(
                decode_png(path.read_bytes(), str(path)),
                decode_png(truth.read_bytes(), str(truth)),
                sequence,
            )
    found = metrics.sequences()
    assert {
        name: {"J": f"{row['J_mean']:.4f}", "F": f"{row['F_mean']:.4f}"} for name, row in found.items()
    } == published
