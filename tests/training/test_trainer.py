"""Whole runs: stages, what they leave untouched, resuming, validation, what the monitors are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from standins import (
    EpochLoader,
    Interruption,
    TinyTracker,
    changed,
    make_clip,
    make_tracker,
    state_of,
    stop_after_epoch,
)

from mtltrack.core.errors import ConfigError, DataError, TrainingError
from mtltrack.data.faults import FaultLog
from mtltrack.training import reporting
from mtltrack.training.checkpoint import Description, load_resume
from mtltrack.training.files import CheckpointFolder
from mtltrack.training.monitors import Monitor, Monitors, RunInfo
from mtltrack.training.settings import TrainSettings
from mtltrack.training.stages import Schedule, plan_stages
from mtltrack.training.trainer import Trainer

SETTINGS = TrainSettings(lambdas={"cls": 0.1}, print_interval=2, val_interval=2, seed=7)


class Notes(Monitor):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(RunInfo(Path(), "script", "config"))
        self.messages, self.stages, self.reports, self.means, self.pictures = [], [], [], [], []
        self.rates = []

    def message(self, text):
        self.messages.append(text)

    def stage(self, stage, rows):
        self.stages.append((stage.name, {row.module: row.state for row in rows}))
        self.rates.append({row.module: row.lr for row in rows if row.lr is not None})

    def progress(self, progressed):
        self.reports.append(progressed)

    def scalars(self, group, values, epoch, global_step):
        self.means.append((group, epoch, global_step, dict(values)))

    def images(self, name, images, global_step):
        self.pictures.append((name, images))


def plan(**options):
    tasks = {
        "parts": ["backbone", "box"],
        "tasks": ["cls"],
        "epochs": 2,
        "lr": 1e-2,
        "freeze_backbone": False,
    }
    return plan_stages(
        **{**tasks, "two_stage": True, "stage1_epochs": 2, "stage2_epochs": 2, "stage2_lr": 1e-2, **options}
    )


def trainer(tracker, stages, folder=None, settings=SETTINGS, loader=None, notes=None, **options) -> Trainer:
    checkpoints = None if folder is None else CheckpointFolder(folder, "Tiny")
    return Trainer(
        tracker,
        stages,
        settings,
        loader or EpochLoader(),
        accelerator=Accelerator(cpu=True),
        checkpoints=checkpoints,
        about=Description("Tiny", {"TRAIN": {}}, ("a", "b")),
        monitors=Monitors([notes] if notes else []),
        **options,
    )


def tracked(tracker) -> torch.Tensor:
    tracker.eval()
    with torch.no_grad():
        return tracker(make_clip(seed=99).normalised([0, 0, 0], [1, 1, 1]))["box"].predictions["boxes_cxcywh"]


def test_stage_1_leaves_every_frozen_tensor_and_every_tracking_output_bit_identical():
    tracker = make_tracker()
    before, answer = state_of(tracker), tracked(tracker)
    trainer(tracker, plan(stage2_epochs=0)).run()
    assert changed(before, tracker.state_dict()) == {"cls_head.layer.weight", "cls_head.layer.bias"}
    assert torch.equal(answer, tracked(tracker))


def test_one_step_of_stage_2_moves_every_trainable_tensor():
    tracker = make_tracker()
    before = state_of(tracker)
    trainer(tracker, plan(stage1_epochs=0, stage2_epochs=1), loader=EpochLoader(batches=1)).run()
    trainable = {name for name, parameter in tracker.named_parameters() if name != "backbone.cls_token"}
    assert trainable <= changed(before, tracker.state_dict())
    assert "backbone.cls_token" not in changed(before, tracker.state_dict())


def test_the_box_stage_leaves_the_task_heads_alone():
    tracker = make_tracker()
    before = state_of(tracker)
    trainer(tracker, plan(box_epochs=1, stage1_epochs=0, stage2_epochs=0)).run()
    moved = changed(before, tracker.state_dict())
    assert {"backbone.layer.weight", "box_head.layer.weight"} <= moved
    assert not any(name.startswith("cls_head") for name in moved)


def test_stages_are_announced_and_measured():
    notes, tracker = Notes(), make_tracker()
    position = trainer(tracker, plan(box_epochs=1), notes=notes, keep_rate=lambda epoch: epoch / 10).run()
    assert [name for name, _ in notes.stages] == ["box", "heads", "joint"]
    assert notes.stages[1][1] == {"backbone": "frozen", "box": "frozen", "cls": "trainable"}
    assert (position.epoch, position.step) == (5, 15)
    assert [report.step for report in notes.reports[:2]] == [2, 3]  # every 2 steps, and at the end of 3
    assert set(notes.reports[0].scalars) == {
        "total",
        "box",
        "box/error",
        "box/size",
    }  # cls hasn't begun, and isn't run
    assert {"total", "box", "cls", "box/error", "cls/size"} <= set(notes.reports[-1].scalars)
    assert notes.reports[-1].seconds_left == 0 and notes.reports[-1].global_step == 15
    assert notes.reports[0].rates == pytest.approx({"backbone": 1e-2, "box": 1e-2})
    assert tracker.keep_rates == [0.1] * 3 + [0.2] * 3 + [0.3] * 3 + [0.4] * 3 + [0.5] * 3
    epochs = [mean for mean in notes.means if mean[0] == "epoch"]
    assert [(epoch, step) for _, epoch, step, _ in epochs] == [(1, 3), (2, 6), (3, 9), (4, 12), (5, 15)]


def test_the_total_of_stage_1_leaves_out_the_box_but_still_shows_it():
    notes = Notes()
    trainer(make_tracker(), plan(stage2_epochs=0), notes=notes).run()
    means = notes.means[0][3]
    assert means["box"] > 0 and means["total"] == pytest.approx(0.1 * means["cls"], rel=1e-5)


def test_validation_comes_at_its_interval_and_at_the_end_of_a_stage_with_metrics_and_pictures():
    notes, tracker = Notes(), make_tracker()
    validation = EpochLoader(batches=2)
    stages = plan(two_stage=False, epochs=5)
    trainer(tracker, stages, notes=notes, val_loader=validation).run()
    found = {epoch: values for group, epoch, _, values in notes.means if group == "val"}
    assert sorted(found) == [2, 4, 5]
    # the last validation by hand: mean absolute error of the boxes over its clips, in eval mode
    tracker.eval()
    errors = []
    for clip in validation:
        with torch.no_grad():
            output = tracker(clip.normalised(SETTINGS.mean, SETTINGS.std))["box"]
        errors.append((output.predictions["boxes_cxcywh"] - clip.labels["box"]["cxcywh"]).abs().mean())
    assert found[5]["box/mean_error"] == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)
    pictures = dict(notes.pictures)
    assert pictures["val/boxes"].shape == (4, 3, 8, 8) and pictures["val/boxes"].dtype == torch.uint8
    assert "train/boxes" in pictures


def straight_and_resumed(folder: Path, stages, epochs_first: int, **options):
    """Train once in one go and once in two, the second time from the files; return both trackers."""
    whole = make_tracker()
    torch.manual_seed(3)
    trainer(whole, stages, folder / "whole", **options).run()
    first = make_tracker()
    torch.manual_seed(3)
    interrupted = trainer(first, stages, folder / "parts", **options)

    stop_after_epoch(interrupted, epochs_first)
    with pytest.raises(Interruption):
        interrupted.run()
    torch.manual_seed(1234)
    torch.rand(17)
    second = make_tracker(seed=5)
    resumed = trainer(second, stages, folder / "parts", **options)
    files = CheckpointFolder(folder / "parts", "Tiny")
    resumed.resume(*load_resume(files.resume_file(epochs_first)))
    resumed.run()
    return whole, second


@pytest.mark.parametrize("epochs_first", [1, 2, 3], ids=["in stage 1", "between the stages", "in stage 2"])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(tmp_path, epochs_first):
    stages = plan(schedule=Schedule(drop_epoch=1, decay_rate=0.3))
    whole, resumed = straight_and_resumed(tmp_path, stages, epochs_first)
    assert not changed(whole.state_dict(), resumed.state_dict())


def test_resume_files_load_with_weights_only_and_belong_to_the_run(tmp_path):
    settings = TrainSettings(lambdas={"cls": 0.1}, seed=7)
    trainer(make_tracker(), plan(stage2_epochs=0), tmp_path, settings).run()
    state, weights = load_resume(tmp_path / "Tiny_ep0002.resume.pt")
    other = trainer(
        make_tracker(), plan(stage2_epochs=0), settings=TrainSettings(lambdas={"cls": 0.1}, seed=8)
    )
    with pytest.raises(TrainingError, match=r"another run \(seed: was 7, is 8\).*--resume never"):
        other.resume(state, weights)
    with pytest.raises(TrainingError, match="stages: was"):
        trainer(make_tracker(), plan(two_stage=False), settings=settings).resume(state, weights)
    longer = trainer(make_tracker(), plan(stage1_epochs=3, stage2_epochs=0), settings=settings)
    longer.resume(state, weights)
    assert longer.run().epoch == 3


def test_the_table_of_a_resumed_stage_tells_the_rates_that_it_goes_on_with(tmp_path):
    fallen = Schedule(drop_epoch=1, decay_rate=0.5)
    trainer(make_tracker(), plan(two_stage=False, epochs=2, schedule=fallen), tmp_path).run()
    notes = Notes()
    longer = trainer(make_tracker(), plan(two_stage=False, epochs=3, schedule=fallen), notes=notes)
    longer.resume(*load_resume(tmp_path / "Tiny_ep0002.resume.pt"))
    longer.run()
    assert notes.rates == [pytest.approx({"backbone": 0.0025, "box": 0.0025, "cls": 0.0025})]
    assert notes.reports[-1].rates == notes.rates[0]


def test_a_longer_stage_keeps_a_constant_rate(tmp_path):
    trainer(make_tracker(), plan(two_stage=False, epochs=1), tmp_path).run()
    notes = Notes()
    longer = trainer(make_tracker(), plan(two_stage=False, epochs=5), notes=notes)
    longer.resume(*load_resume(tmp_path / "Tiny_ep0001.resume.pt"))
    longer.run()
    assert notes.reports[-1].epoch == 5 and notes.reports[-1].rates["box"] == pytest.approx(1e-2)


def test_samples_come_again_in_a_stage_with_a_frozen_backbone_only(tmp_path):
    def drawn(folder, resume=None, **options):
        loader, epochs = EpochLoader(batches=1), []
        take = loader.set_epoch
        loader.set_epoch = lambda epoch, start=0: (epochs.append(epoch), take(epoch, start))
        stages = plan(box_epochs=1, stage1_epochs=5, stage2_epochs=2, **options)
        run = trainer(make_tracker(), stages, folder, loader=loader)
        if resume is not None:
            run.resume(*load_resume(resume))
        run.run()
        return epochs

    assert drawn(None) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert drawn(tmp_path, distinct_epochs=2) == [1, 2, 3, 2, 3, 2, 7, 8]
    assert drawn(None, distinct_epochs=9) == [1, 2, 3, 4, 5, 6, 7, 8]
    newest = tmp_path / "Tiny_ep0007.resume.pt"
    assert drawn(None, newest, distinct_epochs=2) == [8]
    with pytest.raises(TrainingError, match=r"TRAIN.DISTINCT_EPOCHS in stage 'heads': was 2, is 3"):
        drawn(None, newest, distinct_epochs=3)
    with pytest.raises(TrainingError, match=r"TRAIN.DISTINCT_EPOCHS in stage 'heads': was 2, is 0"):
        drawn(None, newest)


@pytest.mark.parametrize(
    ("options", "settings", "text"),
    [
        ({"stage1_lr": 0.5}, {}, r"TRAIN.STAGE1_LR in stage 'heads': was 0.001, is 0.5\)"),
        ({}, {"weight_decay": 0.5}, "TRAIN.WEIGHT_DECAY in stage 'heads': was 0.0001, is 0.5"),
        ({"schedule": Schedule(drop_epoch=1)}, {}, "TRAIN.LR_DROP_EPOCH in stage 'heads': was None, is 1"),
        (
            {"schedule": Schedule(kind="Mstep", milestones=[1])},
            {},
            "TYPE in stage 'heads': was step, is Mstep",
        ),
    ],
)
def test_settings_of_an_optimizer_that_goes_on_cannot_change(tmp_path, options, settings, text):
    base = {"lambdas": {"cls": 0.1}, "seed": 7}
    first = trainer(make_tracker(), plan(stage1_epochs=1, stage2_epochs=0), tmp_path, TrainSettings(**base))
    first.run()
    saved = load_resume(tmp_path / "Tiny_ep0001.resume.pt")
    stages = plan(**{"stage1_epochs": 3, "stage2_epochs": 0, **options})
    with pytest.raises(TrainingError, match=text + ".*restore these settings, give --resume never"):
        trainer(make_tracker(), stages, settings=TrainSettings(**base, **settings)).resume(*saved)


def test_the_rate_of_a_stage_to_come_may_change(tmp_path):
    run = trainer(make_tracker(), plan(), tmp_path)

    stop_after_epoch(run, 1)
    with pytest.raises(Interruption):
        run.run()
    notes = Notes()
    resumed = trainer(make_tracker(), plan(stage2_lr=3e-3), notes=notes)
    resumed.resume(*load_resume(tmp_path / "Tiny_ep0001.resume.pt"))
    resumed.run()
    assert notes.rates[-1]["box"] == pytest.approx(3e-3)


def test_save_interval_always_keeps_the_last_epoch_of_a_stage(tmp_path):
    settings = TrainSettings(lambdas={"cls": 0.1}, save_interval=2)
    trainer(make_tracker(), plan(stage1_epochs=3, stage2_epochs=2), tmp_path, settings).run()
    assert sorted(file.name for file in tmp_path.glob("*.pth.tar")) == [
        f"Tiny_ep{epoch:04d}.pth.tar" for epoch in (2, 3, 4, 5)
    ]
    assert torch.load(tmp_path / "Tiny_ep0003.pth.tar", weights_only=True)["stage"] == "heads"


def test_a_head_whose_time_is_over_stops_and_the_rest_goes_on():
    tracker, notes = make_tracker(), Notes()
    stages = plan(two_stage=False, epochs=3, learns_until={"cls": 1})
    snapshots = []
    run = trainer(tracker, stages, notes=notes)
    run.saver.after_epoch = lambda *_: snapshots.append(state_of(tracker))
    run.run()
    assert "from epoch 2 on, cls no longer learns" in notes.messages
    assert not any(name.startswith("cls") for name in changed(snapshots[0], snapshots[2]))
    assert {"backbone.layer.weight", "box_head.layer.weight"} <= changed(snapshots[1], snapshots[2])


def test_accumulation_makes_fewer_steps_and_frozen_batch_norm_keeps_its_statistics():
    tracker = make_tracker()
    before = state_of(tracker)
    settings = TrainSettings(lambdas={"cls": 0.1}, accumulation_steps=2, batch_norm="frozen")
    position = trainer(tracker, plan(two_stage=False), settings=settings).run()
    assert position.step == 4  # 3 batches an epoch: two steps, the second of one batch
    assert torch.equal(before["backbone.norm.running_mean"], tracker.backbone.norm.running_mean)
    assert not torch.equal(before["backbone.norm.weight"], tracker.backbone.norm.weight)


def test_bad_samples_are_reported_and_too_many_stop_the_run():
    class Faulty(EpochLoader):
        def __iter__(self):
            for clip in super().__iter__():
                clip.sources[0]["bad"] = ["img/0003.jpg can't be read"]
                yield clip

    notes = Notes()
    settings = TrainSettings(lambdas={"cls": 0.1}, max_bad_fraction=0.3)
    trainer(
        make_tracker(), plan(two_stage=False, epochs=1), settings=settings, loader=Faulty(), notes=notes
    ).run()
    assert any("3 of 12 samples were bad" in text and "0003.jpg" in text for text in notes.messages)
    with pytest.raises(DataError, match="MAX_BAD_FRACTION"):
        trainer(make_tracker(), plan(), loader=Faulty()).run()


def test_bad_samples_are_counted_over_all_ranks(monkeypatch):
    other = FaultLog()
    other.add([{"bad": ["img/0007.jpg can't be read"]} for _ in range(8)])
    monkeypatch.setattr(reporting, "gather_object", lambda logs: [*logs, other])
    notes, stages = Notes(), plan(two_stage=False, epochs=1)
    with pytest.raises(DataError, match=r"8 of 20 samples were bad \(40.00%\).*\n.*8 x img/0007.jpg"):
        trainer(make_tracker(), stages, notes=notes).run()  # 12 good samples here
    assert any("8 of 20 samples were bad" in text for text in notes.messages)


def test_a_task_without_a_single_label_in_an_epoch_stops_the_run():
    nothing = torch.zeros(4, 2, dtype=torch.bool)
    without = EpochLoader(cls_valid=nothing)
    text = "task cls had no labelled sample in epoch 1; set DATA.TRAIN.CLS_ANN_DIR"
    with pytest.raises(TrainingError, match=text):
        trainer(make_tracker(), plan(), loader=without).run()
    with pytest.raises(TrainingError, match="task cls had no labelled sample in epoch 2"):
        trainer(make_tracker(), plan(box_epochs=1), loader=without).run()  # not in the box's own stage

    class Rare(EpochLoader):
        def __iter__(self):
            for number, clip in enumerate(super().__iter__()):
                clip.labels["cls"]["valid"] = nothing.clone()
                clip.labels["cls"]["valid"][0, 0] = number == 1
                yield clip

    assert trainer(make_tracker(), plan(), loader=Rare()).run().epoch == 4


def test_refused_steps_are_told_and_do_not_spoil_the_means():
    class Spoilt(EpochLoader):
        def __iter__(self):
            for number, clip in enumerate(super().__iter__()):
                if number == 1:
                    clip.labels["cls"]["value"][0] = float("nan")
                yield clip

    notes = Notes()
    trainer(make_tracker(), plan(two_stage=False, epochs=1), loader=Spoilt(), notes=notes).run()
    assert any("epoch 1 step 2: step refused, loss not finite: task cls" in text for text in notes.messages)
    assert all(value == value for _, _, _, values in notes.means for value in values.values())


def test_bfloat16_trains_and_the_model_is_unwrapped_afterwards():
    tracker = make_tracker()
    before = state_of(tracker)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    Trainer(tracker, plan(), SETTINGS, EpochLoader(), accelerator=accelerator).run()
    assert "backbone.layer.weight" in changed(before, tracker.state_dict())
    assert tracked(tracker).dtype == torch.float32
    assert tracker.forward.__func__ is TinyTracker.forward


def test_an_unknown_optimizer_is_refused():
    settings = TrainSettings(lambdas={"cls": 0.1}, optimizer="SGD")
    with pytest.raises(ConfigError, match=r"TRAIN.OPTIMIZER is 'SGD'; choose one of ADAMW"):
        trainer(make_tracker(), plan(), settings=settings).run()
