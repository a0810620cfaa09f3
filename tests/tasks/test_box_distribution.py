"""The centre head with distributions over sizes, and the choice of the box's overlap loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mtltrack.core.types import TaskOutput
from mtltrack.tasks.box import CenterHead
from mtltrack.tasks.box_distribution import DistributionHead

GRID = 4  # bins 0 to 4 cells


def answer(size_logits: Tensor, best: tuple[int, int] = (2, 1)) -> TaskOutput:
    """The output of one frame whose best-scored cell (row, column) has these logits, (2, 5); others are 9."""
    score_map = torch.full((1, 1, 1, GRID, GRID), 0.1)
    score_map[..., best[0], best[1]] = 0.9
    logits = torch.full((1, 1, 2 * (GRID + 1), GRID, GRID), 9.0)
    logits[0, 0, :, best[0], best[1]] = size_logits.flatten()
    boxes = torch.tensor([[[0.5, 0.5, 0.3, 0.3]]])
    return TaskOutput(None, {"score_map": score_map, "size_logits": logits, "boxes_cxcywh": boxes})


def labels(width: float, height: float) -> dict[str, Tensor]:
    box = torch.tensor([[[0.5, 0.5, width, height]]])
    return {"valid": torch.ones(1, 1, dtype=torch.bool), "cxcywh": box}


def test_a_side_is_the_mean_of_its_bins() -> None:
    head = DistributionHead(8, GRID, hidden=8)
    logits = torch.full((1, 10, 1, 1), -math.inf)
    logits[0, 1], logits[0, 2] = math.log(0.25), math.log(0.75)  # width 0.25 * 1 + 0.75 * 2 = 1.75 cells
    logits[0, 5 + 4] = 0.0  # height 4 cells, which is the whole crop
    sizes = head.read_sizes(logits)["size_map"]
    torch.testing.assert_close(sizes.flatten(), torch.tensor([1.75 / 4, 1 - 1e-4]))


def test_the_loss_looks_at_the_two_bins_around_each_side() -> None:
    head = DistributionHead(8, GRID, hidden=8)
    shares = torch.tensor([[0.1, 0.2, 0.3, 0.3, 0.1], [0.5, 0.2, 0.1, 0.1, 0.1]])
    loss = head.loss_terms(answer(shares.log()), labels(0.4, 0.25))["dfl"]  # 1.6 cells and 1 cell
    width = -(0.4 * math.log(0.2) + 0.6 * math.log(0.3))
    height = -math.log(0.2)
    torch.testing.assert_close(loss, torch.tensor([[(width + height) / 2]]))


def test_the_labelled_box_is_cut_to_the_crop() -> None:
    head = DistributionHead(8, GRID, hidden=8)
    shares = torch.tensor([[0.1, 0.2, 0.1, 0.1, 0.5], [0.1, 0.2, 0.3, 0.3, 0.1]])
    loss = head.loss_terms(answer(shares.log()), labels(1.4, 0.25))["dfl"]
    torch.testing.assert_close(loss, torch.tensor([[-(math.log(0.5) + math.log(0.2)) / 2]]))


def test_only_the_last_convolution_of_the_sizes_differs_from_the_centre_head() -> None:
    plain = {name: value.shape for name, value in CenterHead(8, GRID, hidden=16).state_dict().items()}
    ours = {name: value.shape for name, value in DistributionHead(8, GRID, hidden=16).state_dict().items()}
    assert set(plain) == set(ours)
    assert {name for name in plain if plain[name] != ours[name]} == {"conv5_size.weight", "conv5_size.bias"}
    assert ours["conv5_size.bias"] == (2 * (GRID + 1),)


def test_each_term_reaches_the_branches_that_the_head_declares() -> None:
    torch.manual_seed(0)
    head = DistributionHead(8, GRID, hidden=16, iou_loss="CIOU")
    frame = head.predict(torch.randn(2, 8, GRID, GRID))
    output = TaskOutput(None, {name: value[:, None] for name, value in frame.items() if name != "features"})
    truth = {"cxcywh": torch.tensor([0.45, 0.55, 0.3, 0.2]).expand(2, 1, 4)}
    terms = head.loss_terms(output, truth)
    assert set(terms) == {"ciou", "l1", "focal", "dfl"} == set(head.term_weights)
    for term, wanted in (("ciou", {"offset", "size"}), ("dfl", {"size"}), ("focal", {"ctr"})):
        head.zero_grad()
        terms[term].sum().backward(retain_graph=True)
        reached = {
            name.split(".")[0].split("_")[1]
            for name, parameter in head.named_parameters()
            if parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
        }
        assert reached == wanted == set(head.reaches[term])


def test_sizes_are_learned() -> None:
    torch.manual_seed(0)
    head = DistributionHead(8, GRID, hidden=8)
    maps = torch.randn(1, 8, GRID, GRID)
    truth = {"cxcywh": torch.tensor([[[0.4, 0.6, 0.31, 0.17]]])}
    optimizer = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(60):
        frame = {name: value[:, None] for name, value in head.predict(maps).items()}
        terms = head.loss_terms(TaskOutput(None, frame), truth)
        optimizer.zero_grad()
        sum(head.term_weights[name] * value.sum() for name, value in terms.items()).backward()
        optimizer.step()
    learned = head.predict(maps)["boxes_cxcywh"][0, 2:]
    assert learned.tolist() == pytest.approx([0.31, 0.17], abs=0.05)
