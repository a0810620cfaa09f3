"""Boxes: conversions and the regression losses, per box and unreduced."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss

from mtltrack.core.registry import LOSSES


def boxes_cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Convert (..., 4) centre boxes to corner boxes, in the unit they come in."""
    return box_convert(boxes_cxcywh, "cxcywh", "xyxy")


def boxes_xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """Convert (..., 4) boxes given by their upper left corner and size to corner boxes."""
    return box_convert(boxes_xywh, "xywh", "xyxy")


def boxes_xyxy_to_xywh(boxes_xyxy: Tensor) -> Tensor:
    """Convert (..., 4) corner boxes to upper left corner and size."""
    return box_convert(boxes_xyxy, "xyxy", "xywh")


def boxes_xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Convert (..., 4) corner boxes to centre boxes."""
    return box_convert(boxes_xyxy, "xyxy", "cxcywh")


def order_corners(boxes_xyxy: Tensor) -> Tensor:
    """Return (..., 4) corner boxes whose second corner is right of and below the first.

    A corner head predicts its corners independently, so they can come out swapped; GIoU is undefined there.
    """
    first, second = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=-1)


def box_iou(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """Return the overlap of corresponding boxes, (..., 4) and (..., 4) -> (...); NaN where both are empty.

    torchvision's `box_iou` compares all pairs; here row i meets row i.
    """
    low = torch.maximum(boxes1_xyxy[..., :2], boxes2_xyxy[..., :2])
    high = torch.minimum(boxes1_xyxy[..., 2:], boxes2_xyxy[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    area1 = (boxes1_xyxy[..., 2:] - boxes1_xyxy[..., :2]).prod(-1)
    area2 = (boxes2_xyxy[..., 2:] - boxes2_xyxy[..., :2]).prod(-1)
    return intersection / (area1 + area2 - intersection)


@LOSSES.register_module(name="GIOU")
def giou_loss(predicted_xyxy: Tensor, target_xyxy: Tensor, eps: float = 0.0, validate: bool = True) -> Tensor:
    """Generalised IoU loss `1 - IoU + |C minus U| / |C|` of corresponding boxes (Rezatofighi et al., CVPR
    2019).

    Args:
        predicted_xyxy: (N, 4) corner boxes.
        target_xyxy: (N, 4) corner boxes in the same unit.
        eps: added to both denominators. The published trackers add nothing, so two empty boxes give NaN; a
            positive value keeps them finite.
        validate: refuse swapped corners (costs a synchronisation on a GPU).

    Returns:
        (N,) losses in [0, 2].

    Raises:
        ValueError: a box has a negative width or height.
    """
    if validate:
        _refuse_swapped(predicted_xyxy, target_xyxy)
    return generalized_box_iou_loss(predicted_xyxy, target_xyxy, reduction="none", eps=eps)


def _refuse_swapped(predicted_xyxy: Tensor, target_xyxy: Tensor) -> None:
    for name, boxes in (("predicted", predicted_xyxy), ("target", target_xyxy)):
        swapped = (boxes[..., 2:] < boxes[..., :2]).any(-1)
        if bool(swapped.any()):
            row = int(swapped.nonzero()[0])
            raise ValueError(
                f"{name} box {row} is inverted: {boxes[row].tolist()}; wanted x1 <= x2 and y1 <= y2 "
                "(see order_corners)"
            )


@LOSSES.register_module(name="CIOU")
def ciou_loss(
    predicted_xyxy: Tensor, target_xyxy: Tensor, eps: float = 1e-7, validate: bool = True
) -> Tensor:
    """Complete IoU loss of corresponding boxes (Zheng et al., "Distance-IoU Loss", AAAI 2020, eq. 8 to 12).

    `1 - IoU + rho^2 / c^2 + a v` with rho the distance of the centres, c the diagonal of the smallest
    enclosing box, `v = (4 / pi^2) (atan(w_g / h_g) - atan(w / h))^2` and `a = v / (1 - IoU + v)`, held
    constant in the gradient as in the paper. The gradient of c^2 is not dropped, and that of the angle is
    not rescaled by w^2 + h^2 as the paper's code does.

    Args:
        predicted_xyxy: (N, 4) corner boxes.
        target_xyxy: (N, 4) corner boxes in the same unit.
        eps: least union, squared diagonal and extent; boxes without area give finite values and gradients.
        validate: refuse swapped corners (costs a synchronisation on a GPU).

    Returns:
        (N,) losses in [0, 3].

    Raises:
        ValueError: a box has a negative width or height.
    """
    if validate:
        _refuse_swapped(predicted_xyxy, target_xyxy)
    predicted, target = boxes_xyxy_to_cxcywh(predicted_xyxy), boxes_xyxy_to_cxcywh(target_xyxy)
    low = torch.maximum(predicted_xyxy[..., :2], target_xyxy[..., :2])
    high = torch.minimum(predicted_xyxy[..., 2:], target_xyxy[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = predicted[..., 2:].prod(-1) + target[..., 2:].prod(-1) - intersection
    iou = intersection / union.clamp(min=eps)
    outer_low = torch.minimum(predicted_xyxy[..., :2], target_xyxy[..., :2])
    outer_high = torch.maximum(predicted_xyxy[..., 2:], target_xyxy[..., 2:])
    diagonal = (outer_high - outer_low).square().sum(-1).clamp(min=eps)
    distance = (predicted[..., :2] - target[..., :2]).square().sum(-1)
    v = (4 / math.pi**2) * (_shape_angle(target, eps) - _shape_angle(predicted, eps)).square()
    with torch.no_grad():
        alpha = v / (1 - iou + v).clamp(min=eps)
    return 1 - iou + distance / diagonal + alpha * v


def _shape_angle(boxes_cxcywh: Tensor, eps: float) -> Tensor:
    """Return atan(w / h), (..., 4) -> (...); at least `eps` wide and high, where the angle has a gradient."""
    width, height = boxes_cxcywh[..., 2:].clamp(min=eps).unbind(-1)
    return torch.atan2(width, height)


@LOSSES.register_module(name="DFL")
def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy against the two bins around a number (Li et al., "Generalized Focal Loss", NeurIPS 2020,
    eq. 6).

    `-[(i + 1 - y) log S_i + (y - i) log S_(i+1)]` for y between the bins i and i + 1, S the softmax. Its
    minimum is the entropy of the two shares, not 0; the mean of S is y there.

    Args:
        logits: (N, K), bin k stands for the number k; K at least 2.
        target: (N,) numbers in bins; those outside [0, K - 1] count as its nearest end.

    Returns:
        (N,) losses, at least 0.

    Raises:
        ValueError: fewer than two bins.
    """
    bins = logits.shape[-1]
    if bins < 2:
        raise ValueError(
            f"a distribution over numbers needs at least two bins; found logits {tuple(logits.shape)}"
        )
    y = target.to(logits.dtype).clamp(0, bins - 1)
    left = y.floor().clamp(max=bins - 2)
    share = y - left
    log_p = F.log_softmax(logits, dim=-1)
    index = left.long()[:, None]
    below, above = log_p.gather(1, index).squeeze(1), log_p.gather(1, index + 1).squeeze(1)
    return -((1 - share) * below + share * above)


def l1_box_loss(predicted_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """Mean absolute difference of the four coordinates, (N, 4) and (N, 4) -> (N,)."""
    return (predicted_xyxy - target_xyxy).abs().mean(-1)
