"""Parameters that a file will fill aren't filled before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtltrack.models.unfilled import UnfilledParameters


def test_parameters_keep_their_memory_and_all_else_is_filled() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.norm = nn.BatchNorm2d(3)
            self.register_buffer("table", torch.empty(5).fill_(2.0), persistent=False)
            self.plain = torch.zeros(3).normal_()

    torch.manual_seed(0)
    expected = torch.zeros(3).normal_()
    torch.manual_seed(0)
    with UnfilledParameters() as unfilled:
        part = Part()
    assert torch.equal(part.plain, expected)  # no number was drawn for the parameters before it
    assert part.table.tolist() == [2.0] * 5 and part.norm.running_var.tolist() == [1.0] * 3
    assert all(parameter.requires_grad for parameter in part.parameters())
    assert unfilled.left([]) and unfilled.left([part.linear.weight]) and not unfilled.left(part.parameters())


INITIALISERS = [
    lambda weight: nn.init.trunc_normal_(weight, std=0.02),
    lambda weight: nn.init.uniform_(tensor=weight),
    nn.init.normal_,
    nn.init.zeros_,
    nn.init.ones_,
    nn.init.kaiming_uniform_,
    nn.init.kaiming_normal_,
    nn.init.xavier_uniform_,
    nn.init.xavier_normal_,
]


@pytest.mark.parametrize("initialise", INITIALISERS)
def test_torchs_initialisers_write_nothing(initialise) -> None:
    weight = nn.Parameter(torch.full((4, 4), 7.0))
    with UnfilledParameters() as unfilled:
        initialise(weight)
    assert weight.detach().eq(7.0).all() and unfilled.left([])


def test_what_is_written_in_another_way_is_written() -> None:
    """The context leaves out what it knows; all else has its effect, so that nothing is unfilled unseen."""
    weight = nn.Parameter(torch.full((4, 4), 7.0))
    with UnfilledParameters() as unfilled:
        with torch.no_grad():
            weight[0] = 3.0
    assert weight[0].tolist() == [3.0] * 4 and not unfilled.left([])


def test_a_part_that_was_replaced_needs_nothing() -> None:
    with UnfilledParameters() as unfilled:
        part = nn.Sequential(nn.Linear(2, 2))
        part[0] = nn.Linear(3, 3)
    assert not unfilled.left(part.parameters())
