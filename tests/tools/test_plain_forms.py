"""The plain forms give the answers of the project's own."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtltrack.core.kernels import ONEDNN, using
from mtltrack.core.types import Clip, TaskOutput
from mtltrack.models.backbones.vit import OneStreamViT
from mtltrack.models.history import HistoryNetwork
from mtltrack.models.layers.memory import PromptMemory
from mtltrack.models.tracker import HistorySettings, Tracker
from mtltrack.tasks.box import CenterHead

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from plain.attention import replaced
from plain.forms import plain_forms
from plain.memory import PlainMemory, read_by_matrix

LIBRARY = Path(__file__).resolve().parents[2] / "lib"
WIDTH, TEMPLATE, SEARCH, ENTRIES = 24, 48, 64, 3
CLOSE = 5.5e-6  # of the largest number of a map


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_tracker(history: bool, template_range: str = "CTR_POINT") -> Tracker:
    torch.manual_seed(0)
    backbone = OneStreamViT(
        WIDTH, 4, 2, TEMPLATE, SEARCH, ce_loc=[1, 2], ce_keep_ratio=[0.7, 0.7], temporal_embedding=history
    )
    with torch.no_grad():
        for block in backbone.blocks:
            block.attn.qkv.weight.mul_(20)  # attention that isn't the same for all tokens
    return Tracker(
        backbone,
        CenterHead(WIDTH, SEARCH // 16, hidden=16),
        HistoryNetwork(WIDTH, key_dim=8, encoder_width=4) if history else None,
        template_range=template_range,
        history_settings=HistorySettings(update_interval=4, max_memory=ENTRIES),
    )


def make_clip(frames: int, seed: int) -> Clip:
    generator = torch.Generator().manual_seed(seed)
    return Clip(
        template=torch.randn(2, 3, TEMPLATE, TEMPLATE, generator=generator),
        template_boxes_xywh=torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.3, 0.2, 0.4, 0.6]]),
        search=torch.randn(2, frames, 3, SEARCH, SEARCH, generator=generator),
        affine=torch.zeros(2, frames, 2, 3),
        timestamps=torch.arange(frames, dtype=torch.float64).expand(2, frames),
    )


def close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= CLOSE * wanted.abs().max())


def run(net: Tracker, plain: bool, frames: int) -> list[tuple[TaskOutput, list[Tensor]]]:
    """Track a sequence; return what the box head says of each frame, and which tokens were removed."""
    with plain_forms(net) if plain else nullcontext(), torch.inference_mode():
        memory = net.new_memory()
        found = []
        for index in range(1, frames + 1):
            clip = make_clip(1, index)
            clip.template = make_clip(1, 0).template
            removed = net.encode(clip.template, clip.template_boxes_xywh, clip.search).removed
            found.append((net.track(clip, index, memory)["box"], removed))
        if memory is not None:
            assert isinstance(memory, PlainMemory if plain else PromptMemory)
            assert memory.count == ENTRIES  # it was full, and the oldest entry was dropped
        return found


@pytest.mark.parametrize("template_range", ["CTR_POINT", "GT_BOX", "ALL"])
@pytest.mark.parametrize("history", [True, False], ids=["hiptrack", "ostrack"])
def test_a_sequence(history: bool, template_range: str) -> None:
    net = make_tracker(history, template_range).eval()
    ours, plain = run(net, plain=False, frames=22), run(net, plain=True, frames=22)
    for (own, own_removed), (other, other_removed) in zip(ours, plain, strict=True):
        for name, value in other.predictions.items():
            assert close(own.predictions[name], value), name
        assert own_removed and len(own_removed) == len(other_removed)
        for numbers, others in zip(own_removed, other_removed, strict=True):
            assert torch.equal(numbers.sort(2).values, others.sort(2).values)


@pytest.mark.parametrize("history", [True, False], ids=["hiptrack", "ostrack"])
def test_gradients_in_training(history: bool) -> None:
    net = make_tracker(history)
    clip = make_clip(4, 0)
    found: list[dict[str, Tensor]] = []
    for plain in (False, True):
        net.load_state_dict(make_tracker(history).state_dict())  # batch norms remember what they saw
        with plain_forms(net) if plain else nullcontext():
            predictions = net(clip)["box"].predictions
            loss = predictions["score_map"].sum() + predictions["boxes_cxcywh"].square().sum()
            net.zero_grad()
            loss.backward()
        found.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    ours, plain_ones = found
    assert set(ours) == set(plain_ones) and len(ours) > 50
    largest = max(gradient.abs().max() for gradient in plain_ones.values())
    for name, gradient in plain_ones.items():  # some are noise around 0: biases before batch norms
        assert (ours[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max() + CLOSE * largest, name


def test_the_readout_by_hand() -> None:
    query = torch.tensor([[[1.0, 0.0]]])
    keys = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    values = torch.tensor([[[10.0], [20.0]]])
    # 2 q.k - |k|^2 is 1 and -4; over sqrt(2)
    first, second = torch.tensor([1.0, -4.0]).div(2**0.5).exp()
    assert read_by_matrix(query, keys, values).item() == pytest.approx(
        float((10 * first + 20 * second) / (first + second))
    )


def test_the_tracker_is_itself_again() -> None:
    net = make_tracker(history=True)
    around = object()
    net.__dict__["forward"] = around  # as accelerate does
    before = torch.backends.mkldnn.matmul.fp32_precision
    with using(ONEDNN):
        with pytest.raises(KeyError), plain_forms(net):
            assert "forward" not in vars(net) and "read" in vars(net.history)
            assert torch.backends.mkldnn.matmul.fp32_precision == "none"
            raise KeyError
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    assert vars(net)["forward"] is around and "read" not in vars(net.history)
    assert "new_memory" not in vars(net)
    attention = net.backbone.blocks[0].attn
    assert "forward" not in vars(attention) and "forward_scored" not in vars(attention)
    assert isinstance(net.new_memory(), PromptMemory)


def test_a_replacement_within_another() -> None:
    owner = type("Owner", (), {})()
    with replaced(owner, "name", 1):
        with replaced(owner, "name", 2):
            assert owner.name == 2
        assert owner.name == 1
    assert not hasattr(owner, "name")


def test_the_product_does_not_use_them() -> None:
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "plain" for name in names), path
