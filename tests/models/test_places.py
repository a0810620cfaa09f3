"""Where a target is: boxes mapped to frames, the mean cell, the box of a mask."""

from __future__ import annotations

import pytest
import torch

from mtltrack.models.layers.places import boxes_in_frame, inverse, mask_boxes, mean_cell


def test_a_box_is_mapped_to_the_frame_mirrored_or_not() -> None:
    # a crop of 64 pixels shows the frame's columns 100-228 and rows 50-178: two frame pixels a crop pixel,
    # whose centre is 0.5 frame pixels behind the first pixel's
    plain = torch.tensor([[2.0, 0, 100.5], [0, 2, 50.5]])
    mirrored = torch.tensor([[-2.0, 0, 226.5], [0, 2, 50.5]])
    box = torch.tensor([0.25, 0.5, 0.125, 0.25])
    assert boxes_in_frame(box, plain, (64, 64)).tolist() == [132, 114, 16, 32]
    assert boxes_in_frame(box, mirrored, (64, 64)).tolist() == [196, 114, 16, 32]


def test_the_mean_cell_is_the_only_one_that_scores() -> None:
    scores = torch.full((1, 1, 1, 4, 8), 1e-4)
    scores[..., 2, 5] = 1 - 1e-4
    offsets = torch.zeros(1, 1, 2, 4, 8)
    offsets[..., 2, 5] = torch.tensor([0.5, 0.25])[None, None]
    place = mean_cell(scores, offsets)
    assert place[0, 0].tolist() == pytest.approx([5.5 / 8, 2.25 / 4], abs=1e-3)


def test_the_mean_cell_weighs_by_odds() -> None:
    scores = torch.tensor([0.5, 0.75]).view(1, 1, 1, 1, 2)  # odds 1 and 3
    assert mean_cell(scores, torch.zeros(1, 1, 2, 1, 2))[0, 0, 0].item() == pytest.approx(0.75 / 2)


def test_the_mean_cell_passes_gradient_to_scores() -> None:
    scores = torch.full((1, 1, 1, 3, 3), 0.1).requires_grad_()
    mean_cell(scores, torch.zeros(1, 1, 2, 3, 3))[..., 0].sum().backward()
    gradient = scores.grad[0, 0, 0]
    assert (gradient[:, 0] < 0).all() and (gradient[:, 2] > 0).all()


def test_the_box_of_a_rectangular_mask_is_the_rectangle() -> None:
    logits = torch.full((1, 1, 20, 40), -10.0)
    logits[..., 5:15, 10:16] = 60.0
    found = mask_boxes(logits, torch.zeros(1, 1, 4))
    assert found[0, 0].tolist() == pytest.approx([13 / 40, 10 / 20, 6 / 40, 10 / 20], rel=1e-5)


def test_an_empty_mask_leaves_the_box_and_a_finite_gradient() -> None:
    logits = torch.full((1, 2, 8, 8), -3.0)
    logits[0, 1, 3:5, 2:6] = 1.0
    logits.requires_grad_()
    box = torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(1, 2, 4)
    found = mask_boxes(logits, box)
    assert torch.equal(found[0, 0], box[0, 0]) and not torch.equal(found[0, 1], box[0, 1])
    found.sum().backward()
    assert torch.isfinite(logits.grad).all() and logits.grad[0, 1].any() and not logits.grad[0, 0].any()


def test_the_inverse_is_torchs() -> None:
    matrices = torch.randn(4, 5, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(inverse(matrices), torch.linalg.inv(matrices))
    assert not inverse(torch.ones(2, 2)).isfinite().any()
