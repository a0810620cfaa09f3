from __future__ import annotations

import pytest
import torch

from mtltrack.models.layers.pixels import PixelDecoder, TargetQuery, relative_places


def test_places_by_hand() -> None:
    # a box around the right half of a region: centre (0.75, 0.5), 0.5 x 1
    places = relative_places(torch.tensor([[0.75, 0.5, 0.5, 1.0]]), (2, 4))
    assert places.shape == (1, 2, 2, 4)
    # cell centres at 1/8, 3/8, 5/8, 7/8 across: -2.5 (cut off), -1.5, -0.5, 0.5 half widths
    assert places[0, 0, 0].tolist() == [-2.0, -1.5, -0.5, 0.5] == places[0, 0, 1].tolist()
    assert places[0, 1, :, 2].tolist() == [-0.5, 0.5]
    degenerate = relative_places(torch.tensor([[0.5, 0.5, 0.0, 0.0]]), (2, 2))
    assert torch.isfinite(degenerate).all()


@pytest.mark.parametrize(("stride", "cells"), [(4, 12), (2, 24)])
def test_embedding_has_the_asked_resolution(stride: int, cells: int) -> None:
    decoder = PixelDecoder(channels=5, width=6, stem=3, stride=stride)
    maps, pixels = torch.randn(2, 5, 3, 3), torch.randn(2, 3, 48, 48)
    embedding = decoder(maps, pixels, torch.full((2, 4), 0.5))
    assert embedding.shape == (2, 6, cells, cells)
    other = decoder(maps, pixels.flip(0), torch.full((2, 4), 0.5))
    assert not torch.allclose(embedding, other)  # it sees the pixels


def test_query_looks_where_the_score_is() -> None:
    torch.manual_seed(0)
    query = TargetQuery(channels=4, width=8)
    features = torch.randn(2, 9, 4)
    scores = torch.full((2, 9), 1e-4)
    scores[0, 3] = scores[1, 7] = 1.0
    sharp = query(features, scores)
    alone = torch.stack([query.project(features[0, 3]), query.project(features[1, 7])])
    torch.testing.assert_close(sharp, alone, atol=0.02, rtol=0.02)
    assert not torch.allclose(query(features, None), alone, atol=0.02, rtol=0.02)
