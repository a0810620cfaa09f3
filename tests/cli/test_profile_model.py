"""`tracking/profile_model.py`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtltrack.cli import profile_model


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2, bias=False)
        self.nothing = nn.ReLU()
        self.backbone.bias.requires_grad_(False)


def test_parameters_by_part() -> None:
    counts = profile_model.count_parameters(Parts())  # type: ignore[arg-type]
    assert counts == {"backbone": (16, 12), "head": (8, 8), "all": (24, 20)}


def test_operations() -> None:
    layer, image = nn.Linear(10, 5, bias=False), torch.zeros(7, 10)
    assert profile_model.count_operations(lambda: layer(image)) == 2 * 7 * 10 * 5


@pytest.mark.slow
def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--script", "hiptrack", "--config", "hiptrack_tiny", "--frames", "1", "--device", "cpu"]
    assert profile_model.main(arguments) == 0
    said = capsys.readouterr().out
    assert "GFLOPs" in said and "ms (median of 1, fp32)" in said and "backbone" in said


def test_unknown_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert profile_model.main(["--config", "hiptrack_tini"]) == 1
    assert "hiptrack_tiny" in capsys.readouterr().err
