"""Overlaps and centre errors against the got10k package, torchvision and shapely."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch
from got10k.utils import metrics as toolkit
from torchvision.ops import box_iou

from mtltrack.metrics import boxes, got10k
from mtltrack.metrics.success import sequence_errors


def pairs(number: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that are apart, touch, lie within each other, are equal, empty or beyond the image."""
    generator = np.random.default_rng(2)
    true = generator.integers(-30, 90, (number, 4)).astype(float)
    true[:, 2:] = np.abs(true[:, 2:])
    pred = true + generator.integers(-20, 21, (number, 4)) * generator.choice([0.0, 0.5, 1.0], (number, 1))
    pred[:, 2:] = np.maximum(pred[:, 2:], 0)
    return pred, true


IMAGE = (80.0, 60.0)


@pytest.mark.parametrize("bound", [None, IMAGE])
def test_overlaps_are_those_of_the_got10k_package(bound: tuple[float, float] | None) -> None:
    pred, true = pairs()
    theirs = toolkit.rect_iou(pred.copy(), true.copy(), bound)  # it clips what it is given
    assert np.array_equal(boxes.rect_iou(pred, true, bound), theirs)
    assert ((theirs > 0) & (theirs < 1)).sum() > 100 and (theirs == 0).any() and (theirs == 1).any()


def test_centre_errors_are_those_of_the_got10k_package() -> None:
    pred, true = pairs()
    assert boxes.centre_error(pred, true) == pytest.approx(toolkit.center_error(pred, true), abs=1e-12)


def test_ao_and_sr_are_means_of_the_package_s_overlaps() -> None:
    pred, true = pairs()
    cover = np.random.default_rng(3).integers(0, 9, len(true))
    theirs = toolkit.rect_iou(pred[1:].copy(), true[1:].copy(), IMAGE)[cover[1:] > 0]
    ours = got10k.score_all_got10k([pred], [true], [cover], [IMAGE]).mean()
    assert ours == pytest.approx(
        {"ao": theirs.mean(), "sr": (theirs > 0.5).mean(), "sr75": (theirs > 0.75).mean()}, abs=1e-12
    )


def test_inclusive_overlaps_are_those_of_torchvision() -> None:
    """A box that counts its last pixel is as wide as one from its first edge to its last."""
    pred, true = pairs()
    corners = [
        torch.from_numpy(np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1)) for b in (pred, true)
    ]
    theirs = box_iou(*corners).diagonal().numpy()
    assert boxes.overlap(pred, true) == pytest.approx(theirs, abs=1e-12, nan_ok=True)


def test_overlaps_are_those_of_shapely() -> None:
    pred, true = pairs()
    full = (pred[:, 2:] > 0).all(axis=1) & (true[:, 2:] > 0).all(axis=1)
    areas = [shapely.box(b[:, 0], b[:, 1], b[:, 0] + b[:, 2], b[:, 1] + b[:, 3]) for b in (pred, true)]
    theirs = shapely.area(shapely.intersection(*areas)) / shapely.area(shapely.union(*areas)).clip(1e-9)
    assert boxes.rect_iou(pred, true)[full] == pytest.approx(theirs[full], abs=1e-12)
    errors = sequence_errors(pred[full], true[full])
    assert errors.overlap[1:] == pytest.approx(theirs[full][1:], abs=1e-12)
