"""Edge cases, in float32 as in training: finite values and gradients, and what they must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from derivatives.comparison import Check, Outcome, compare
from mtltrack.core.conditions import UNLABELLED
from mtltrack.losses.alert import alert_logit, alert_loss, box_polygon_areas, stop_clock, zone_overlaps
from mtltrack.losses.boxes import ciou_loss, distribution_focal_loss, giou_loss, l1_box_loss
from mtltrack.losses.classification import (
    cross_entropy,
    label_smoothed_cross_entropy,
    multi_label_bce,
    softmax_focal_loss,
)
from mtltrack.losses.ctc import ctc_loss
from mtltrack.losses.focal import heatmap_focal_loss
from mtltrack.losses.masks import EMPTY, dice_loss, mask_bce
from mtltrack.models.layers.glimpse import LEAST, take_glimpses
from mtltrack.models.layers.places import mask_boxes, mean_cell
from mtltrack.tasks.box import SCORE_FLOOR, bounded_sigmoid

TOLERANCE = 1e-4
FAR = 1e3  # a logit whose sigmoid is 0 or 1 in float32

Pairs = list[tuple[Tensor, Tensor]]


def ask(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the function's values and the gradients of their sum on each input."""
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    values = function(*leaves)
    found = torch.autograd.grad(values.sum(), leaves, allow_unused=True)
    zeros = [torch.zeros_like(leaf) for leaf in leaves]
    filled = [zero if grad is None else grad for grad, zero in zip(found, zeros, strict=True)]
    return values.detach(), *filled


def finite(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return what compares equal only where everything is finite."""
    return torch.isfinite(values).float(), torch.ones_like(values)


def numbers(values: Sequence[float] | float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


# --- boxes


def equal_boxes() -> Pairs:
    """No loss; the gradient, on a kink, is finite."""
    box = numbers([[0.2, 0.3, 0.6, 0.9]])
    pairs: Pairs = []
    for loss in (giou_loss, ciou_loss, l1_box_loss):
        value, slope = ask(lambda a, loss=loss: loss(a, box), box)
        pairs += [(value, numbers([0.0])), finite(slope)]
    return pairs


def disjoint_boxes() -> Pairs:
    """Apart from the target each loss still draws the box to it."""
    box, target = numbers([[0.0, 0.0, 0.2, 0.2]]), numbers([[0.6, 0.0, 0.8, 0.2]])
    value, slope = ask(lambda a: giou_loss(a, target), box)
    # IoU 0, union 0.08, enclosing box 0.16: 1.5; moving x2 adds to the union alone: -dU / C
    pairs = [(value, numbers([1.5])), (slope[:, 2], numbers([-0.2 / 0.16]))]
    value, slope = ask(lambda a: ciou_loss(a, target), box)
    squared, diagonal = 0.6**2, 0.8**2 + 0.2**2
    pairs += [(value, numbers([1 + squared / diagonal])), (slope[:, 2], numbers([-0.6 / diagonal]))]
    return pairs


def boxes_without_area() -> Pairs:
    """Points and lines, against one another and against a box, with a small number added below the line."""
    flat = [[0.5, 0.5, 0.5, 0.5], [0.2, 0.5, 0.6, 0.5], [0.5, 0.2, 0.5, 0.6], [0.1, 0.1, 0.3, 0.4]]
    predicted, target = numbers([a for a in flat for _ in flat]), numbers(flat * len(flat))
    pairs: Pairs = []
    for loss in (lambda a: giou_loss(a, target, eps=1e-7), lambda a: ciou_loss(a, target)):
        value, slope = ask(loss, predicted)
        pairs += [finite(value), finite(slope)]
    return pairs


def smallest_box() -> Pairs:
    """The smallest box that a head can predict, on the smallest and on an empty target, nothing added."""
    side = SCORE_FLOOR
    box = numbers([[0.5, 0.5, 0.5 + side, 0.5 + side]] * 2)
    target = numbers([[0.5, 0.5, 0.5 + side, 0.5 + side], [0.7, 0.7, 0.7, 0.7]])
    value, slope = ask(lambda a: giou_loss(a, target), box)
    return [finite(value), finite(slope), (value[:1], numbers([0.0]))]


def dfl_outside() -> Pairs:
    """A number beyond the bins counts as their end; its gradient is S - q."""
    z = numbers([[0.0, 1.0, -1.0, 0.5]] * 2)
    value, slope = ask(lambda z: distribution_focal_loss(z, numbers([-3.0, 9.0])), z)
    q = numbers([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])
    return [(value, -(q * z.log_softmax(1)).sum(1)), (slope, z.softmax(1) - q)]


# --- classes, masks, maps


def saturated_classes() -> Pairs:
    """p of the true class 0 and 1: losses grow with the logits, gradients are p - y."""
    z, target = numbers([[FAR, 0, 0], [0, FAR, 0]]), torch.tensor([0, 0])
    p_y = numbers([[0, 0, 0], [-1, 1, 0]])
    value, slope = ask(lambda z: cross_entropy(z, target), z)
    pairs = [(value, numbers([0, FAR])), (slope, p_y)]
    value, slope = ask(lambda z: softmax_focal_loss(z, target), z)
    pairs += [(value, numbers([0, 0.25 * FAR])), (slope, 0.25 * p_y)]
    value, slope = ask(lambda z: softmax_focal_loss(z, target, gamma=0.5), z)
    pairs += [finite(value), finite(slope)]
    value, slope = ask(lambda z: label_smoothed_cross_entropy(z, target, 0.1), z)
    third = 0.1 / 3
    pairs += [(value, numbers([2 * third * FAR, (1 - third) * FAR])), finite(slope)]
    return pairs


def saturated_flags() -> Pairs:
    """Flags at p = 0 and 1, right and wrong, and a row of which nothing is known."""
    z, target = numbers([[FAR, -FAR], [-FAR, FAR], [1, 2]]), torch.tensor([[1, 0], [1, 0], [UNLABELLED] * 2])
    value, slope = ask(lambda z: multi_label_bce(z, target), z)
    return [(value, numbers([0, FAR, 0])), (slope, numbers([[0, 0], [-0.5, 0.5], [0, 0]]))]


def unlabelled_classes() -> Pairs:
    """A class that isn't labelled: no loss and no gradient."""
    z, target = numbers([[0.3, -1, 2]]), torch.tensor([UNLABELLED])
    pairs: Pairs = []
    for loss in (cross_entropy, label_smoothed_cross_entropy, softmax_focal_loss):
        value, slope = ask(lambda z, loss=loss: loss(z, target), z)
        pairs += [(value, numbers([0.0])), (slope, torch.zeros_like(z))]
    return pairs


def empty_masks() -> Pairs:
    """Against no pixel Dice is S / (S + e), and 0 where nothing is predicted either."""
    z, target = numbers([[[0.3, -1.0], [0.8, -2.0]], [[-FAR, -FAR], [-FAR, -FAR]]]), torch.zeros(2, 2, 2)
    p = z.sigmoid()
    total = p.sum((1, 2))
    value, slope = ask(lambda z: dice_loss(z, target), z)
    form = (EMPTY / (total + EMPTY) ** 2)[:, None, None] * p * (1 - p)
    pairs = [(value, total / (total + EMPTY)), (slope, form)]
    value, slope = ask(lambda z: mask_bce(z, target), z)
    return [*pairs, (value, F.softplus(z).mean((1, 2))), (slope, p / 4)]


def saturated_masks() -> Pairs:
    """p = 0 and 1 where they are wrong: the loss is finite, BCE's gradient p - q, Dice's 0."""
    z, target = numbers([[[FAR, -FAR]]]), numbers([[[0.0, 1.0]]])
    value, slope = ask(lambda z: mask_bce(z, target), z)
    pairs = [(value, numbers([FAR])), (slope, numbers([[[0.5, -0.5]]]))]
    value, slope = ask(lambda z: dice_loss(z, target), z)
    return [*pairs, (value, numbers([1 - EMPTY / (2 + EMPTY)])), (slope, torch.zeros(1, 1, 2))]


def saturated_heat_map() -> Pairs:
    """Scores are kept from 0 and 1: the loss of a wrong peak is finite; beyond the bound it has no slope."""
    z, target = numbers([[[-FAR, FAR]]]), numbers([[[1.0, 0.0]]])
    value, slope = ask(lambda z: heatmap_focal_loss(bounded_sigmoid(z), target), z)
    wanted = -2 * (1 - SCORE_FLOOR) ** 2 * math.log(SCORE_FLOOR)
    return [(value, numbers([wanted])), (slope, torch.zeros_like(z))]


def heat_map_without_peak() -> Pairs:
    """Without a positive cell only the negative term is left, undivided."""
    p, target = numbers([[[0.5, 0.25]]]), numbers([[[0.0, 0.5]]])
    value, slope = ask(lambda p: heatmap_focal_loss(p, target), p)
    wanted = -(0.25 * math.log(0.5) + 0.5**4 * 0.0625 * math.log(0.75))
    return [(value, numbers([wanted])), finite(slope)]


# --- texts, the alert, places


def infeasible_texts() -> Pairs:
    """Three columns can't say "aa" with a third letter: no loss, no gradient; nor does it harm others."""
    z = torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(0))
    codes, lengths = torch.tensor([[1, 1, 2], [1, 1, 0], [0, 0, 0]]), torch.tensor([3, 2, 0])
    value, slope = ask(lambda z: ctc_loss(z, codes, lengths), z)
    log_p = z.log_softmax(-1)
    only = -(log_p[1, 0, 1] + log_p[1, 1, 0] + log_p[1, 2, 1]) / 2  # a, blank, a: the one way to write aa
    nothing = -log_p[2, :, 0].sum()
    wanted = torch.stack([torch.zeros(()), only, nothing])
    return [(value, wanted), (slope[0], torch.zeros(3, 4)), finite(slope)]


def certain_texts() -> Pairs:
    """Columns that are sure of the text, and sure of another one."""
    z = torch.zeros(2, 2, 3)
    z[0, :, 1], z[1, :, 2] = FAR, FAR
    value, slope = ask(lambda z: ctc_loss(z, torch.tensor([[1], [1]]), torch.tensor([1, 1])), z)
    return [(value[:1], numbers([0.0])), finite(value), finite(slope)]


def extreme_alerts() -> Pairs:
    """Far from both thresholds the logit follows the smaller of a and b; on both it is -log 3."""
    far = 1e4
    a, b = numbers([far, -far, 2.0, 0.0]), numbers([-far, -far, far, 0.0])
    value, *slopes = ask(alert_logit, a, b)
    # where a = b = -far the product is e^(-2 far)
    pairs = [(value, numbers([-far, -2 * far, 2.0, -math.log(3)])), *map(finite, slopes)]
    value, slope = ask(lambda z: alert_loss(z, torch.tensor([True, False])), numbers([-far, far]))
    return [*pairs, (value, numbers([far, far])), (slope, numbers([-1.0, 1.0]))]


def standing_still() -> Pairs:
    """No movement, a repeated time stamp: finite gradients, the hard clock exact."""
    centres, sizes = torch.full((1, 4, 2), 50.0), torch.full((1, 4, 2), 20.0)
    times = torch.tensor([[0.0, 1.0, 1.0, 2.0]])

    def clock(centres: Tensor, sizes: Tensor) -> Tensor:
        settings = {"threshold": 0.15, "scale": 0.04, "gap": 10.0}
        return stop_clock(centres, sizes, times, torch.tensor([7.0]), **settings)[0]

    value, *slopes = ask(clock, centres, sizes)
    return [(value, numbers([[7.0, 8.0, 8.0, 9.0]])), *map(finite, slopes)]


def overlaps_apart_and_inside() -> Pairs:
    """Apart, without area, or no zone: 0 and no gradient. Wholly inside: ioa 1, iou A_box / A_zone."""
    zone = numbers([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    boxes = numbers([[5.0, 5.0, 6.0, 6.0], [1.0, 1.0, 1.0, 2.0], [1.0, 1.0, 3.0, 2.0]])
    value, slope = ask(lambda b: box_polygon_areas(b, zone), boxes)
    pairs = [(value, numbers([0.0, 0.0, 2.0])), (slope[0], torch.zeros(4))]
    zones = torch.stack([zone, torch.zeros(4, 2)])  # the second zone is absent
    for measure, inside in (("ioa", 1.0), ("iou", 2.0 / 16)):
        value, slope = ask(lambda b, measure=measure: zone_overlaps(b, zones, measure), boxes)
        pairs += [(value, numbers([[0, 0], [0, 0], [inside, 0]])), finite(slope)]
    return pairs


def crops_at_the_limits() -> Pairs:
    """A box smaller than the least side has no gradient on its size; one outside the image sees nothing."""
    images = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    boxes = numbers([[0.5, 0.5, 0.5 * LEAST / 12, 0.5 * LEAST / 12], [3.0, 3.0, 0.2, 0.2]])
    value, slope_image, slope = ask(lambda i, b: take_glimpses(i, b, (4, 4)), images, boxes)
    return [
        (slope[0, 2:], torch.zeros(2)),
        (value[1], torch.zeros(1, 4, 4)),
        (slope[1], torch.zeros(4)),
        finite(slope_image),
    ]


def places_without_doubt() -> Pairs:
    """A score map at its bounds, and a mask without a pixel, whose box is the one given."""
    scores = torch.full((1, 1, 1, 3, 4), SCORE_FLOOR)
    scores[..., 1, 2] = 1 - SCORE_FLOOR
    value, slope, _ = ask(mean_cell, scores, torch.zeros(1, 1, 2, 3, 4))
    # odds of 9999 against eleven times 1 / 9999 leave the others a share of 1.1e-7
    pairs = [(value, numbers([[[2 / 4, 1 / 3]]])), finite(slope)]
    given = numbers([[[0.4, 0.5, 0.2, 0.3]]])
    value, slope, through = ask(mask_boxes, torch.full((1, 1, 3, 4), -FAR), given)
    return [*pairs, (value, given), (slope, torch.zeros_like(slope)), (through, torch.ones_like(given))]


def constant_features() -> Pairs:
    """LayerNorm of equal features: the small number below the root keeps it finite."""
    value, slope = ask(lambda x: F.layer_norm(x, (6,), eps=1e-6), torch.full((2, 6), 3.0))
    return [(value, torch.zeros(2, 6)), finite(slope)]


CASES = {
    "equal_boxes": equal_boxes,
    "disjoint_boxes": disjoint_boxes,
    "boxes_without_area": boxes_without_area,
    "smallest_box": smallest_box,
    "dfl_outside": dfl_outside,
    "saturated_classes": saturated_classes,
    "saturated_flags": saturated_flags,
    "unlabelled_classes": unlabelled_classes,
    "empty_masks": empty_masks,
    "saturated_masks": saturated_masks,
    "saturated_heat_map": saturated_heat_map,
    "heat_map_without_peak": heat_map_without_peak,
    "infeasible_texts": infeasible_texts,
    "certain_texts": certain_texts,
    "extreme_alerts": extreme_alerts,
    "standing_still": standing_still,
    "overlaps_apart_and_inside": overlaps_apart_and_inside,
    "crops_at_the_limits": crops_at_the_limits,
    "places_without_doubt": places_without_doubt,
    "constant_features": constant_features,
}


def checks() -> list[Check]:
    """Return one check a case."""

    def run(case: Callable[[], Pairs]) -> Outcome:
        return compare(*case())

    return [
        Check(f"edges/{name}", "values by hand, finite", TOLERANCE, lambda case=case: run(case))
        for name, case in CASES.items()
    ]
