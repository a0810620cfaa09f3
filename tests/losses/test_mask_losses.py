from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from mtltrack.losses.masks import dice_loss, mask_bce


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 5, 6, generator=generator)
    return logits, (torch.rand(4, 5, 6, generator=generator) < 0.3).float()


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[[logit(0.8), logit(0.4)]], [[0.0, 0.0]]])
    target = torch.tensor([[[1.0, 0.0]], [[0.25, 1.0]]])
    # -(ln 0.8 + ln 0.6) / 2, and ln 2 whatever the target
    assert mask_bce(logits, target).tolist() == pytest.approx([0.3669846, 0.6931472])


def test_cross_entropy_is_torchvisions_focal_loss_without_focus() -> None:
    logits, target = sample()
    theirs = sigmoid_focal_loss(logits, target, alpha=-1, gamma=0).mean((1, 2))
    torch.testing.assert_close(mask_bce(logits, target), theirs)


def test_cross_entropy_gradient_is_p_minus_q() -> None:
    logits, target = sample()
    target[0] = 0.3  # a share
    logits.requires_grad_()
    mask_bce(logits, target).sum().backward()
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - target) / 30)


def test_dice_by_hand() -> None:
    # p = (.8, .4, .5), q = (1, 0, 1): 2 * 1.3 = 2.6 over 1.7 + 2; with e = 1: 1 - 3.6 / 4.7
    logits = torch.tensor([[[logit(0.8), logit(0.4), 0.0]]])
    target = torch.tensor([[[1.0, 0.0, 1.0]]])
    assert float(dice_loss(logits, target)) == pytest.approx(1.1 / 4.7)
    assert float(dice_loss(logits, target, empty=1e-9)) == pytest.approx(1 - 2.6 / 3.7)
    # a share: p = q = 1/2 on both cells; 1 - (2 * 0.5 + 1) / (1 + 1 + 1)
    assert float(dice_loss(torch.zeros(1, 1, 2), torch.full((1, 1, 2), 0.5))) == pytest.approx(1 / 3)


def test_dice_of_empty_masks() -> None:
    empty = torch.zeros(1, 2, 2)
    assert float(dice_loss(torch.full((1, 2, 2), -40.0), empty)) == pytest.approx(0.0, abs=1e-6)
    assert float(dice_loss(torch.zeros(1, 2, 2), empty)) == pytest.approx(2 / 3)  # sum p = 2
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    dice_loss(logits, empty).sum().backward()
    # d/dz of S / (S + 1) is p (1 - p) / (S + 1)^2
    torch.testing.assert_close(logits.grad, torch.full((1, 2, 2), 0.25 / 9))


def test_dice_gradient_has_the_closed_form() -> None:
    logits, target = sample()
    logits.requires_grad_()
    dice_loss(logits, target).sum().backward()
    p = logits.detach().sigmoid()
    above = 2 * (p * target).sum((1, 2), keepdim=True) + 1
    below = (p + target).sum((1, 2), keepdim=True) + 1
    torch.testing.assert_close(logits.grad, -(2 * target * below - above) / below**2 * p * (1 - p))


def test_gradients_agree_with_central_differences() -> None:
    logits, target = sample()
    small, shares = logits[:1, :2, :3].double().requires_grad_(), target[:1, :2, :3].double()
    for loss in (mask_bce, dice_loss):
        value = loss(small, shares).sum()
        (gradient,) = torch.autograd.grad(value, small)
        step = 1e-2  # the losses are float32 inside
        for cell in ((0, 0, 0), (0, 1, 2)):
            up, down = small.detach().clone(), small.detach().clone()
            up[cell] += step
            down[cell] -= step
            slope = (loss(up, shares) - loss(down, shares)).item() / (2 * step)
            assert slope == pytest.approx(float(gradient[cell]), abs=2e-4)


def test_extreme_logits_and_half_precision_stay_finite() -> None:
    logits = torch.tensor([[[1e4, -1e4]]], dtype=torch.bfloat16, requires_grad=True)
    target = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    for loss in (mask_bce, dice_loss):
        value = loss(logits, target)
        assert value.dtype == torch.float32 and torch.isfinite(value).all()
        value.sum().backward()
        assert logits.grad is not None and torch.isfinite(logits.grad).all()
