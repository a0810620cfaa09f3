"""Every loss against central differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from derivatives.comparison import BY_DIFFERENCES, Check, by_differences, normal, uniform
from mtltrack.core.conditions import UNLABELLED
from mtltrack.losses.alert import alert_logit, alert_loss
from mtltrack.losses.boxes import (
    boxes_cxcywh_to_xyxy,
    ciou_loss,
    distribution_focal_loss,
    giou_loss,
    l1_box_loss,
    order_corners,
)
from mtltrack.losses.classification import (
    cross_entropy,
    label_smoothed_cross_entropy,
    multi_label_bce,
    softmax_focal_loss,
)
from mtltrack.losses.ctc import ctc_loss
from mtltrack.losses.focal import gaussian_heatmap, heatmap_focal_loss
from mtltrack.losses.masks import dice_loss, mask_bce
from mtltrack.models.layers.location import location_loss

TOLERANCE = 1e-6
CODES, LENGTHS = (
    torch.tensor([[1, 2, 0], [3, 3, 1], [4, 0, 0]]),
    torch.tensor([2, 3, 1]),
)  # 3, 3 needs a blank


def random_boxes(count: int, seed: int, smallest: float = 0.05) -> Tensor:
    """Return (count, 4) corner boxes of the unit square and a little beyond; some pairs are apart."""
    centres, sizes = uniform(count, 2, seed=seed), uniform(count, 2, seed=seed + 1, low=smallest, high=0.6)
    return boxes_cxcywh_to_xyxy(torch.cat([centres, sizes], dim=1))


def box_pairs() -> tuple[Tensor, Tensor]:
    """Return 40 pairs: overlapping ones, one inside the other, and some that are apart."""
    return random_boxes(40, 0), random_boxes(40, 10)


def class_targets(count: int, classes: int) -> Tensor:
    """Return (count,) classes, the last one not labelled."""
    target = torch.arange(count) % classes
    target[-1] = UNLABELLED
    return target


def flag_targets() -> Tensor:
    """Return (6, 5) flags, a row of which isn't known at all."""
    target = (normal(6, 5, seed=3) > 0).long()
    target[1, 2] = UNLABELLED
    target[5] = UNLABELLED
    return target


def masks() -> Tensor:
    """Return (3, 5, 6) targets: a mask, shares of pixels, and an empty mask."""
    target = uniform(3, 5, 6, seed=4)
    target[0] = target[0].round()
    target[2] = 0
    return target


def heat_maps() -> Tensor:
    boxes = torch.tensor([[0.3, 0.2, 0.4, 0.5], [0.1, 0.5, 0.3, 0.3]], dtype=torch.float64)
    return gaussian_heatmap(boxes, 6)


def _boxes() -> Iterator[tuple[str, Callable[[], tuple]]]:
    yield "giou", lambda: (lambda a, b: giou_loss(a, b), *box_pairs())
    yield "l1", lambda: (l1_box_loss, *box_pairs())
    yield "order_corners", lambda: (order_corners, normal(20, 4))
    yield "dfl", lambda: (partial(_dfl, target=uniform(8, seed=5, low=0.1, high=5.9)), normal(8, 7))
    view = torch.tensor([[0.5, 0.0, 0.2], [0.0, 0.5, 0.3]], dtype=torch.float64).expand(2, 2, 2, 3)
    centres = uniform(2, 2, 2, seed=6, low=0.35, high=0.65)
    yield "location", lambda: (lambda logits: location_loss(logits, centres, view), normal(2, 2, 4, 5))


def _dfl(logits: Tensor, target: Tensor) -> Tensor:
    return distribution_focal_loss(logits, target)


def _classes() -> Iterator[tuple[str, Callable[[], tuple]]]:
    target, flags = class_targets(8, 5), flag_targets()
    yield "ce", lambda: (lambda z: cross_entropy(z, target), normal(8, 5))
    yield "label_smooth", lambda: (lambda z: label_smoothed_cross_entropy(z, target), normal(8, 5))
    for gamma in (2.0, 0.5):
        yield (
            f"softmax_focal_gamma_{gamma:g}",
            lambda gamma=gamma: (lambda z: softmax_focal_loss(z, target, gamma=gamma), normal(8, 5)),
        )
    yield "multi_label_bce", lambda: (lambda z: multi_label_bce(z, flags), normal(6, 5))


def _maps() -> Iterator[tuple[str, Callable[[], tuple]]]:
    probabilities = uniform(2, 6, 6, seed=7, low=0.02, high=0.98)
    for reduction in ("sample", "batch"):
        yield (
            f"heatmap_focal_{reduction}",
            lambda reduction=reduction: (
                lambda p: heatmap_focal_loss(p, heat_maps(), reduction=reduction),
                probabilities,
            ),
        )
    yield "mask_bce", lambda: (lambda z: mask_bce(z, masks()), normal(3, 5, 6))
    yield "dice", lambda: (lambda z: dice_loss(z, masks()), normal(3, 5, 6))


def _texts_and_alert() -> Iterator[tuple[str, Callable[[], tuple]]]:
    yield "ctc", lambda: (lambda z: ctc_loss(z, CODES, LENGTHS), normal(3, 7, 5))
    target = torch.tensor([True, False, True, False])
    yield "alert", lambda: (lambda z: alert_loss(z, target), normal(4, scale=3))
    yield "alert_logit", lambda: (alert_logit, normal(6, scale=3), normal(6, seed=1, scale=3))


def checks() -> list[Check]:
    """Return one check a loss."""
    found = [
        Check(f"losses/{name}", BY_DIFFERENCES, TOLERANCE, lambda make=make: by_differences(*make()))
        for group in (_boxes, _classes, _maps, _texts_and_alert)
        for name, make in group()
    ]
    held = f"{BY_DIFFERENCES}, alpha held"
    found.insert(
        1, Check("losses/ciou", held, TOLERANCE, lambda: by_differences(ciou_loss, *box_pairs(), hold=True))
    )
    return found
