import pytest
import torch

from mtltrack.models.history import HistoryNetwork, memory_mask, template_memory_mask


def test_mask_by_hand() -> None:
    # centre 8, side 4 of 16 pixels: columns and rows 6 to 9
    mask = memory_mask(torch.tensor([[0.5, 0.5, 0.25, 0.25]]), 16, [], 1)
    assert mask.shape == (1, 16, 16) and float(mask.sum()) == 16
    assert float(mask[0, 6:10, 6:10].sum()) == 16


def test_removed_tokens_are_cleared() -> None:
    removed = [torch.tensor([[0]]), torch.tensor([[3]])]  # upper left and lower right cell of a 2 x 2 grid
    mask = memory_mask(torch.tensor([[0.5, 0.5, 1.0, 1.0]]), 16, removed, 2)
    assert float(mask[0, :8, :8].sum()) == 0 and float(mask[0, 8:, 8:].sum()) == 0
    assert float(mask.sum()) == 128


def test_a_box_over_the_upper_edge_empties_the_published_mask_but_not_the_corrected_one() -> None:
    box = torch.tensor([[0.5, 0.1, 0.5, 0.5]])  # y from -2.4 to 5.6 of 16 pixels
    assert float(memory_mask(box, 16, [], 1).sum()) == 0
    assert float(memory_mask(box, 16, [], 1, correct=True).sum()) == 8 * 5


def test_template_mask_by_hand() -> None:
    mask = template_memory_mask(torch.tensor([[0.25, 0.5, 0.25, 0.125]]), 16)
    assert float(mask.sum()) == 4 * 2 and float(mask[0, 8:10, 4:8].sum()) == 8


def test_widths_are_free_but_not_senseless() -> None:
    network = HistoryNetwork(24, key_dim=5, value_dim=7, encoder_width=4)
    maps = torch.randn(1, 24, 4, 4)
    keys, values = network.template_entry(
        torch.randn(1, 3, 32, 32), maps[..., :2, :2], torch.tensor([[0.2, 0.2, 0.5, 0.5]])
    )
    assert keys.shape == (1, 16, 5) and values.shape == (1, 16, 7)
    prompt = network.prompt(maps, network.read(network.search_key(maps), keys, values))
    assert prompt.shape == maps.shape
    with pytest.raises(
        ValueError, match=r"MODEL.HISTORY.VALUE_DIM is 24; it must lie between 1 and C - 1 = 23"
    ):
        HistoryNetwork(24, value_dim=24)
