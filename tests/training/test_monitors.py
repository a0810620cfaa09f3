"""What those who watch write: lines, a bar, TensorBoard's files."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtltrack.core.errors import UnknownNameError
from mtltrack.metrics.classification import confusion_figure
from mtltrack.training.monitors import (
    ConsoleMonitor,
    LogFileMonitor,
    Progressed,
    RunInfo,
    TensorBoardMonitor,
    build_monitors,
    format_scalars,
)
from mtltrack.training.optimizers import PartRow
from mtltrack.training.stages import Stage

STAGE = Stage("heads", 3, 1e-3, frozenset({"cls"}), frozenset({"cls"}))
ROWS = [PartRow("backbone", 1200, 0, None, "-"), PartRow("cls", 34, 34, 1e-3, "cls")]
PROGRESSED = Progressed(
    stage="heads",
    epoch=2,
    epochs=5,
    step=4,
    steps=4,
    global_step=8,
    scalars={"total": 0.5, "cls": 5.0, "cls/ce": 5.0},
    rates={"backbone": 1e-4, "cls": 1e-3},
    grad_norm=0.25,
    samples_per_second=12.34,
    seconds_left=3725,
)


@pytest.fixture
def info(tmp_path: Path) -> RunInfo:
    return RunInfo(tmp_path, "hiptrack", "tiny")


def watch(info: RunInfo, terminal: bool) -> str:
    text = io.StringIO()
    monitor = ConsoleMonitor(info, Console(file=text, force_terminal=terminal, width=160))
    monitor.start(0)
    monitor.stage(STAGE, ROWS)
    monitor.epoch("heads", 2, 5, 4)
    for _ in range(4):
        monitor.step()
    monitor.message("[saved] x")
    monitor.progress(PROGRESSED)
    monitor.scalars("val", {"box/IoU": 0.75}, 2, 8)
    monitor.close()
    return text.getvalue()


def test_elsewhere_than_on_a_terminal_there_are_plain_lines(info):
    lines = watch(info, terminal=False).splitlines()
    assert lines[0] == "stage 'heads': 3 epoch(s), losses of cls"
    assert lines[2].split() == ["backbone", "1,200", "0", "frozen", "-", "-"]
    assert lines[3].split() == ["cls", "34", "34", "trainable", "0.001", "cls"]
    assert lines[-3] == "[saved] x"
    assert "[heads] epoch 2/5 step 4/4  total 0.5  cls 5  grad 0.25" in lines[-2]
    assert "lr backbone 0.0001 cls 0.001  12.3 samples/s  left 1:02:05" in lines[-2]
    assert lines[-1] == "val 2: box/IoU 0.75"


def test_a_task_s_only_term_is_told_when_it_says_something_else():
    assert format_scalars({"cls": 5.0, "cls/ce": 5.0, "box": 3.0, "box/l1": 3.0, "box/giou": 0.0}) == (
        "cls 5  box 3  box/l1 3  box/giou 0"
    )
    assert format_scalars({"cls": 10.0, "cls/ce": 5.0}) == "cls 10  cls/ce 5"  # weighted by 2


def test_on_a_terminal_there_is_a_bar_with_losses_and_the_time_left(info):
    text = watch(info, terminal=True)
    assert "\x1b[" in text and "4/4" in text and "left 1:02:05" in text and "trainable" in text
    assert "cls/ce" not in text


def test_the_log_file_is_continued_and_names_a_failure(info, tmp_path):
    for reason in ("TrainingError: one", "TrainingError: two"):
        monitor = LogFileMonitor(info)
        monitor.progress(PROGRESSED)
        monitor.broken_off(f"training failed: {reason}")
        monitor.close()
    lines = (tmp_path / "logs" / "hiptrack-tiny.log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4 and "epoch 2/5" in lines[0]
    assert lines[1].endswith("training failed: TrainingError: one") and lines[3].endswith("two")


def test_tensorboard_gets_curves_pictures_and_figures(info, tmp_path):
    monitor = TensorBoardMonitor(info)
    monitor.start(0)
    monitor.progress(PROGRESSED)
    monitor.scalars("val", {"box/IoU": 0.75}, 2, 8)
    monitor.images("val/boxes", torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 8)
    monitor.figure("val/cls", confusion_figure(torch.eye(2), ["a", "b"]), 8)
    monitor.close()
    found = EventAccumulator(str(tmp_path / "tensorboard" / "train" / "hiptrack" / "tiny"))
    found.Reload()
    tags = found.Tags()
    assert {"train/total", "train/cls/ce", "train/grad_norm", "lr/backbone", "lr/cls"} <= set(tags["scalars"])
    assert {"val/box/IoU", "speed/samples_per_second"} <= set(tags["scalars"])
    assert {"val/boxes", "val/cls"} <= set(tags["images"])
    (point,) = found.Scalars("train/cls")
    assert (point.step, point.value) == (8, 5.0)


def test_a_monitor_is_chosen_by_name(info):
    monitors = build_monitors(info, ["LogFileMonitor"])
    assert [type(monitor) for monitor in monitors.monitors] == [LogFileMonitor]
    monitors.close()
    with pytest.raises(UnknownNameError, match=r"Did you mean 'LogFileMonitor'\?.*TensorBoardMonitor"):
        build_monitors(info, ["LogfileMonitr"])
