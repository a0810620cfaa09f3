import math

import pytest
import torch

from mtltrack.losses.focal import gaussian_heatmap, gaussian_radius, heatmap_focal_loss


def test_radius_keeps_the_published_roots() -> None:
    # w = h = 10 cells, overlap 0.7: the smallest root is the second one, (b + sqrt(b^2 - 16 c)) / 2 or the
    # third
    w = h = 10.0
    b1, c1 = w + h, w * h * 0.3 / 1.7
    b2, c2 = 2 * (w + h), 0.3 * w * h
    b3, c3 = -1.4 * (w + h), -0.3 * w * h
    roots = [
        (b1 + math.sqrt(b1**2 - 4 * c1)) / 2,
        (b2 + math.sqrt(b2**2 - 16 * c2)) / 2,
        (b3 + math.sqrt(b3**2 - 4 * 2.8 * c3)) / 2,
    ]
    assert float(gaussian_radius(torch.tensor([[w, h]]))) == pytest.approx(min(roots), rel=1e-5)


def test_heatmap_peaks_at_the_nearest_cell_and_falls_like_a_gaussian() -> None:
    maps = gaussian_heatmap(torch.tensor([[0.25, 0.25, 0.5, 0.5]]), 16)  # centre at cell 8, 8
    radius = int(gaussian_radius(torch.tensor([[8.0, 8.0]])))
    sigma = (2 * radius + 1) / 6
    assert float(maps[0, 8, 8]) == 1.0
    assert float(maps[0, 8, 9]) == pytest.approx(math.exp(-1 / (2 * sigma**2)), rel=1e-5)
    assert float(maps[0, 8, 8 + radius + 1]) == 0.0
    assert int((maps == 1).sum()) == 1


def test_a_centre_outside_leaves_no_positive() -> None:
    maps = gaussian_heatmap(torch.tensor([[1.5, 0.2, 0.2, 0.2]]), 16)
    assert float(maps.max()) == 0.0


def test_focal_loss_by_hand() -> None:
    p = torch.tensor([[0.8, 0.3]])
    target = torch.tensor([[1.0, 0.5]])
    expected = -(0.2**2) * math.log(0.8) - 0.5**4 * 0.3**2 * math.log(0.7)
    assert float(heatmap_focal_loss(p, target)) == pytest.approx(expected, rel=1e-5)


def test_sample_and_batch_reduction_agree_with_one_positive_a_sample() -> None:
    torch.manual_seed(0)
    p = torch.rand(3, 4, 4).clamp(1e-4, 1 - 1e-4)
    target = torch.rand(3, 4, 4) * 0.9
    target[:, 1, 2] = 1
    per_sample = heatmap_focal_loss(p, target)
    torch.testing.assert_close(per_sample.sum() / 3, heatmap_focal_loss(p, target, "batch"))
    with pytest.raises(ValueError, match="reduction must be 'sample' or 'batch', found 'mean'"):
        heatmap_focal_loss(p, target, "mean")


def test_without_a_positive_the_negative_term_is_left_undivided() -> None:
    p = torch.tensor([[0.5, 0.5]])
    expected = -2 * 0.25 * math.log(0.5)
    assert float(heatmap_focal_loss(p, torch.zeros(1, 2))) == pytest.approx(expected, rel=1e-5)
