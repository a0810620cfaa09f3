from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mtltrack.core.errors import DataError
from mtltrack.metrics.detection import DetectionMetrics, average_precision, box_overlaps


def coco_scores(
    confidences: np.ndarray, predicted: np.ndarray, present: np.ndarray, true: np.ndarray
) -> tuple[float, float]:
    """AP50:95 and AP50 by pycocotools, one image a row."""

    def xywh(box: np.ndarray) -> list[float]:
        return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]

    images = [{"id": i + 1} for i in range(len(present))]
    truth = [
        {"id": i + 1, "image_id": i + 1, "category_id": 1, "bbox": xywh(box), "iscrowd": 0}
        | {"area": float((box[2:] - box[:2]).prod())}
        for i, box in enumerate(true)
        if present[i]
    ]
    found = [
        {"image_id": i + 1, "category_id": 1, "bbox": xywh(box), "score": float(confidences[i])}
        for i, box in enumerate(predicted)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1}]}
        gold.createIndex()
        evaluation = COCOeval(gold, gold.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def random_frames(seed: int, count: int = 60) -> tuple[np.ndarray, ...]:
    """Frames with and without an object, detections near and far, some confidences equal."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 80, (count, 2)), rng.uniform(5, 30, (count, 2))
    true = np.concatenate([corner, corner + size], axis=1)
    noise = rng.normal(0, rng.choice([0.3, 2.0, 20.0], (count, 1)), (count, 4))
    predicted = true + noise
    predicted[:, 2:] = np.maximum(predicted[:, 2:], predicted[:, :2] + 1)
    confidences = np.round(rng.uniform(0, 1, count), 1 + seed % 2)
    return confidences, predicted, rng.uniform(size=count) < 0.7, true


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_equals_coco(seed: int) -> None:
    frames = random_frames(seed)
    metrics = DetectionMetrics()
    for part in (slice(0, 25), slice(25, None)):
        metrics.update(*(value[part] for value in frames))
    scores = metrics.compute()
    mean, half = coco_scores(*frames)
    assert 0 < mean < half < 1
    assert scores["AP50"] == pytest.approx(half, abs=1e-6)
    assert scores["AP50:95"] == pytest.approx(mean, abs=1e-6)


def test_a_box_where_nothing_is_costs_precision_only_if_ranked_above_a_hit() -> None:
    overlaps, present = [0.9, 0.9, 0.0], [True, True, False]
    assert average_precision([0.9, 0.8, 0.1], overlaps, present, 0.5) == pytest.approx(1.0)
    # hit, false alarm, hit: precision 1 up to recall 0.5 (51 of 101 places), 2/3 beyond
    expected = (51 + 50 * 2 / 3) / 101
    assert average_precision([0.9, 0.1, 0.8], overlaps, present, 0.5) == pytest.approx(expected)
    assert average_precision([0.9, 0.1, 0.8], overlaps, present, 0.95) == 0.0


def test_presence_counts_frames_above_one_half() -> None:
    metrics = DetectionMetrics()
    box = np.tile([0.0, 0.0, 4.0, 2.0], (5, 1))
    metrics.update([0.9, 0.8, 0.2, 0.7, 0.1], box, [True, True, True, False, False], box)
    scores = metrics.compute()
    assert scores["presence_accuracy"] == pytest.approx(3 / 5)
    assert scores["presence_f1"] == pytest.approx(2 / 3)  # two hits, one missed, one false alarm
    assert metrics.count == 5
    metrics.reset()
    assert metrics.count == 0 and all(math.isnan(value) for value in metrics.compute().values())


def test_without_the_object_there_is_no_precision_but_an_accuracy() -> None:
    metrics = DetectionMetrics()
    metrics.update([0.2, 0.9], np.ones((2, 4)), [False, False], np.zeros((2, 4)))
    scores = metrics.compute()
    assert math.isnan(scores["AP50"]) and math.isnan(scores["AP50:95"]) and math.isnan(scores["presence_f1"])
    assert scores["presence_accuracy"] == 0.5


def test_overlaps_by_hand() -> None:
    first = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    second = np.array([[1.0, 1.0, 3.0, 3.0], [1.0, 1.0, 1.0, 1.0], [5.0, 0.0, 6.0, 1.0]])
    np.testing.assert_allclose(box_overlaps(first, second), [1 / 7, 0.0, 0.0])


def test_wrong_shapes_and_values_are_named() -> None:
    metrics = DetectionMetrics()
    with pytest.raises(DataError, match=r"found \(2,\), \(2, 4\), \(3,\) and \(2, 4\)"):
        metrics.update(np.zeros(2), np.zeros((2, 4)), np.zeros(3), np.zeros((2, 4)))
    with pytest.raises(DataError, match=r"detection 1 isn't finite: confidence nan, box \[0.0, 0.0"):
        metrics.update([0.1, math.nan], np.zeros((2, 4)), np.zeros(2), np.zeros((2, 4)))
