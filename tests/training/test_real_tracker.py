"""The promises about stages and gradients, on the real models at a small size."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from small_trackers import CONFIG, MEAN, STD, build, clip
from standins import Batches, changed, state_of
from torch import nn

from mtltrack.cli.build import build_tracker
from mtltrack.cli.train_setup import make_stages
from mtltrack.core.config import config_from_dict
from mtltrack.training.optimizers import build_optimizer
from mtltrack.training.settings import TrainSettings
from mtltrack.training.stages import enter_stage
from mtltrack.training.trainer import Trainer
from mtltrack.training.weighting import total_loss


def train(tracker, stage, batches: int, **options) -> None:
    loader = Batches(clip(seed) for seed in range(batches))
    settings = TrainSettings(lambdas={"cls": 0.1}, **options)
    Trainer(tracker, [stage], settings, loader, accelerator=Accelerator(cpu=True)).run()


def answers(tracker) -> list[torch.Tensor]:
    """Everything that tracking answers: for a clip, and online, where frames 5 and 10 are remembered."""
    tracker.eval()
    with torch.no_grad():
        output = tracker(clip(7).normalised(MEAN, STD))["box"].predictions
        memory, found = tracker.new_memory(), [output[name] for name in sorted(output)]
        for index in (1, 5, 10, 11):
            frame = clip(100 + index, batch=1, frames=1).normalised(MEAN, STD)
            found.append(tracker.track(frame, index, memory)["box"].predictions["boxes_cxcywh"])
    return found


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_stage_1_leaves_frozen_tensors_and_tracking_bit_identical(script):
    tracker, stages = build(script)
    before, answered = state_of(tracker), answers(tracker)
    train(tracker, stages["heads"], batches=3)
    moved = changed(before, tracker.state_dict())
    assert moved == {name for name in before if name.startswith("cls_head.")}
    for one, other in zip(answered, answers(tracker), strict=True):
        assert torch.equal(one, other)


def without_gradient(tracker) -> set[str]:
    """Biases whose gradient is zero but for rounding: a batch norm takes a shift out again, and so does the
    memory's readout, which compares keys.
    """
    names = {
        name for name, _ in tracker.named_parameters() if name.startswith("key_proj.") and "bias" in name
    }
    for name, module in tracker.named_modules():
        if isinstance(module, nn.Sequential):
            layers = dict(module.named_children())
            pairs = pairwise(layers.items())
            names |= {
                f"{name}.{first}.bias"
                for (first, conv), (_, norm) in pairs
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            }
    return names


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_one_step_of_stage_2_moves_every_trainable_tensor(script):
    tracker, stages = build(script)
    before = state_of(tracker)
    train(tracker, stages["joint"], batches=1)
    moved = changed(before, tracker.state_dict())
    trainable = {name for name, _ in tracker.named_parameters()} - tracker.unread_parameters()
    expected = trainable - without_gradient(tracker)
    assert expected <= moved, sorted(expected - moved)
    assert len(expected) > 0.8 * len(trainable)
    assert not tracker.unread_parameters() & moved


def test_frozen_batch_norm_keeps_its_statistics_while_the_rest_trains():
    tracker, stages = build("hiptrack")
    before = state_of(tracker)
    train(tracker, stages["joint"], batches=1, batch_norm="frozen")
    moved = changed(before, tracker.state_dict())
    assert any(name.startswith("backbone.blocks") for name in moved) and any(
        "conv1_ctr.1.weight" in name for name in moved
    )
    assert not any("running_" in name or "num_batches" in name for name in moved)


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_the_gradient_of_the_backbone_is_that_of_the_box_plus_lambda_times_that_of_cls(script):
    tracker, stages = build(script)
    enter_stage(tracker, stages["joint"])
    parameters = {name: p for name, p in tracker.backbone.named_parameters() if p.requires_grad}

    def gradient(lambdas, excluded=()):
        torch.manual_seed(1)  # drop path and dropout draw the same
        batch = clip()
        outputs = tracker(batch.normalised(MEAN, STD))
        total = total_loss(tracker.heads(), outputs, batch, lambdas, excluded=excluded).total
        return torch.autograd.grad(total, list(parameters.values()))

    both = gradient({"cls": 0.1})
    box, cls = gradient({"cls": 0.1}, excluded={"cls"}), gradient({"cls": 1.0}, excluded={"box"})
    for name, one, first, second in zip(parameters, both, box, cls, strict=True):
        torch.testing.assert_close(
            one, first + 0.1 * second, rtol=1e-4, atol=1e-5 * float(one.abs().max()), msg=name
        )
    for name, *found in zip(parameters, box, cls, strict=True):
        if not name.endswith("attn.qkv.bias"):  # the key's third of it has no gradient but rounding's
            assert all(value.abs().max() > 0 for value in found), name


def test_the_groups_hold_every_parameter_once_and_the_backbone_slower():
    tracker, stages = build("hiptrack")
    stage = stages["joint"]
    enter_stage(tracker, stage)
    groups = build_optimizer(tracker, stage, weight_decay=1e-4).param_groups
    assert {group["name"]: group["lr"] for group in groups} == pytest.approx(
        {"backbone": 1e-6, "history": 1e-5, "box": 1e-5, "cls": 1e-5}
    )
    held = sum(parameter.numel() for group in groups for parameter in group["params"])
    unread = sum(p.numel() for name, p in tracker.named_parameters() if name in tracker.unread_parameters())
    assert held + unread == sum(parameter.numel() for parameter in tracker.parameters())


def test_the_single_stage_of_hiptrack_freezes_its_backbone_in_eval_mode_and_that_of_ostrack_does_not():
    for script, frozen in (("hiptrack", True), ("ostrack", False)):
        values = {**CONFIG, "TRAIN": {"EPOCH": 2, "DROP_PATH_RATE": 0.2}, "MODEL": dict(CONFIG["MODEL"])}
        if script == "ostrack":
            del values["MODEL"]["HISTORY"], values["MODEL"]["NEW_HIP"]
        cfg = config_from_dict(values, script=script)
        tracker = build_tracker(cfg, script)
        (stage,) = make_stages(tracker, cfg, script)
        enter_stage(tracker, stage)
        assert ("backbone" not in stage.trains) is frozen
        assert all(module.training is not frozen for module in tracker.backbone.modules())


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
def test_nan_labels_without_validity_reach_no_gradient(script):
    def gradients(filler):
        tracker, stages = build(script)
        enter_stage(tracker, stages["joint"])
        batch = clip()
        batch.labels["box"]["valid"] = batch.labels["box"]["valid"].clone()
        batch.labels["box"]["valid"][0, 1] = batch.labels["box"]["valid"][1, 0] = False
        batch.labels["box"]["cxcywh"][~batch.labels["box"]["valid"]] = filler
        torch.manual_seed(1)
        outputs = tracker(batch.normalised(MEAN, STD))
        total_loss(tracker.heads(), outputs, batch, {"cls": 0.1}).total.backward()
        return {name: p.grad for name, p in tracker.named_parameters() if p.requires_grad}

    usual = gradients(0.4)
    for name, gradient in gradients(float("nan")).items():
        assert torch.equal(gradient, usual[name]), name


@pytest.mark.parametrize("script", ["hiptrack", "ostrack"])
@pytest.mark.parametrize("frames", [1, 2])
def test_every_parameter_that_trains_has_a_gradient_after_one_clip(script, frames):
    """What distributed training relies on: it waits for the gradient of every one of them."""
    tracker, stages = build(script)
    for stage in stages.values():
        enter_stage(tracker, stage)
        tracker.zero_grad()
        batch = clip(frames=frames)
        outputs = tracker(batch.normalised(MEAN, STD))
        excluded = set(tracker.heads()) - stage.losses
        total_loss(tracker.heads(), outputs, batch, {"cls": 0.1}, excluded=excluded).total.backward()
        without = [name for name, p in tracker.named_parameters() if p.requires_grad and p.grad is None]
        assert without == [], stage.name
