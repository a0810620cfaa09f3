"""Stages follow from the tree of modules, and every parameter is in one."""

from __future__ import annotations

import pytest
import torch
from small_models import Small
from torch import nn

from mtltrack.training.audit.model_stages import model_stages

EVERY = ("cls", "seg", "plate", "ocr", "alert")


class Parts:
    """A tracker of given parts."""

    def __init__(self, **parts: nn.Module) -> None:
        self.parts = parts
        self.root = nn.ModuleDict(parts)

    def tracker_parts(self) -> dict[str, nn.Module]:
        return self.parts

    def task_parts(self) -> dict[str, nn.Module]:
        return {}

    def named_parameters(self):
        return self.root.named_parameters()


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_every_parameter_is_in_exactly_one_stage(script: str) -> None:
    tracker = Small(script, EVERY).tracker
    found = [name for stage in model_stages(tracker) for name in stage.parameters]
    assert sorted(found) == sorted(name for name, _ in tracker.named_parameters())


def test_stages_of_the_tracker() -> None:
    names = [stage.name for stage in model_stages(Small("hiptrack").tracker)]
    assert names == [
        "backbone.own",
        "backbone.patch_embed",
        "backbone.blocks.0",
        "backbone.blocks.1",
        "backbone.norm",
        "history.HIP",
        "history.key_proj",
        "history.key_comp",
        "history.searchRegionFusion",
        "box.ctr",
        "box.ctr.out",
        "box.offset",
        "box.offset.out",
        "box.size",
        "box.size.out",
        "cls.hidden",
        "cls.classifier",
    ]


def stages_of(module: nn.Module) -> list[str]:
    return [stage.name for stage in model_stages(Parts(part=module))]


def block() -> nn.Module:
    module = nn.Module()
    module.one, module.two = nn.Linear(2, 2), nn.Linear(2, 2)
    return module


def test_a_wrapper_is_opened_and_a_sequence_of_plain_layers_is_one() -> None:
    inner = nn.Module()
    inner.stem = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    inner.layers = nn.Sequential(block(), block())
    wrapper = nn.Module()
    wrapper.body = inner
    assert stages_of(wrapper) == ["part.stem", "part.layers.0", "part.layers.1"]


def test_lists_are_opened_once() -> None:
    layer = nn.Module()
    layer.norms, layer.mix = nn.ModuleList([nn.LayerNorm(2), nn.LayerNorm(2)]), nn.Linear(2, 2)
    decoder = nn.Module()
    decoder.layers, decoder.norm = nn.ModuleList([layer]), nn.LayerNorm(2)
    head = nn.Module()
    head.decoder, head.answer, head.shift = decoder, nn.Linear(2, 2), nn.Parameter(torch.zeros(1))
    assert stages_of(head) == ["part.own", "part.decoder.layers.0", "part.decoder.norm", "part.answer"]


def test_a_part_of_one_stage_has_its_own_name() -> None:
    head = nn.Module()
    head.shift = nn.Parameter(torch.zeros(3))
    (stage,) = model_stages(Parts(part=head))
    assert (stage.name, stage.inner, stage.entries) == ("part", "", 3)


def test_numbered_siblings_of_one_ending_are_a_branch() -> None:
    head = nn.Module()
    for i in (1, 2, 3):
        head.add_module(f"conv{i}_size", nn.Linear(2, 2))
    head.add_module("conv1_alone", nn.Linear(2, 2))
    stages = model_stages(Parts(part=head))
    assert [stage.name for stage in stages] == ["part.size", "part.size.out", "part.conv1_alone"]
    assert sorted(stages[0].parameters) == [
        "part.conv1_size.bias",
        "part.conv1_size.weight",
        "part.conv2_size.bias",
        "part.conv2_size.weight",
    ]


def test_parameters_outside_of_all_parts_are_not_forgotten() -> None:
    parts = Parts(part=nn.Linear(2, 2))
    parts.root.add_module("stray", nn.Linear(2, 2))
    assert [stage.name for stage in model_stages(parts)] == ["part", "elsewhere"]
