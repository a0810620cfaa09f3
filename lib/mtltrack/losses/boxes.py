"""Boxes: conversions and the regression losses, per box and unreduced."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss


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
        for name, boxes in (("predicted", predicted_xyxy), ("target", target_xyxy)):
            swapped = (boxes[..., 2:] < boxes[..., :2]).any(-1)
            if bool(swapped.any()):
                row = int(swapped.nonzero()[0])
                raise ValueError(
                    f"{name} box {row} is inverted: {boxes[row].tolist()}; wanted x1 <= x2 and y1 <= y2 "
                    "(see order_corners)"
                )
    return generalized_box_iou_loss(predicted_xyxy, target_xyxy, reduction="none", eps=eps)


def l1_box_loss(predicted_xyxy: Tensor, target_xyxy: Tensor) -> Tensor:
    """Mean absolute difference of the four coordinates, (N, 4) and (N, 4) -> (N,)."""
    return (predicted_xyxy - target_xyxy).abs().mean(-1)
