"""The plan of stages, freezing by module, optimizer groups and their proof, schedules, the table."""

from __future__ import annotations

import copy

import pytest
import torch
from standins import make_clip, make_tracker
from torch import nn

from mtltrack.core.errors import ConfigError, TrainingError
from mtltrack.training.monitors import plain_table
from mtltrack.training.optimizers import (
    build_optimizer,
    build_scheduler,
    check_groups,
    parameter_groups,
    stage_table,
)
from mtltrack.training.stages import (
    Schedule,
    Stage,
    enter_stage,
    freeze,
    freeze_batch_norm,
    plan_stages,
    unfreeze,
)

WHOLE = ["backbone", "history", "box"]
PLAIN = {"parts": WHOLE, "tasks": ["cls"], "epochs": 100, "lr": 1e-4, "freeze_backbone": True}


def test_one_stage_freezes_the_backbone_of_hiptrack_and_trains_ostrack_jointly():
    (hiptrack,) = plan_stages(**PLAIN)
    (ostrack,) = plan_stages(
        **{**PLAIN, "freeze_backbone": False, "parts": ["backbone", "box"]}, backbone_multiplier=0.1
    )
    assert hiptrack.trains == {"history", "box", "cls"} and hiptrack.losses == {"box", "cls"}
    assert ostrack.trains == {"backbone", "box", "cls"} and ostrack.lr_multipliers["backbone"] == 0.1
    assert (hiptrack.epochs, hiptrack.lr) == (100, 1e-4)


def test_two_stages_train_the_heads_then_everything():
    heads, joint = plan_stages(**PLAIN, two_stage=True, backbone_multiplier=0.1)
    assert (heads.name, heads.epochs, heads.lr, heads.trains) == ("heads", 30, 1e-3, {"cls"})
    assert heads.losses == {"cls"}
    assert (joint.name, joint.epochs, joint.lr) == ("joint", 20, 1e-5)
    assert joint.trains == {"backbone", "history", "box", "cls"} and joint.losses == {"box", "cls"}


def test_a_model_from_nothing_first_trains_the_box():
    stages = plan_stages(**PLAIN, two_stage=True, box_epochs=7, box_lr=5e-4)
    assert [stage.name for stage in stages] == ["box", "heads", "joint"]
    assert stages[0].trains == set(WHOLE) and stages[0].losses == {"box"} and stages[0].lr == 5e-4
    assert plan_stages(**PLAIN, two_stage=True, box_epochs=7)[0].lr == 1e-4


def test_stage_1_with_a_trained_backbone_keeps_the_box_loss():
    heads, _ = plan_stages(**PLAIN, two_stage=True, freeze_backbone_stage1=False)
    assert heads.trains == {"cls", "backbone"} and heads.losses == {"box", "cls"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"two_stage": True, "tasks": []}, "TASKS names none"),
        ({"epochs": 0}, "TRAIN.EPOCH above 0"),
        ({"two_stage": True, "stage1_epochs": 0, "stage2_epochs": 0}, "STAGE1_EPOCHS"),
        (
            {"two_stage": True, "box_epochs": 2, "stage1_epochs": 4, "learns_until": {"cls": 5}},
            "'heads', epochs 3 to 6 .* nothing left to train .* set TRAIN.FREEZE_CLS_EPOCH to 7 or more",
        ),
    ],
)
def test_a_plan_without_content_is_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        plan_stages(**{**PLAIN, **options})
    with pytest.raises(ConfigError, match="step, Mstep"):
        Schedule(kind="cosine")


def test_a_frozen_module_stays_in_eval_mode_and_comes_back():
    tracker = make_tracker()
    freeze(tracker.backbone)
    tracker.train()
    assert tracker.box_head.training and not any(module.training for module in tracker.backbone.modules())
    clip = make_clip().normalised([0, 0, 0], [1, 1, 1])
    before = tracker.backbone.norm.running_mean.clone()
    first, second = tracker.backbone(clip.search), tracker.backbone(clip.search)
    assert torch.equal(first, second) and torch.equal(before, tracker.backbone.norm.running_mean)
    twin = copy.deepcopy(tracker)
    unfreeze(tracker.backbone)
    tracker.train()
    twin.train()
    assert all(module.training for module in tracker.modules())
    assert not twin.backbone.norm.training


def test_frozen_batch_norm_keeps_its_statistics_while_its_affine_trains():
    tracker = make_tracker()
    freeze_batch_norm(tracker)
    tracker.train()
    before = tracker.backbone.norm.running_mean.clone()
    tracker.backbone(make_clip().normalised([0, 0, 0], [1, 1, 1]).search).sum().backward()
    assert torch.equal(before, tracker.backbone.norm.running_mean)
    assert tracker.backbone.norm.weight.grad is not None and tracker.backbone.drop.training


def stage(trains: set[str], **options) -> Stage:
    return Stage("joint", 4, 1e-3, frozenset(trains), frozenset({"box", "cls"}), {"backbone": 0.1}, **options)


def test_entering_a_stage_freezes_what_it_does_not_train_and_never_trains_unread_parameters():
    tracker = make_tracker()
    enter_stage(tracker, stage({"cls"}))
    assert {name for name, p in tracker.named_parameters() if p.requires_grad} == {
        "cls_head.layer.weight",
        "cls_head.layer.bias",
    }
    assert not tracker.backbone.training and tracker.cls_head.training
    enter_stage(tracker, stage({"backbone", "box", "cls"}))
    assert [name for name, p in tracker.named_parameters() if not p.requires_grad] == ["backbone.cls_token"]
    with pytest.raises(TrainingError, match="trains plate, but the tracker has backbone, box, cls"):
        enter_stage(tracker, stage({"plate"}))


def test_each_part_is_a_group_with_its_own_rate():
    tracker = make_tracker()
    enter_stage(tracker, stage({"backbone", "box", "cls"}))
    optimizer = build_optimizer(tracker, stage({"backbone", "box", "cls"}), weight_decay=0.05)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"backbone": 1e-4, "box": 1e-3, "cls": 1e-3})
    assert all(group["weight_decay"] == 0.05 for group in optimizer.param_groups)


def test_a_trainable_parameter_in_no_group_or_in_two_is_named():
    tracker = make_tracker()
    enter_stage(tracker, stage({"backbone", "box", "cls"}))
    groups = parameter_groups(tracker, stage({"backbone", "box", "cls"}))
    with pytest.raises(
        TrainingError, match=r"2 trainable parameter\(s\) in no optimizer group: cls_head.layer.weight"
    ):
        check_groups(tracker, groups[:2])
    with pytest.raises(
        TrainingError, match=r"in two optimizer groups: box_head.layer.weight \(box and again\)"
    ):
        check_groups(tracker, [*groups, {"name": "again", "params": [tracker.box_head.layer.weight]}])
    with pytest.raises(TrainingError, match="group stranger don't belong to the model"):
        check_groups(tracker, [*groups, {"name": "stranger", "params": [nn.Parameter(torch.ones(1))]}])
    tracker.extra = nn.Parameter(torch.ones(1))  # a part that nobody declared
    with pytest.raises(TrainingError, match="in no optimizer group: extra"):
        build_optimizer(tracker, stage({"backbone", "box", "cls"}), weight_decay=0)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), [1, 1, 1, 1]),
        (Schedule(drop_epoch=2, decay_rate=0.5), [1, 1, 0.5, 0.5]),
        (Schedule(drop_epoch=80), [1, 1, 1, 1]),
        (Schedule(kind="Mstep", milestones=[1, 3], gamma=0.1), [1, 0.1, 0.1, 0.01]),
    ],
)
def test_rates_fall_by_epochs_of_the_stage(schedule, expected):
    tracker, planned = make_tracker(), stage({"box"}, schedule=schedule)
    enter_stage(tracker, planned)
    optimizer = build_optimizer(tracker, planned, weight_decay=0)
    scheduler = build_scheduler(optimizer, planned)
    rates = []
    for _ in range(planned.epochs):
        rates.append(optimizer.param_groups[0]["lr"] / planned.lr)
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(expected)


def test_a_part_whose_time_of_learning_is_over_is_left_out():
    planned = stage({"backbone", "box", "cls"}, learns_until={"cls": 2})
    assert planned.at_epoch(2).trains == {"backbone", "box", "cls"}
    assert planned.at_epoch(3).trains == {"backbone", "box"} and planned.at_epoch(3).losses == {"box"}


def test_the_table_tells_parameters_rates_and_groups():
    tracker = make_tracker()
    planned = stage({"backbone", "cls"})
    enter_stage(tracker, planned)
    rows = stage_table(tracker, build_optimizer(tracker, planned, weight_decay=0).param_groups)
    told = {row.module: (row.parameters, row.trainable, row.state, row.lr, row.group) for row in rows}
    # backbone: token 2 (never trained), layer 3 * 6 + 6, norm 6 + 6; box 6 * 4 + 4; cls 6 * 2 + 2
    assert told["backbone"] == (38, 36, "trainable", pytest.approx(1e-4), "backbone")
    assert told["box"] == (28, 0, "frozen", None, "-")
    assert told["cls"] == (14, 14, "trainable", pytest.approx(1e-3), "cls")
    text = plain_table(planned, rows)
    assert "stage 'joint': 4 epoch(s), losses of box, cls" in text and "frozen" in text
