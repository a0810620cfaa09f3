"""Scores of labels and flags, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import pytest
import torch

from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS
from mtltrack.metrics.classification import ConditionMetrics, plot_confusion

NAMES = ["day", "dusk", "night"]


def logits(*classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), 3).float() * 4


@pytest.fixture
def single() -> ConditionMetrics:
    metric: ConditionMetrics = METRICS.create("ConditionMetrics", class_names=NAMES)
    # day: 3 right, 1 called dusk; dusk: 1 right, 1 called night; no night; one frame without a label
    metric.update(logits(0, 0, 0, 1), torch.tensor([0, 0, 0, 0]))
    metric.update(logits(1, 2, 2), torch.tensor([1, 1, -100]))
    return metric


def test_single_label(single: ConditionMetrics) -> None:
    assert single.count == 6
    assert single.confusion().tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 0]]
    # F1: day 6/7, dusk 2/4, night 0 (predicted once, never right)
    assert single.compute() == pytest.approx(
        {"accuracy": 4 / 6, "balanced_accuracy": (3 / 4 + 1 / 2) / 2, "macro_f1": (6 / 7 + 1 / 2 + 0) / 3}
    )


def test_table_of_classes(single: ConditionMetrics) -> None:
    day, dusk, night = single.per_class()
    assert day == pytest.approx(
        {"name": "day", "support": 4, "predicted": 3, "precision": 1.0, "recall": 0.75, "f1": 6 / 7}
        | {"balanced_accuracy": 0.75}
    )
    assert (dusk["support"], dusk["predicted"], dusk["precision"]) == (2, 2, 0.5)
    assert night["support"] == 0 and night["predicted"] == 1 and math.isnan(night["recall"])


def test_a_class_that_never_occurs_is_left_out() -> None:
    metric = ConditionMetrics(NAMES)
    metric.update(logits(0, 1), torch.tensor([0, 1]))
    assert metric.compute() == {"accuracy": 1.0, "balanced_accuracy": 1.0, "macro_f1": 1.0}


@pytest.mark.parametrize("multi_label", [False, True])
def test_no_labelled_sample(multi_label: bool) -> None:
    metric = ConditionMetrics(NAMES, multi_label)
    metric.update(logits(0), torch.full((1, 3) if multi_label else (1,), -100))
    assert all(math.isnan(value) for value in metric.compute().values())
    assert metric.per_class() == [] and int(metric.confusion().sum()) == 0


def test_reset(single: ConditionMetrics) -> None:
    single.reset()
    assert math.isnan(single.compute()["accuracy"])
    single.update(logits(0), torch.tensor([0]))
    assert single.compute()["accuracy"] == 1.0


def test_flags() -> None:
    metric = ConditionMetrics(NAMES, multi_label=True)
    scores = torch.tensor([[3.0, -1, -1], [-2, 3, -1], [1, -1, -1]])
    metric.update(scores, torch.tensor([[1, 0, 0], [1, 1, 0], [0, -100, 0]]))
    day, dusk, night = metric.per_class()
    # day: scores 3 (set), -2 (set), 1 (not set): TPR 1/2, TNR 0; AP (1 + 2/3) / 2
    assert (day["balanced_accuracy"], day["f1"]) == (0.25, 0.5) and day["ap"] == pytest.approx(5 / 6)
    assert (dusk["balanced_accuracy"], dusk["f1"], dusk["ap"]) == (1.0, 1.0, 1.0)
    assert all(math.isnan(night[key]) for key in ("balanced_accuracy", "f1", "ap", "recall"))
    # 8 flags are known, 6 right
    assert metric.compute() == pytest.approx(
        {"accuracy": 6 / 8, "balanced_accuracy": 0.625, "macro_f1": 0.75, "mean_ap": (5 / 6 + 1) / 2}
    )
    assert metric.confusion().tolist() == [[[0, 1], [1, 1]], [[1, 0], [0, 1]], [[3, 0], [0, 0]]]


def test_bool_flags() -> None:
    metric = ConditionMetrics(NAMES, multi_label=True)
    metric.update(logits(0, 1) - 1, torch.tensor([[True, False, False], [False, True, False]]))
    assert metric.compute()["accuracy"] == 1.0


def test_wrong_input() -> None:
    metric = ConditionMetrics(NAMES)
    with pytest.raises(DataError, match=r"3 classes want logits \(N, 3\) and targets \(N,\); found \(1, 2\)"):
        metric.update(torch.zeros(1, 2), torch.zeros(1))
    with pytest.raises(DataError, match=r"must lie in 0..2 or be -100; found \[3\]"):
        metric.update(logits(0), torch.tensor([3]))
    with pytest.raises(DataError, match="at least two classes"):
        ConditionMetrics(["only"])


def test_picture(tmp_path: Path, single: ConditionMetrics) -> None:
    path = plot_confusion(single.confusion(), NAMES, tmp_path / "plots" / "confusion.png", title="frames")
    image = cv2.imread(str(path))
    assert image is not None and min(image.shape[:2]) > 200
    flags = plot_confusion(torch.ones(3, 2, 2), NAMES, tmp_path / "flags.png")
    assert flags.stat().st_size > 1000
    with pytest.raises(DataError, match="3 classes, but 2 names"):
        plot_confusion(single.confusion(), NAMES[:2], tmp_path / "x.png")
