"""A head that predicts the target's speed: the example of docs/adding_a_head.md, ready to copy.

As lib/mtltrack/tasks/speed.py it is found without another edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError

from mtltrack.core.registry import HEADS
from mtltrack.core.types import Clip, TaskOutput, Tokens


@HEADS.register_module()
class SpeedHead(nn.Module):
    """Speed of the target in box sizes per second. Predictions: `speed` (B, T), at least 0.

    Args:
        channels: C of the search tokens; filled in.
        hidden_dim: width of the hidden layer.
    """

    reads = ("box",)  # heads whose output `upstream` holds
    decode_keys = ("speed",)  # predictions that `decode` needs

    def __init__(self, channels: int, hidden_dim: int = 64) -> None:
        super().__init__()
        self.term_weights = {"speed": 1.0}
        self.feature_channels = hidden_dim
        self.hidden = nn.Sequential(nn.Linear(channels + 4, hidden_dim), nn.ReLU())
        self.answer = nn.Linear(hidden_dim, 1)

    def forward(self, tokens: Tokens, upstream: Mapping[str, TaskOutput], clip: Clip) -> TaskOutput:
        del clip  # other heads read its time stamps, or its detail view
        boxes = upstream["box"].predictions["boxes_cxcywh"]  # (B, T, 4); DETACH: [box] cuts this gradient
        hidden = self.hidden(torch.cat([tokens.search.mean(2), boxes], dim=-1))  # (B, T, hidden_dim)
        speed = F.softplus(self.answer(hidden)).squeeze(-1)  # (B, T)
        return TaskOutput(hidden[:, :, None], {"speed": speed})

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"speed": F.smooth_l1_loss(output.predictions["speed"], labels["value"], reduction="none")}

    def decode(self, output: TaskOutput) -> list[list[dict[str, Any]]]:
        return [[{"speed": value} for value in clip] for clip in output.predictions["speed"].tolist()]

    def metrics(self) -> SpeedMetrics:
        return SpeedMetrics()


class SpeedMetrics:
    """Mean absolute error of the speed."""

    def __init__(self) -> None:
        self.error = MeanAbsoluteError()

    def update(self, output: TaskOutput, labels: dict[str, Tensor]) -> None:
        valid = labels["valid"]
        self.error.update(output.predictions["speed"].detach()[valid], labels["value"][valid])

    def compute(self) -> dict[str, float]:
        return {"mae": float(self.error.compute())}

    def reset(self) -> None:
        self.error.reset()
