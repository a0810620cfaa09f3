import math

import pytest
import torch

from mtltrack.losses.boxes import (
    box_iou,
    boxes_cxcywh_to_xyxy,
    boxes_xywh_to_xyxy,
    boxes_xyxy_to_cxcywh,
    boxes_xyxy_to_xywh,
    giou_loss,
    l1_box_loss,
    order_corners,
)


def test_conversions_by_hand() -> None:
    assert boxes_cxcywh_to_xyxy(torch.tensor([[5.0, 6.0, 4.0, 2.0]])).tolist() == [[3, 5, 7, 7]]
    assert boxes_xywh_to_xyxy(torch.tensor([[5.0, 6.0, 4.0, 2.0]])).tolist() == [[5, 6, 9, 8]]
    assert boxes_xyxy_to_xywh(torch.tensor([[5.0, 6.0, 9.0, 8.0]])).tolist() == [[5, 6, 4, 2]]
    assert boxes_xyxy_to_cxcywh(torch.tensor([[3.0, 5.0, 7.0, 7.0]])).tolist() == [[5, 6, 4, 2]]


def test_iou_and_giou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 3.0, 1.0]])
    # intersections 1, 1, 0; unions 7, 1, 2; enclosing boxes 9, 1, 3
    torch.testing.assert_close(box_iou(a, b), torch.tensor([1 / 7, 1.0, 0.0]))
    expected = torch.tensor([1 - 1 / 7 + 2 / 9, 0.0, 1 + 1 / 3])
    torch.testing.assert_close(giou_loss(a, b), expected)


def test_two_empty_boxes_are_nan_unless_eps_is_given() -> None:
    empty = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    assert math.isnan(float(giou_loss(empty, empty)))
    assert math.isfinite(float(giou_loss(empty, empty, eps=1e-7)))


def test_swapped_corners_are_refused_and_can_be_ordered() -> None:
    swapped = torch.tensor([[2.0, 3.0, 1.0, 1.0]])
    with pytest.raises(
        ValueError, match=r"predicted box 0 is inverted: \[2.0, 3.0, 1.0, 1.0\].*order_corners"
    ):
        giou_loss(swapped, order_corners(swapped))
    assert order_corners(swapped).tolist() == [[1, 1, 2, 3]]


def test_l1_is_the_mean_over_the_four_coordinates() -> None:
    loss = l1_box_loss(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[0.1, 0.0, 0.5, 1.1]]))
    torch.testing.assert_close(loss, torch.tensor([(0.1 + 0.0 + 0.5 + 0.1) / 4]))
