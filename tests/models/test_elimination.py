import math

import pytest
import torch

from mtltrack.models.layers.elimination import (
    eliminate,
    keep_rate,
    python_slice_mask,
    template_mask,
    template_rows,
)


@pytest.mark.parametrize("start", [-12, -3, -1, 0, 2, 9, 10, 15])
@pytest.mark.parametrize("stop", [-12, -4, 0, 5, 10, 20])
def test_slice_mask_is_pythons_slice(start: int, stop: int) -> None:
    expected = [False] * 10
    for i in list(range(10))[start:stop]:
        expected[i] = True
    mask = python_slice_mask(torch.tensor([float(start)]), torch.tensor([float(stop)]), 10)
    assert mask[0].tolist() == expected


def test_keep_rate_by_hand() -> None:
    assert keep_rate(19, 20, 100, 0.7) == 1.0
    assert keep_rate(60, 20, 100, 0.7) == pytest.approx(0.85)  # half-way down the cosine
    assert keep_rate(100, 20, 100, 0.7) == 0.7
    assert keep_rate(1, 0, 0, 0.7) == 0.7


def test_eliminate_keeps_the_best_and_says_which() -> None:
    tokens = torch.arange(12.0).view(1, 6, 2)  # two template tokens, four search tokens
    scores = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    numbers = torch.tensor([[5, 6, 7, 8]])
    outcome = eliminate(scores, tokens, 2, 0.5, numbers)
    assert outcome.kept.tolist() == [[6, 8]]
    assert outcome.removed is not None and sorted(outcome.removed[0].tolist()) == [5, 7]
    assert outcome.tokens[0, :, 0].tolist() == [0, 2, 6, 10]
    assert eliminate(scores, tokens, 2, 0.9, numbers).removed is None  # ceil(3.6) = 4: all stay
    assert math.ceil(0.9 * 4) == 4


def test_template_rows_are_the_mean_over_the_mask() -> None:
    boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5]])
    rows = template_rows("CTR_REC", boxes, 128, 16)
    assert rows.index is not None and rows.index.tolist() == [27, 28, 35, 36]
    assert rows.weights.tolist() == [[0.25] * 4]
    everything = template_rows("ALL", boxes, 128, 16)
    assert everything.index is None and everything.weights.sum() == pytest.approx(1)
    inside = template_rows("GT_BOX", boxes, 128, 16)
    mask = template_mask("GT_BOX", boxes, 128, 16)
    assert mask is not None
    torch.testing.assert_close(inside.weights, mask / mask.sum())
    with pytest.raises(ValueError, match="known: ALL, CTR_POINT, CTR_REC, GT_BOX"):
        template_mask("CENTRE", boxes, 128, 16)
