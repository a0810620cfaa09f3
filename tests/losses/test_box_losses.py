import math

import pytest
import torch
from torchvision.ops import complete_box_iou_loss

from mtltrack.losses.boxes import (
    box_iou,
    boxes_cxcywh_to_xyxy,
    boxes_xywh_to_xyxy,
    boxes_xyxy_to_cxcywh,
    boxes_xyxy_to_xywh,
    ciou_loss,
    distribution_focal_loss,
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


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, count, 2, generator=generator, dtype=torch.float64)
    return torch.cat([corner, corner + 0.05 + size], dim=1)


def test_ciou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 3.0, 1.0], [0.0, 0.5, 2.0, 1.5]])
    # overlaps 1/7, 1, 0, 1/2; squared distances 2, 0, 4, 0; squared diagonals 18, 2, 10, 8
    v = (4 / math.pi**2) * (math.atan(2) - math.atan(1)) ** 2  # the last box is twice as wide as high
    expected = torch.tensor([6 / 7 + 2 / 18, 0.0, 1 + 4 / 10, 0.5 + v**2 / (0.5 + v)])
    torch.testing.assert_close(ciou_loss(a, b), expected)


def test_ciou_equals_torchvision_in_value_and_gradient_where_that_is_finite() -> None:
    mine, other = random_boxes(200, seed=0).requires_grad_(), random_boxes(200, seed=0).requires_grad_()
    target = random_boxes(200, seed=1)
    loss, reference = ciou_loss(mine, target), complete_box_iou_loss(other, target)
    torch.testing.assert_close(loss, reference, atol=1e-6, rtol=0)
    loss.sum().backward()
    reference.sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-5, rtol=1e-5)


def test_the_ciou_gradient_holds_alpha_and_keeps_both_parts_of_the_distance_term() -> None:
    # beside the target: no overlap, so only distance and shape pull; x1 fixed, the width is x2's alone
    box = torch.tensor([[0.0, 0.0, 1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[4.0, 0.0, 8.0, 2.0]], dtype=torch.float64)
    ciou_loss(box, target).sum().backward()
    angle = math.atan(4 / 2) - math.atan(1 / 2)
    v = 4 / math.pi**2 * angle**2
    alpha = v / (1 + v)
    shape = -(8 / math.pi**2) * angle * 2 / (1**2 + 2**2)  # dv/dw
    rho2, c2 = 5.5**2, 8**2 + 2**2  # x2 moves the centre by a half and leaves the enclosing box as it is
    assert float(box.grad[0, 2]) == pytest.approx(-5.5 / c2 + alpha * shape)
    # x1 moves the centre by a half, takes from the width and pulls the enclosing box's left side
    assert float(box.grad[0, 0]) == pytest.approx(-5.5 / c2 + rho2 / c2**2 * 2 * 8 - alpha * shape)


@pytest.mark.parametrize("loss", [ciou_loss, lambda a, b: giou_loss(a, b, eps=1e-7)])
def test_boxes_without_area_give_finite_losses_and_gradients(loss) -> None:
    flat = [[0.5, 0.5, 0.5, 0.5], [0.2, 0.5, 0.6, 0.5], [0.5, 0.2, 0.5, 0.6], [0.1, 0.1, 0.3, 0.4]]
    predicted = torch.tensor([a for a in flat for _ in flat]).requires_grad_()
    values = loss(predicted, torch.tensor(flat * len(flat)))
    values.sum().backward()
    assert torch.isfinite(values).all() and torch.isfinite(predicted.grad).all()
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert float(loss(point, point)) == 1.0  # no area, so no overlap, but the same place and shape


def test_ciou_refuses_swapped_corners() -> None:
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match=r"target box 0 is inverted: \[1.0, 0.0, 0.0, 1.0\]"):
        ciou_loss(box, box[:, [2, 1, 0, 3]])


def test_dfl_shares_its_target_between_two_bins() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]] * 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([1.25, 2.0, -3.0, 9.0])  # the last two lie outside the bins
    loss = distribution_focal_loss(logits, target)
    shares = torch.tensor([[0, 0.75, 0.25, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    p = logits.detach().softmax(-1)
    torch.testing.assert_close(loss, -(shares * p.log()).sum(-1))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, p - shares)


def test_dfl_is_least_at_its_entropy() -> None:
    logits = torch.tensor([[0.3, 0.7, 1e-9]]).log()
    entropy = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
    assert float(distribution_focal_loss(logits, torch.tensor([0.7]))) == pytest.approx(entropy)


def test_dfl_needs_two_bins() -> None:
    with pytest.raises(ValueError, match=r"at least two bins; found logits \(3, 1\)"):
        distribution_focal_loss(torch.zeros(3, 1), torch.zeros(3))
