"""The head of docs/adding_a_head.md keeps the contract, as printed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from tests.tasks.contract import BATCH, FRAMES, check_head, make_clip

from mtltrack.core.registry import HEADS
from mtltrack.core.types import TaskOutput, Tokens

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "speed_head.py"


def test_contract() -> None:
    spec = importlib.util.spec_from_file_location("speed_head", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    registered = dict(HEADS.module_dict)
    try:
        spec.loader.exec_module(module)
    finally:
        HEADS.module_dict.clear()
        HEADS.module_dict.update(registered)  # the other tests see the shipped heads only
    torch.manual_seed(0)
    head = module.SpeedHead(channels=16, hidden_dim=8)
    labels = {"valid": torch.ones(BATCH, FRAMES, dtype=torch.bool), "value": torch.rand(BATCH, FRAMES)}

    def answer(tokens: Tokens) -> TaskOutput:
        boxes = TaskOutput(None, {"boxes_cxcywh": torch.full((BATCH, FRAMES, 4), 0.5)})
        return head(tokens, {"box": boxes}, make_clip())

    check_head(head, answer, labels)
