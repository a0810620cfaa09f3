"""Gradients watched in training: what is told, what is warned of, and that nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_models import Small
from torch import Tensor

from mtltrack.core.types import Clip
from mtltrack.training.audit.clips import ClipShape, made_up_clip
from mtltrack.training.audit.model_stages import model_stages
from mtltrack.training.audit.watch import PATIENCE, last_shared
from mtltrack.training.monitors import Monitor, Monitors
from mtltrack.training.trainer import Trainer

EVERY = ("cls", "seg", "plate", "ocr", "alert")


class Listener(Monitor):
    def __init__(self) -> None:
        self.seen: dict[int, dict[str, float]] = {}
        self.figures: list[tuple[str, int]] = []
        self.texts: list[str] = []

    def gradients(self, values: Mapping[str, float], global_step: int) -> None:
        self.seen[global_step] = dict(values)

    def figure(self, name: str, figure: Any, global_step: int) -> None:
        self.figures.append((name, global_step))

    def message(self, text: str) -> None:
        self.texts.append(text)


class Batches(list):
    def __init__(self, clips: list[Clip]) -> None:
        super().__init__(clips)
        self.sampler = self

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        pass


def train(small: Small, steps: int, interval: int, full_interval: int) -> Listener:
    """Train the last stage for some steps."""
    shape = ClipShape(2, 2, 32, 64, 64)
    clips = [made_up_clip(small.tracker.heads(), shape, seed) for seed in range(steps)]
    listener = Listener()
    settings = replace(
        small.trainer.settings, audit_interval=interval, audit_full_interval=full_interval, grad_clip_norm=0.0
    )
    torch.manual_seed(1)
    Trainer(
        small.tracker,
        small.trainer.stages[-1:],
        settings,
        Batches(clips),
        accelerator=small.trainer.accelerator,
        monitors=Monitors([listener]),
    ).run()
    return listener


@pytest.mark.parametrize("tasks", [("cls",), EVERY], ids=["cls", "all heads"])
def test_weights_are_the_same_bit_for_bit_with_and_without(tasks: tuple[str, ...]) -> None:
    watched, alone = Small("hiptrack", tasks), Small("hiptrack", tasks)
    listener = train(watched, 3, interval=1, full_interval=2)
    silent = train(alone, 3, interval=0, full_interval=0)
    assert len(listener.seen) == 3 and not silent.seen and not silent.figures
    for (name, one), other in zip(
        watched.tracker.state_dict().items(), alone.tracker.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_looks_come_at_their_steps_and_tell_norms_and_conflicts() -> None:
    listener = train(Small(), 4, interval=2, full_interval=4)
    assert sorted(listener.seen) == [2, 4]
    assert listener.figures[:1] == [("grad/matrix", 4)]
    some, full = listener.seen[2], listener.seen[4]
    shared = "backbone.blocks.1"
    assert {f"grad/box/{shared}", f"grad/cls/{shared}", "conflict/box_cls"} <= set(some)
    assert "grad/box/backbone.patch_embed" not in some and "grad/box/backbone.patch_embed" in full
    assert "grad/cls/cls.hidden" in full and "grad/cls/box.ctr" not in full
    assert all(value > 0 for name, value in full.items() if name.startswith("grad/"))
    assert -1 <= some["conflict/box_cls"] <= 1
    assert not any("warning" in text for text in listener.texts)


def test_the_told_norms_are_those_of_the_tasks_own_losses() -> None:
    small = Small()
    listener = train(small, 1, interval=1, full_interval=0)
    fresh = Small()
    current = fresh.trainer.enter(fresh.trainer.stages[-1])
    torch.manual_seed(1)
    clip = made_up_clip(fresh.tracker.heads(), ClipShape(2, 2, 32, 64, 64), 0)
    settings = fresh.trainer.settings
    outputs = current.model(clip.normalised(list(settings.mean), list(settings.std)))
    terms = fresh.tracker.heads()["cls"].loss_terms(outputs["cls"], clip.labels["cls"])["cls"]
    terms.mean(0).sum().backward()
    gradients = [p.grad for p in fresh.tracker.backbone.blocks[1].parameters()]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert listener.seen[1]["grad/cls/backbone.blocks.1"] == pytest.approx(float(norm), rel=1e-4)


def test_every_pair_of_many_tasks_meets_and_every_head_has_its_turn() -> None:
    listener = train(Small("hiptrack", EVERY), 6, interval=1, full_interval=0)
    names = {name for values in listener.seen.values() for name in values}
    tasks = ("box", *EVERY)
    pairs = {frozenset(name.split("/")[1].split("_")) for name in names if name.startswith("conflict/")}
    assert len(pairs) == len(tasks) * (len(tasks) - 1) // 2
    for task in tasks:
        assert any(name.startswith(f"grad/{task}/{task}") for name in names), task
    assert all(sum(n.endswith("searchRegionFusion") for n in v) == 4 for v in listener.seen.values())


def test_a_zero_gradient_is_told_once_after_some_looks() -> None:
    small = Small()
    head: Any = small.tracker.get_submodule("cls_head")
    head.classifier.register_forward_hook(lambda module, args, output: output.clamp(50, 60))
    listener = train(small, 2 * PATIENCE, interval=1, full_interval=0)
    warnings = [text for text in listener.texts if text.startswith("warning")]
    (shared,) = [text for text in warnings if "backbone.blocks.1" in text]
    assert "the gradient of task cls on backbone.blocks.1, where one is due, was zero at 3 looks" in shared
    assert "the last at step 3" in shared and "tools/audit_gradients.py says why" in shared


def test_a_gradient_that_is_not_finite_is_told_at_once() -> None:
    small = Small()
    head: Any = small.tracker.get_submodule("cls_head")
    steps: list[int] = []

    def spoil(module: Any, args: Any, output: Tensor) -> Tensor:
        steps.extend([1] if torch.is_grad_enabled() else [])
        if len(steps) < 2:
            return output
        return output + (output - output).square().sum(-1, keepdim=True).sqrt()

    head.classifier.register_forward_hook(spoil)
    listener = train(small, 4, interval=1, full_interval=0)
    warnings = [text for text in listener.texts if text.startswith("warning")]
    told = [text for text in warnings if "task cls on backbone.blocks.1" in text]
    assert len(told) == 1 and "is not finite at step 2" in told[0]


def test_what_carries_no_gradient_by_design_is_not_warned_of() -> None:
    tasks = {"alert": {"TYPE": "AlertHead", "DETACH": ["box"]}}
    listener = train(Small(tasks=tasks), 2 * PATIENCE, interval=1, full_interval=0)
    assert not any("warning" in text for text in listener.texts)


def test_the_last_shared_stage_holds_a_matrix_and_stands_before_all_heads() -> None:
    tracker = Small("hiptrack").tracker
    found = last_shared(tracker, model_stages(tracker))
    assert found is not None and found.name == "history.searchRegionFusion"
    tracker = Small("ostrack").tracker
    found = last_shared(tracker, model_stages(tracker))
    assert found is not None and found.name == "backbone.blocks.1"  # behind it stands a norm
    assert last_shared(tracker, [item for item in model_stages(tracker) if item.part == "cls"]) is None


def test_rows_of_a_clip_keep_their_sources() -> None:
    clip = made_up_clip(Small().tracker.heads(), ClipShape(3, 2, 32, 64), 0)
    picked = clip.rows([2, 0])
    assert picked.sources == [clip.sources[2], clip.sources[0]]
    assert torch.equal(picked.search, clip.search[[2, 0]])
    assert torch.equal(picked.labels["box"]["cxcywh"], clip.labels["box"]["cxcywh"][[2, 0]])
