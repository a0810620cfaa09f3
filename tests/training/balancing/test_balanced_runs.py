"""Whole runs with a balancing rule: stages, resuming, what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from standins import (
    EpochLoader,
    Interruption,
    changed,
    make_clip,
    make_tracker,
    state_of,
    stop_after_epoch,
)

from mtltrack.core.errors import ConfigError, TrainingError
from mtltrack.training.audit.run import audit_trainer
from mtltrack.training.checkpoint import Description, load_resume
from mtltrack.training.files import CheckpointFolder
from mtltrack.training.monitors import Monitor, Monitors, RunInfo, TensorBoardMonitor
from mtltrack.training.settings import TrainSettings
from mtltrack.training.stages import plan_stages
from mtltrack.training.trainer import Trainer

RULES = ["fixed", "uncertainty", "dwa", "famo", "pcgrad", "cagrad", "upgrad"]
BALANCED = RULES[1:]


class Notes(Monitor):
    def __init__(self) -> None:
        super().__init__(RunInfo(Path(), "script", "config"))
        self.reports, self.messages = [], []

    def progress(self, progressed):
        self.reports.append(progressed)

    def message(self, text):
        self.messages.append(text)


def plan(**options):
    arguments = {
        "parts": ["backbone", "box"],
        "tasks": ["cls"],
        "epochs": 4,
        "lr": 1e-2,
        "freeze_backbone": False,
        **options,
    }
    return plan_stages(**arguments)


def settings(name="fixed", **options) -> TrainSettings:
    if name in ("pcgrad", "cagrad", "upgrad"):
        pytest.importorskip("torchjd")
    weighting = {"TYPE": name, **options.pop("arguments", {})}
    return TrainSettings(lambdas={"cls": 0.5}, print_interval=2, seed=7, weighting=weighting, **options)


def trainer(tracker, stages, given, folder=None, notes=None, loader=None) -> Trainer:
    return Trainer(
        tracker,
        stages,
        given,
        loader or EpochLoader(),
        accelerator=Accelerator(cpu=True),
        checkpoints=None if folder is None else CheckpointFolder(folder, "Tiny"),
        about=Description("Tiny", {"TRAIN": {}}),
        monitors=Monitors([] if notes is None else [notes]),
    )


def interrupted(tracker, stages, given, folder, epochs, loader=None):
    torch.manual_seed(3)
    run = trainer(tracker, stages, given, folder, loader=loader)
    stop_after_epoch(run, epochs)
    with pytest.raises(Interruption):
        run.run()
    return load_resume(CheckpointFolder(folder, "Tiny").resume_file(epochs))


def straight(stages, given):
    tracker = make_tracker()
    torch.manual_seed(3)
    run = trainer(tracker, stages, given)
    run.run()
    return tracker


@pytest.mark.parametrize("name", BALANCED)
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(tmp_path, name):
    given = settings(name, task_clip_norms={"cls": 0.05})
    loader = EpochLoader(
        batches=2, cls_valid=torch.tensor([[1, 0], [0, 0], [1, 1], [0, 1]], dtype=torch.bool)
    )
    whole = make_tracker()
    torch.manual_seed(3)
    trainer(whole, plan(), given, loader=loader).run()
    # after three epochs, so that the averages of DWA are over two
    saved = interrupted(make_tracker(), plan(), given, tmp_path, 3, loader)
    torch.rand(17)
    tracker = make_tracker(seed=5)
    resumed = trainer(tracker, plan(), given, loader=loader)
    resumed.resume(*saved)
    resumed.run()
    assert not changed(whole.state_dict(), tracker.state_dict())


def test_every_rule_changes_the_run():
    stages = plan(epochs=3)
    fixed = straight(stages, settings()).state_dict()
    for name in BALANCED:
        assert changed(fixed, straight(stages, settings(name)).state_dict()), name


def test_the_state_that_is_saved_counts():
    """Were it forgotten, a resumed run would go on otherwise."""
    folder_state = {}
    for name in ("uncertainty", "dwa", "famo"):
        run = trainer(make_tracker(), plan(epochs=2), settings(name))
        seen = []
        run.saver.after_epoch = lambda current, *_, seen=seen: seen.append(current.rule)
        run.run()
        folder_state[name] = seen[-1].state_dict()
    assert folder_state["uncertainty"]["log_variances"]["box"].item() != 0
    assert len(folder_state["dwa"]["means"]["cls"]) == 2 and not folder_state["dwa"]["sums"]
    assert folder_state["famo"]["logits"]["box"].item() != 0


def two_stages(**options):
    return plan(two_stage=True, stage1_epochs=2, stage2_epochs=2, stage1_lr=1e-2, stage2_lr=1e-2, **options)


@pytest.mark.parametrize("name", ["uncertainty", "pcgrad"])
def test_a_stage_with_one_loss_is_that_of_fixed_weights_and_the_next_starts_afresh(name):
    fixed = straight(two_stages()[:1], settings())
    found = straight(two_stages()[:1], settings(name))
    assert not changed(fixed.state_dict(), found.state_dict()), "stage 1 learns cls alone"
    run = trainer(make_tracker(), two_stages(box_epochs=1), settings(name))
    rules = []
    run.saver.after_epoch = lambda current, *_: rules.append(current.rule)
    run.run()
    assert [type(rule).__name__ for rule in rules[:3]] == ["Fixed"] * 3  # box, heads, heads
    assert rules[3] is rules[4] and rules[3].tasks == ["box", "cls"]


@pytest.mark.parametrize("name", ["uncertainty", "famo"])
def test_a_stage_can_be_resumed_at_its_beginning(tmp_path, name):
    whole = straight(two_stages(), settings(name))
    saved = interrupted(make_tracker(), two_stages(), settings(name), tmp_path, 2)
    tracker = make_tracker(seed=5)
    resumed = trainer(tracker, two_stages(), settings(name))
    resumed.resume(*saved)
    resumed.run()
    assert not changed(whole.state_dict(), tracker.state_dict())


def test_stages_with_the_backbone_in_both_balance_both():
    run = trainer(make_tracker(), two_stages(freeze_backbone_stage1=False), settings("dwa"))
    rules = []
    run.saver.after_epoch = lambda current, *_: rules.append(current.rule)
    run.run()
    assert rules[0] is rules[1] and rules[1] is not rules[2] and rules[2].tasks == ["box", "cls"]


@pytest.mark.parametrize("name", ["dwa", "famo", "upgrad"])
def test_a_head_whose_time_is_over_leaves_the_balance(name):
    tracker = make_tracker()
    stages = plan(epochs=3, learns_until={"cls": 1})
    snapshots, notes = [], Notes()
    run = trainer(tracker, stages, settings(name, task_clip_norms={"cls": 0.05}), notes=notes)
    run.saver.after_epoch = lambda current, *_: snapshots.append(state_of(tracker))
    run.run()
    assert not any(key.startswith("cls") for key in changed(snapshots[0], snapshots[2]))
    assert "backbone.layer.weight" in changed(snapshots[0], snapshots[2])


def test_another_rule_cannot_go_on_where_one_stopped(tmp_path):
    saved = interrupted(make_tracker(), plan(), settings("dwa"), tmp_path, 1)
    other = trainer(make_tracker(), plan(), settings("dwa", arguments={"TEMPERATURE": 3.0}))
    text = r"TRAIN.WEIGHTING in stage 'train': was {'TYPE': 'dwa'}, is .*'TEMPERATURE': 3.0}.*--resume never"
    with pytest.raises(TrainingError, match=text):
        other.resume(*saved)


def test_a_stage_to_come_may_have_another_rule(tmp_path):
    saved = interrupted(make_tracker(), two_stages(), settings("dwa"), tmp_path, 2)
    resumed = trainer(make_tracker(), two_stages(), settings("uncertainty"))
    resumed.resume(*saved)
    assert resumed.run().epoch == 4


def test_the_log_variances_have_a_group_and_a_rate_of_their_own():
    notes = Notes()
    trainer(make_tracker(), plan(epochs=1), settings("uncertainty"), notes=notes).run()
    assert notes.reports[-1].rates["weighting"] == pytest.approx(1e-2)
    given = settings("uncertainty", arguments={"LR": 0.5})
    run = trainer(make_tracker(), plan(epochs=1), given, notes=notes)
    groups = []
    run.saver.after_epoch = lambda current, *_: groups.extend(current.optimizer.param_groups)
    run.run()
    assert groups[-1]["name"] == "weighting" and groups[-1]["weight_decay"] == 0
    assert notes.reports[-1].rates["weighting"] == pytest.approx(0.5)


def test_what_the_rule_does_is_told_and_fixed_weights_tell_nothing(tmp_path):
    notes = Notes()
    given = settings("famo", task_clip_norms={"cls": 1e-3})
    trainer(make_tracker(), plan(epochs=1), given, notes=notes).run()
    weights = notes.reports[0].weights
    assert set(weights) == {"box", "cls", "cls/clip"} and weights["cls/clip"] < 1
    assert weights["box"] + weights["cls"] == pytest.approx(2.0, rel=1e-5)
    assert "weights box " in notes.reports[0].line()
    trainer(make_tracker(), plan(epochs=1), settings(), notes=notes).run()
    assert notes.reports[-1].weights == {} and "weights" not in notes.reports[-1].line()


def test_tensorboard_has_a_curve_a_task(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    info = RunInfo(tmp_path, "script", "config")
    monitor = TensorBoardMonitor(info)
    given = settings("dwa", task_clip_norms={"cls": 1.0})
    trainer(make_tracker(), plan(epochs=1), given, notes=monitor).run()
    monitor.close()
    found = EventAccumulator(str(info.tensorboard_dir))
    found.Reload()
    tags = set(found.Tags()["scalars"])
    assert {"weighting/box", "weighting/cls", "weighting/cls/clip", "train/box"} <= tags


def test_an_unknown_rule_stops_the_run_before_it_begins():
    with pytest.raises(ConfigError, match="'dwq' is not a registered balancing rule"):
        trainer(make_tracker(), plan(), settings("dwq")).run()


@pytest.mark.parametrize("name", ["uncertainty", "upgrad"])
def test_the_audit_holds_a_balanced_run_to_its_lambdas(name):
    given = settings(name, task_clip_norms={"cls": 1e-3})
    run = trainer(make_tracker(), plan(epochs=1), given)
    stage = audit_trainer(run, make_clip()).stages[0]
    assert stage.findings == [] and stage.sum_rule < 1e-5
    assert {weight.task: weight.measured for weight in stage.weights} == pytest.approx(
        {"box": 1.0, "cls": 0.5}
    )
    assert run.settings is given
