"""The losses' gradients against formulas, central differences and values by hand, as the tool checks them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from derivatives import edges, forms, losses
from derivatives.comparison import Check, by_differences, by_form, relative_error

from mtltrack.losses.boxes import boxes_xyxy_to_cxcywh, ciou_loss

CHECKS = [check for group in (losses, forms, edges) for check in group.checks()]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_derivative(check: Check) -> None:
    outcome = check.run()
    assert outcome.compared and outcome.error <= check.tolerance, outcome


def test_the_binary_focal_gradient_at_one_half() -> None:
    z = torch.zeros((), dtype=torch.float64, requires_grad=True)
    sigmoid_focal_loss(z, torch.ones((), dtype=torch.float64), alpha=0.25, gamma=2.0).backward()
    # s alpha (1 - p)^2 (2 p log p + p - 1) at p = 1/2
    assert z.grad.item() == pytest.approx(0.25 * 0.25 * (math.log(0.5) - 0.5))
    assert z.grad.item() == pytest.approx(-0.0746, abs=5e-5)


def test_forms_that_are_often_printed_wrong_are_told_apart() -> None:
    a, b = losses.box_pairs()
    by_width, by_height = forms.shape_gradient(a, b)
    assert relative_error(-by_width, by_width) > 1  # the sign of dv/dw lost
    assert relative_error(by_width, by_height) > 0.1
    (width, height), *_ = forms._enclosing(a, b)
    apart = (boxes_xyxy_to_cxcywh(a) - boxes_xyxy_to_cxcywh(b))[:, :2]
    first_only = torch.cat([apart, apart], dim=1) / (width**2 + height**2)[:, None]
    assert relative_error(first_only, forms.distance_gradient(a, b)) > 0.1  # c^2 taken as constant


def test_alpha_is_what_ciou_holds() -> None:
    pairs = losses.box_pairs()
    assert by_differences(ciou_loss, *pairs).error > 1e-2
    assert by_differences(ciou_loss, *pairs, hold=True).error < 1e-6


def test_a_wrong_formula_is_found() -> None:
    z = torch.tensor([0.3, -1.0], dtype=torch.float64)
    assert by_form(lambda z: z.sin(), [z.cos()], z).error == 0
    assert by_form(lambda z: z.sin(), [z.cos() * (1 + 1e-6)], z).error == pytest.approx(1e-6, rel=1e-3)
