"""A run that dies after any step, or in a validation, goes on as if nothing had been."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from standins import EpochLoader, Interruption, changed, make_tracker

from mtltrack.core.errors import TrainingError
from mtltrack.training import resuming
from mtltrack.training.checkpoint import Description, load_newest, load_resume
from mtltrack.training.files import CheckpointFolder, find_resume
from mtltrack.training.monitors import Monitor, Monitors, RunInfo
from mtltrack.training.resuming import need_same_state
from mtltrack.training.saving import BestScore
from mtltrack.training.settings import TrainSettings
from mtltrack.training.signals import StoppedError
from mtltrack.training.stages import Schedule, plan_stages
from mtltrack.training.trainer import Trainer


def difference(one, other, place=""):
    """Return where two contents differ first, "" when they are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return "" if one.dtype == other.dtype and torch.equal(one, other) else place
    if isinstance(one, dict):
        one, other = list(one.items()), list(other.items())
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return place
        found = (difference(a, b, f"{place}/{i}") for i, (a, b) in enumerate(zip(one, other, strict=True)))
        return next((text for text in found if text), "")
    return "" if one == other else f"{place}: {one} and {other}"


SETTINGS = TrainSettings(
    lambdas={"cls": 0.1},
    print_interval=2,
    val_interval=1,
    seed=7,
    save_interval_steps=1,
    ema=0.8,
    best="box/mean_error",
    best_is_least=True,
    weighting={"TYPE": "dwa"},
    audit_interval=2,
)
CONFIG = {"DATA": {"MEAN": [0.5]}, "TRAIN": {"NUM_WORKER": 0}}
STEPS = 12


class Figures(Monitor):
    """Every figure that is told, by group and step; one that is told again must be the same."""

    def __init__(self, told: dict, dies_at: int = 0) -> None:
        super().__init__(RunInfo(Path(), "script", "config"))
        self.told, self.dies_at, self.messages = told, dies_at, []

    def message(self, text):
        self.messages.append(text)

    def _note(self, key, values):
        assert self.told.setdefault(key, dict(values)) == dict(values), key

    def progress(self, progressed):
        values = {**progressed.scalars, "norm": progressed.grad_norm, "weights": dict(progressed.weights)}
        self._note(("train", progressed.global_step), values)

    def scalars(self, group, values, epoch, global_step):
        self._note((group, global_step), values)

    def gradients(self, values, global_step):
        self._note(("gradients", global_step), values)


def make_trainer(folder, told, tracker=None, loader=None, settings=SETTINGS, config=None, ranks=None):
    stages = plan_stages(
        parts=["backbone", "box"],
        tasks=["cls"],
        epochs=1,
        lr=1e-2,
        freeze_backbone=False,
        two_stage=True,
        stage1_epochs=2,
        stage2_epochs=2,
        stage2_lr=1e-2,
        schedule=Schedule(drop_epoch=1, decay_rate=0.5),
    )
    return Trainer(
        tracker or make_tracker(),
        stages,
        settings,
        loader or EpochLoader(),
        accelerator=Accelerator(cpu=True),
        checkpoints=CheckpointFolder(folder, "Tiny"),
        about=Description("Tiny", CONFIG if config is None else config),
        val_loader=EpochLoader(batches=2),
        monitors=Monitors([Figures(told)]),
    )


def go_on(folder, told, **options):
    torch.manual_seed(99)
    run = make_trainer(folder, told, tracker=make_tracker(seed=5), **options)
    found = load_newest(
        find_resume(CheckpointFolder(folder, "Tiny"), "auto"), told.setdefault("said", []).append
    )
    run.resume(*found[1])
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.set_num_threads(1)  # another number rounds otherwise
    folder, told = tmp_path_factory.mktemp("whole"), {}
    torch.manual_seed(3)
    run = make_trainer(folder, told)
    run.run()
    AcceleratorState._reset_state(reset_partial_state=True)
    return folder, told


def interrupt_after(run: Trainer, step: int) -> None:
    """Let a run die when the state after that step has been written."""
    save = run.saver._save

    def save_and_die(*arguments, **options):
        save(*arguments, **options)
        if run.position.step == step:
            raise Interruption

    run.saver._save = save_and_die


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_run_that_died_after_a_step_ends_as_if_it_had_not(whole, tmp_path, step):
    folder, told = whole
    torch.manual_seed(3)
    first = make_trainer(tmp_path, told)
    interrupt_after(first, step)
    with pytest.raises(Interruption):
        first.run()
    go_on(tmp_path, told).run()
    for name in ("Tiny_ep0004.pth.tar", "Tiny_ep0004_ema.pth.tar", "Tiny_best.pth.tar"):
        one, other = (torch.load(place / name, weights_only=True) for place in (folder, tmp_path))
        assert not changed(one["net"], other["net"]), name
        assert one["epoch"] == other["epoch"]
    one, other = (load_resume(place / "Tiny_ep0004.resume.pt")[0] for place in (folder, tmp_path))
    assert not difference(one, other)  # optimizer, schedule, balancing, average, best, random numbers
    assert one["position"]["step"] == STEPS and one["position"]["validated"]
    assert not told.get("said")


def test_only_what_is_missing_is_loaded(whole, tmp_path):
    told = whole[1]
    torch.manual_seed(3)
    first = make_trainer(tmp_path, told)
    interrupt_after(first, 5)  # the second step of the second epoch
    with pytest.raises(Interruption):
        first.run()

    class Counting(EpochLoader):
        seen: list[int] = []  # noqa: RUF012 - of this test alone

        def __iter__(self):
            for clip in super().__iter__():
                self.seen.append(self.epoch)
                yield clip

    go_on(tmp_path, told, loader=Counting()).run()
    assert Counting.seen == [2] + [3] * 3 + [4] * 3


class Stopping(EpochLoader):
    """Clips of a validation, in the middle of which a signal comes."""

    trainer: Trainer

    def __iter__(self):
        for number, clip in enumerate(super().__iter__()):
            if number == 1 and self.trainer.position.step == 6:
                self.trainer.stop.number = 15
            yield clip


def test_a_signal_in_a_validation_leaves_a_state_before_it(whole, tmp_path):
    folder, told = whole
    torch.manual_seed(3)
    first = make_trainer(tmp_path, told, settings=replace(SETTINGS, save_interval=10, save_interval_steps=0))
    first.validator.loader = loader = Stopping(batches=3)
    loader.trainer = first
    loader.batches = 2
    said = r"stopped by SIGTERM after step 6 of the run, which is saved in .*; the same command goes on"
    first.stop.__exit__()
    with pytest.raises(StoppedError, match=said) as stopped:
        first.run()
    assert stopped.value.status == 143
    resumed = go_on(tmp_path, told)
    assert resumed.position.step == 6 and not resumed.position.validated
    resumed.run()
    one, other = (
        torch.load(place / "Tiny_ep0004.pth.tar", weights_only=True) for place in (folder, tmp_path)
    )
    assert not changed(one["net"], other["net"])


def test_a_signal_between_steps_leaves_after_the_next_step(tmp_path):
    run = make_trainer(tmp_path, {}, settings=replace(SETTINGS, save_interval_steps=0))
    run.stop.number = 2
    with pytest.raises(StoppedError, match="stopped by SIGINT after step 1 of the run") as stopped:
        run.run()
    assert stopped.value.status == 130
    assert [file.name for file in run.saver.folder.resume_files()] == ["Tiny_ep0000_step00000001.resume.pt"]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"DATA": {"MEAN": [0.4]}, "TRAIN": {"NUM_WORKER": 0}}, r"DATA.MEAN: was \[0.5\], is \[0.4\]"),
        (
            {"DATA": {"MEAN": [0.5]}, "TRAIN": {"NUM_WORKER": 0, "BATCH_SIZE": 3}},
            "TRAIN.BATCH_SIZE: was 16",
        ),
    ],
)
def test_a_changed_setting_that_matters_is_refused_by_name(whole, config, text):
    folder, told = whole
    with pytest.raises(TrainingError, match=text + ".*--script_prv"):
        go_on(folder, told, config=config)


def test_a_changed_setting_that_does_not_matter_is_told(whole):
    folder, told = whole
    run = go_on(folder, told, config={"DATA": {"MEAN": [0.5]}, "TRAIN": {"NUM_WORKER": 4}})
    (notes,) = run.monitors.monitors
    assert notes.messages == ["setting changed since then: TRAIN.NUM_WORKER was 0, is 4"]


def test_other_data_and_other_processes_inside_an_epoch_are_refused(whole, tmp_path):
    told = whole[1]
    settings = replace(SETTINGS, data={"TRAIN lasot": "9 sequences abc, boxes 1"})
    first = make_trainer(tmp_path, {}, settings=settings)
    interrupt_after(first, 1)
    with pytest.raises(Interruption):
        first.run()
    other = replace(SETTINGS, data={"TRAIN lasot": "8 sequences abd, boxes 1"})
    with pytest.raises(
        TrainingError, match="data set TRAIN lasot: was 9 sequences abc, boxes 1, is 8 sequences abd, boxes 1"
    ):
        go_on(tmp_path, told, settings=other)
    corrected = replace(SETTINGS, data={"TRAIN lasot": "9 sequences abc, boxes 2"})
    run = go_on(tmp_path, told, settings=corrected)
    assert "boxes changed since then, in data set TRAIN lasot" in run.monitors.monitors[0].messages[0]
    path = tmp_path / "Tiny_ep0000_step00000001.resume.pt"
    state, checkpoint = load_resume(path)
    state["run"]["ranks"] = 2
    with pytest.raises(TrainingError, match="number of processes: was 2, is 1, and the run stopped inside"):
        make_trainer(tmp_path, {}, settings=settings).resume(state, checkpoint)
    state["position"]["epoch_step"] = 0
    run = make_trainer(tmp_path, {}, settings=settings)
    run.resume(state, checkpoint)
    assert "another number of processes (was 2, is 1)" in run.monitors.monitors[0].messages[0]


def test_two_runs_with_one_seed_are_bit_equal(whole, tmp_path):
    folder, told = whole
    torch.manual_seed(3)
    make_trainer(tmp_path, told).run()
    one, other = (load_resume(place / "Tiny_ep0004.resume.pt") for place in (folder, tmp_path))
    assert not difference(one, other)


def test_the_best_figure_may_be_the_least_or_the_most():
    least, most = BestScore("total", least=True), BestScore("cls/accuracy", least=False)
    assert [least.improves({"total": value}, 1) for value in (2.0, 3.0, 1.0, 1.0)] == [
        True,
        False,
        True,
        False,
    ]
    assert [most.improves({"cls/accuracy": v}, e) for e, v in enumerate((0.5, 0.7, 0.6))] == [
        True,
        True,
        False,
    ]
    assert (most.value, most.epoch) == (0.7, 1)
    assert not most.improves({"cls/accuracy": float("nan")}, 2) and most.value == 0.7
    assert not BestScore("total", least=False).improves({"total": float("nan")}, 1)
    again = BestScore("cls/accuracy", least=False)
    again.load_state_dict(most.state_dict())
    assert again.value == 0.7 and not again.improves({"total": 1.0}, 3)
    again = BestScore("total", least=True)
    again.load_state_dict(most.state_dict())  # another figure: it starts afresh
    assert again.value is None


def test_a_figure_that_validation_does_not_have_is_told_with_those_it_has(tmp_path):
    told: dict = {}
    run = make_trainer(tmp_path, told, settings=replace(SETTINGS, best="cls/macro"))
    run.run()
    (notes,) = run.monitors.monitors
    assert any("no figure 'cls/macro'; it has total, box, " in text for text in notes.messages)
    assert not (tmp_path / "Tiny_best.pth.tar").exists()


def test_processes_that_found_different_states_are_told_to_share_their_folder(monkeypatch):
    path = Path("a") / "Tiny_ep0001.resume.pt"
    need_same_state(None)
    need_same_state(path)
    monkeypatch.setattr(resuming, "gather_object", lambda own: [*own, "none"])
    with pytest.raises(
        TrainingError, match=r"\(process 0: Tiny_ep0001.resume.pt, process 1: none\); the --save_dir of all"
    ):
        need_same_state(path)
