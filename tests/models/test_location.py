"""A place in a fine map: coordinates between views, sub-cell centres, the loss on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from mtltrack.core.types import Clip
from mtltrack.models.layers.location import (
    PixelEmbedding,
    QueryDecoder,
    grid_encoding,
    local_mean,
    location_loss,
    sample_maps,
    view_to_search,
)

SIZE, DETAIL = 64, 96
SAME = torch.eye(2, 3)[None, None]


def make_clip(affine: Any, detail_affine: Any = None) -> Clip:
    detail = None if detail_affine is None else torch.zeros(1, 1, 3, DETAIL, DETAIL)
    return Clip(
        template=torch.zeros(1, 3, 32, 32),
        template_boxes_xywh=torch.zeros(1, 4),
        search=torch.zeros(1, 1, 3, SIZE, SIZE),
        affine=torch.tensor(affine, dtype=torch.float32)[None, None],
        timestamps=torch.zeros(1, 1),
        detail=detail,
        detail_affine=None
        if detail_affine is None
        else torch.tensor(detail_affine, dtype=torch.float32)[None, None],
    )


def pixel_in_frame(affine: Any, index: tuple[float, float]) -> np.ndarray:
    return np.asarray(affine) @ [*index, 1.0]


STRAIGHT = [[2.5, 0.0, 700.0], [0.0, 2.5, 310.0]]
FLIPPED = [[-2.5, 0.0, 860.0], [0.0, 2.5, 310.0]]


def test_without_a_detail_view_the_search_crop_is_the_view() -> None:
    torch.testing.assert_close(view_to_search(make_clip(STRAIGHT)), SAME)


@pytest.mark.parametrize(
    ("search", "detail"),
    [
        (STRAIGHT, [[0.6, 0.0, 745.0], [0.0, 0.6, 350.0]]),
        (FLIPPED, [[-0.6, 0.0, 815.0], [0.0, 0.6, 350.0]]),
        (STRAIGHT, [[-0.6, 0.0, 815.0], [0.0, 0.6, 350.0]]),  # only the detail view is mirrored
    ],
)
def test_the_same_frame_pixel_is_met_from_both_views(search: Any, detail: Any) -> None:
    view = view_to_search(make_clip(search, detail))[0, 0].double().numpy()
    for index in ((0.0, 0.0), (95.0, 0.0), (33.0, 71.0)):  # pixel centres of the detail view
        u = (np.array(index) + 0.5) / DETAIL
        in_search = view @ [*u, 1.0]
        np.testing.assert_allclose(
            pixel_in_frame(search, tuple(in_search * SIZE - 0.5)), pixel_in_frame(detail, index), atol=1e-3
        )


def test_maps_are_read_where_the_view_looks() -> None:
    ramp = torch.linspace(0.5, 7.5, 8) / 8  # each cell holds its centre's x in [0, 1]
    maps = torch.stack([ramp.expand(8, 8), ramp[:, None].expand(8, 8)])[None]  # (1, 2, 8, 8)
    view = torch.tensor([[[0.5, 0.0, 0.25], [0.0, 0.25, 0.5]]])  # right in the middle, lower half
    read = sample_maps(maps, view, 4, 2)
    expected_x = 0.25 + 0.5 * (torch.arange(2) + 0.5) / 2
    expected_y = 0.5 + 0.25 * (torch.arange(4) + 0.5) / 4
    torch.testing.assert_close(read[0, 0], expected_x.expand(4, 2))
    torch.testing.assert_close(read[0, 1], expected_y[:, None].expand(4, 2))
    beyond = sample_maps(maps, torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]]), 4, 4)
    assert float(beyond.abs().max()) == 0


def test_the_local_mean_lies_between_cells_and_ignores_a_far_second_peak() -> None:
    logits = torch.full((1, 1, 6, 10), -30.0)
    logits[0, 0, 2, 3], logits[0, 0, 2, 4] = math.log(3.0), math.log(1.0)  # three to one
    logits[0, 0, 5, 9] = math.log(2.0)  # outside the window of 2
    embedding = torch.arange(60.0).view(1, 1, 1, 6, 10)
    centre, found, share = local_mean(logits, embedding, window=2)
    torch.testing.assert_close(centre, torch.tensor([[[(3.75) / 10, 2.5 / 6]]]))
    torch.testing.assert_close(found, torch.tensor([[[23.25]]]))
    torch.testing.assert_close(share, torch.tensor([[4.0 / 6.0]]))


def test_a_window_at_the_border_is_cut() -> None:
    logits = torch.zeros(1, 1, 4, 4)
    logits[0, 0, 0, 0] = 1e-3  # the best cell; its window holds 2 x 2 cells, nearly alike
    centre, _, share = local_mean(logits, torch.zeros(1, 1, 1, 4, 4), window=1)
    torch.testing.assert_close(centre, torch.tensor([[[0.25, 0.25]]]), atol=1e-3, rtol=0)
    assert float(share) == pytest.approx(4 / 16, abs=1e-3)


def test_the_location_loss_is_zero_at_the_bilinear_shares_and_their_mean_is_the_centre() -> None:
    # x = 0.35 of 10 cells: 3.5 - 0.5 = 3.0, on cell 3; y = 0.5 of 6 cells: 2.5, half on 2, half on 3
    logits = torch.full((1, 1, 6, 10), -60.0)
    logits[0, 0, 2, 3] = logits[0, 0, 3, 3] = 0.0
    centre = torch.tensor([[[0.35, 0.5]]])
    assert float(location_loss(logits, centre, SAME)) == pytest.approx(0.0, abs=1e-5)
    torch.testing.assert_close(local_mean(logits, torch.zeros(1, 1, 1, 6, 10), 2)[0], centre)
    flat = location_loss(torch.zeros(1, 1, 6, 10), centre, SAME)
    assert float(flat) == pytest.approx(math.log(60) - math.log(2), abs=1e-5)  # less the two halves' entropy


def test_the_location_loss_leaves_its_target_minus_softmax_as_gradient() -> None:
    logits = torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    location_loss(logits, torch.tensor([[[0.5, 0.5]]]), SAME).sum().backward()
    target = torch.zeros(3, 4)
    target[1, 1] = target[1, 2] = 0.5
    torch.testing.assert_close(logits.grad[0, 0], logits.detach().flatten().softmax(0).view(3, 4) - target)


def test_a_centre_outside_the_view_costs_nothing() -> None:
    view = torch.tensor([[[[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]]])  # the lower right quarter
    logits = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    outside = location_loss(logits, torch.tensor([[[0.4, 0.9]]]), view)
    outside.sum().backward()
    assert float(outside.detach()) == 0 and float(logits.grad.abs().max()) == 0
    assert float(location_loss(logits.detach(), torch.tensor([[[0.6, 0.9]]]), view)) > 0


def test_cells_differ_in_their_encoding() -> None:
    encoding = grid_encoding((4, 6), 16)
    assert encoding.shape == (24, 16) and float(encoding.abs().max()) <= 1
    assert float(torch.cdist(encoding, encoding).fill_diagonal_(9).min()) > 0.1


def test_removed_features_are_not_read() -> None:
    torch.manual_seed(0)
    decoder = QueryDecoder(16, queries=3, layers=2, heads=2).eval()
    memory = torch.randn(1, 2, 9, 16)
    kept = torch.ones(1, 2, 9, dtype=torch.bool)
    kept[0, 1, 4:] = False
    changed = memory.clone()
    changed[0, 1, 4:] += 1.0
    with torch.no_grad():
        torch.testing.assert_close(decoder(memory, (3, 3), kept), decoder(changed, (3, 3), kept))
        assert not torch.allclose(decoder(memory, (3, 3), None), decoder(changed, (3, 3), None))


@pytest.mark.parametrize("stride", [2, 4])
def test_an_embedding_has_a_cell_every_few_pixels_and_joins_the_context(stride: int) -> None:
    torch.manual_seed(0)
    embedding = PixelEmbedding(context=8, width=16, stride=stride)
    pixels = torch.randn(2, 3, 64, 64)
    context = torch.randn(2, 8, 64, 64)

    def given(height: int, width: int) -> torch.Tensor:
        assert (height, width) == (64 // stride // 4,) * 2
        return context[..., :height, :width]

    out = embedding(pixels, given)
    assert out.shape == (2, 16, 64 // stride, 64 // stride)
    context = context + 1
    assert not torch.allclose(out, embedding(pixels, given))


def test_places_are_in_full_precision_under_autocast() -> None:
    maps = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    view = torch.tensor([[[0.3, 0.0, 0.123], [0.0, 0.3, 0.456]]])
    exact = sample_maps(maps, view, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sample_maps(maps, view, 16, 16), exact)
