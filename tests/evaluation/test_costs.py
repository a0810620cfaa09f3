"""Operations, time and memory of a model; the expected operations are worked out layer by layer."""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import flop_registry

from mtltrack.cli.build import build_tracker
from mtltrack.core.config import find_config, load_config
from mtltrack.evaluation import costs
from mtltrack.models.layers.blocks import OneStreamBlock
from mtltrack.models.tracker import Tracker

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sizes:
    """The widths that decide what HIPTrack costs."""

    channels: int
    depth: int
    template: int
    search: int
    eliminations: dict[int, float]
    head: int
    encoder: int
    key: int = 64

    @property
    def value(self) -> int:
        return self.channels // 2

    @property
    def cells(self) -> int:
        return (self.search // 16) ** 2


TINY = Sizes(96, 4, 64, 128, {2: 0.9}, head=128, encoder=16)
FULL = Sizes(768, 12, 192, 384, {3: 0.7, 6: 0.7, 9: 0.7}, head=256, encoder=64)
OSTRACK_256 = Sizes(768, 12, 128, 256, {3: 0.7, 6: 0.7, 9: 0.7}, head=256, encoder=64)


def convolution(kernel: int, inputs: int, outputs: int, cells: int) -> int:
    return 2 * kernel**2 * inputs * outputs * cells


def backbone(sizes: Sizes) -> int:
    """Patches; in each block qkv, attention, projection, MLP; the scores of one template token's row."""
    width, template = sizes.channels, (sizes.template // 16) ** 2
    search = sizes.cells
    total = convolution(16, 3, width, template + search)
    for block in range(sizes.depth):
        tokens = template + search
        total += 2 * tokens * width * 3 * width + 4 * tokens**2 * width + 2 * tokens * width**2
        if block in sizes.eliminations:
            total += 2 * tokens * width
            search = math.ceil(sizes.eliminations[block] * search)
        total += 2 * 2 * (template + search) * width * 4 * width
    return total


def box_head(sizes: Sizes) -> int:
    """Three towers that halve their width, and a last layer of 1, 2 and 2 channels."""
    widths = [sizes.channels, sizes.head, sizes.head // 2, sizes.head // 4, sizes.head // 8]
    tower = sum(convolution(3, a, b, sizes.cells) for a, b in pairwise(widths))
    return 3 * tower + convolution(1, widths[-1], 1 + 2 + 2, sizes.cells)


def fusion(sizes: Sizes) -> int:
    width, cells = sizes.channels, sizes.cells
    key = convolution(3, width, sizes.key, cells)
    compression = convolution(3, width, width - sizes.value, cells)
    return key + compression + 2 * convolution(3, width, width, cells)


def memory_read(sizes: Sizes, entries: int) -> int:
    return 2 * sizes.cells * (entries * sizes.cells) * (sizes.key + sizes.value)


def mask_encoder(sizes: Sizes) -> int:
    """A ResNet-18 of three stages over four channels, and the fusion with the backbone's features."""
    w, side, value = sizes.encoder, sizes.search, sizes.value
    total = convolution(7, 4, w, (side // 2) ** 2) + 4 * convolution(3, w, w, (side // 4) ** 2)
    for a, cells in ((w, (side // 8) ** 2), (2 * w, (side // 16) ** 2)):
        total += convolution(3, a, 2 * a, cells) + 3 * convolution(3, 2 * a, 2 * a, cells)
        total += convolution(1, a, 2 * a, cells)
    total += 2 * convolution(3, 4 * w + sizes.channels, value, sizes.cells)
    total += 3 * convolution(3, value, value, sizes.cells)
    gate = 2 * 2 * 2 * value * max(value // 16, 1)  # two layers, for the mean and for the maximum
    return total + gate + convolution(7, 2, 1, sizes.cells)


def frame(sizes: Sizes, entries: int) -> int:
    return backbone(sizes) + fusion(sizes) + memory_read(sizes, entries) + box_head(sizes)


@pytest.fixture(scope="module")
def tiny() -> Tracker:
    cfg = load_config(find_config("hiptrack", "hiptrack_tiny"), script="hiptrack")
    return build_tracker(cfg, "hiptrack").eval().requires_grad_(False)


def test_published_costs_of_the_two_trackers_by_hand() -> None:
    """The formulas that the measurements are compared with below give the known figures at full size."""
    wanted = {1: 124, 10: 127, 50: 139, 150: 169}
    assert {entries: round(frame(FULL, entries) / 1e9) for entries in wanted} == wanted
    assert round(mask_encoder(FULL) / 1e9) == 21
    assert round((backbone(OSTRACK_256) + box_head(OSTRACK_256)) / 1e9) == 45


@pytest.mark.parametrize(("entries", "batch"), [(1, 1), (7, 1), (3, 2)])
@torch.inference_mode()
def test_operations_of_a_frame_by_part(entries: int, batch: int, tiny: Tracker) -> None:
    clip = costs.noise_clip(batch, TINY.template, TINY.search, CPU)
    cost = costs.measure_frame(tiny, clip, index=11, entries=entries)
    assert cost.entries == entries and not cost.writes and cost.seconds == {} and cost.total is None
    wanted = {
        "backbone": backbone(TINY),
        costs.FUSION: fusion(TINY),
        costs.READING: memory_read(TINY, entries),
        "box": box_head(TINY),
        costs.REST: 0,
    }
    assert cost.operations == {part: batch * count for part, count in wanted.items()}
    # keys have 64 + 1 channels: their squared length is one more product
    lengths = batch * 2 * TINY.cells * (entries * TINY.cells)
    assert cost.executed == sum(cost.operations.values()) + lengths


@torch.inference_mode()
def test_a_frame_that_is_written_runs_the_mask_encoder(tiny: Tracker) -> None:
    clip = costs.noise_clip(1, TINY.template, TINY.search, CPU)
    cost = costs.measure_frame(tiny, clip, index=20, entries=2, calls=2, warm_up=0)
    assert cost.writes and cost.entries == 2
    assert cost.operations[costs.WRITING] == mask_encoder(TINY)
    assert set(cost.seconds) == {"backbone", costs.FUSION, costs.READING, "box", costs.WRITING}
    assert cost.total is not None and cost.total.count == 2
    assert 0 < cost.total.low <= cost.total.median <= cost.total.high
    assert 0 < sum(cost.seconds.values())


def test_attention_of_a_vit_b_block_is_counted_whole() -> None:
    """24 N C^2 + 4 N^2 C: four linear layers, and two products of attention, which runs fused."""
    count, width = 320, 768
    tokens = torch.zeros(1, count, width)
    block = OneStreamBlock(width, 12).eval().requires_grad_(False)
    with torch.inference_mode():
        found = costs.count_operations(lambda: block(tokens))
    assert found == 24 * count * width**2 + 4 * count**2 * width


def test_kernels_that_torch_does_not_count_get_a_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    assert kernel not in costs.missing_kernels()
    monkeypatch.delitem(flop_registry, kernel)
    assert kernel in costs.missing_kernels()
    query, key, value = torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 7, 8), torch.zeros(2, 3, 7, 8)
    found = costs.count_operations(lambda: F.scaled_dot_product_attention(query, key, value))
    assert found == 2 * 3 * (2 * 5 * 7 * 8 + 2 * 5 * 7 * 8)


@pytest.mark.parametrize(
    ("interval", "wanted"), [(20, (11, 20)), (5, (11, 15)), (11, (12, 11)), (1, (None, 11))]
)
def test_frames_that_are_read_and_written(
    interval: int, wanted: tuple[int | None, int], tiny: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.history_settings, "update_interval", interval)
    assert costs.frame_indices(tiny) == wanted


def test_without_a_history_every_frame_is_the_same() -> None:
    cfg = load_config(find_config("ostrack", "ostrack_tiny"), script="ostrack")
    net = build_tracker(cfg, "ostrack").eval().requires_grad_(False)
    assert costs.frame_indices(net) == (11, None)
    with torch.inference_mode():
        cost = costs.measure_frame(net, costs.noise_clip(1, 64, 128, CPU), index=11)
    assert set(cost.operations) == {"backbone", "box", costs.REST} and cost.entries == 0
    assert cost.executed == sum(cost.operations.values())


def test_the_meter_leaves_the_tracker_as_it_was(tiny: Tracker) -> None:
    memory = tiny.new_memory()
    owners = [owner for _, owner, _ in costs.part_functions(tiny, memory)]
    names = [set(vars(owner)) for owner in owners]
    clip = costs.noise_clip(1, 64, 128, CPU)
    readings = iter(range(100))
    with torch.inference_mode(), pytest.raises(ZeroDivisionError):
        with costs.metered(tiny, memory, lambda: next(readings)) as sums:
            tiny.track(clip, 5, memory)
            _ = 1 / 0
    # the meter advances by one from the beginning of a function to its end; frame 5 is written, too
    assert sums == {"backbone": 1, costs.FUSION: 3, costs.WRITING: 2, costs.READING: 1, "box": 1}
    watched = {name for _, _, name in costs.part_functions(tiny, memory)}
    assert all(set(vars(owner)) - before <= {"_tokens"} for owner, before in zip(owners, names, strict=True))
    assert not any(watched & set(vars(owner)) for owner in owners)


def test_spread() -> None:
    assert costs.Spread.of([float(second) for second in range(1, 12)]) == costs.Spread(6.0, 2.0, 10.0, 11)


def test_times_leave_the_warm_up_out() -> None:
    pauses = iter([0.05, 0.0, 0.0])
    seconds = costs.time_calls(lambda: time.sleep(next(pauses)), CPU, calls=2, warm_up=1)
    assert len(seconds) == 2 and max(seconds) < 0.04


def test_peak_memory_is_at_least_what_is_used_now() -> None:
    found = costs.peak_memory(CPU)
    assert set(found) == {"process"}
    status = Path("/proc/self/statm")
    if not status.is_file():
        pytest.skip("this system doesn't tell what a process uses")
    assert found["process"] >= 0.9 * int(status.read_text().split()[1]) * resource.getpagesize()
