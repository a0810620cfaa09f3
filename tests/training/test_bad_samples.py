"""The list of bad data beside the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtltrack.core.errors import DataError
from mtltrack.data.faults import Fault, FaultLog
from mtltrack.training.bad_samples import BadSampleMonitor
from mtltrack.training.monitors import DEFAULT_MONITORS, Monitor, Monitors, RunInfo
from mtltrack.training.reporting import TRAIN, VAL, tell_faults


class Told(Monitor):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def log(*messages: str, samples: int = 10) -> FaultLog:
    faults = FaultLog()
    faults.add([{"bad": [message]} for message in messages])
    faults.add([{}] * (samples - len(messages)))
    return faults


def lines(info: RunInfo) -> list[dict[str, Any]]:
    return [json.loads(line) for line in info.bad_samples_file.read_text("utf-8").splitlines()]


def test_each_fault_stands_once_an_epoch_with_its_count(tmp_path: Path) -> None:
    info = RunInfo(tmp_path, "ostrack", "mini")
    listed, told = BadSampleMonitor(info), Told()
    monitors = Monitors([listed, told])
    assert info.bad_samples_file == tmp_path / "logs" / "ostrack-mini.bad_samples.jsonl"
    tell_faults(log(), monitors, TRAIN, 1, 0.5)
    assert not info.bad_samples_file.exists() and not told.messages
    tell_faults(
        log("a/3.jpg: the image is cut off", "a/3.jpg: the image is cut off"), monitors, TRAIN, 1, 0.5
    )
    tell_faults(log("b.txt, line 4: no area"), monitors, VAL, 1, 0.5)
    first = {"file": "a/3.jpg", "line": None, "key": None, "reason": "the image is cut off", "count": 2}
    other = {"file": "b.txt", "line": 4, "key": None, "reason": "no area", "count": 1}
    assert lines(info) == [
        {"part": "train", "epoch": 1, **first},
        {"part": "val", "epoch": 1, **other},
    ]
    assert told.messages[0].startswith("epoch 1: 2 of 10 samples were bad (20.00%)")
    assert told.messages[0].count("a/3.jpg") == 1 and "2 x a/3.jpg" in told.messages[0]
    assert told.messages[1].startswith("validation after epoch 1: 1 of 10 samples were bad")


def test_an_epoch_that_is_trained_again_replaces_its_lines(tmp_path: Path) -> None:
    info = RunInfo(tmp_path, "ostrack", "mini")
    listed = BadSampleMonitor(info)
    for epoch in (1, 2, 3):
        listed.faults(TRAIN, epoch, log(f"{epoch}.jpg: cut").records())
    listed.start(global_step=70)  # goes on after epoch 1
    listed.faults(TRAIN, 2, log("2.jpg: cut", "new.jpg: cut").records())
    assert [(line["epoch"], line["file"]) for line in lines(info)] == [
        (1, "1.jpg"),
        (2, "2.jpg"),
        (2, "new.jpg"),
    ]
    listed.faults(TRAIN, 1, [])
    assert lines(info) == []
    listed.start(global_step=0)
    assert not info.bad_samples_file.exists()
    assert "BadSampleMonitor" in DEFAULT_MONITORS


def test_too_many_bad_samples_of_a_validation_stop_the_run(tmp_path: Path) -> None:
    listed = BadSampleMonitor(RunInfo(tmp_path, "a", "b"))
    with pytest.raises(DataError, match=r"2 of 10 samples were bad .*\n.*\n.*\n.*MAX_BAD_FRACTION \(10"):
        tell_faults(log("x.jpg: cut", "y.jpg: cut"), Monitors([listed]), VAL, 3, 0.1)
    assert len(lines(listed.info)) == 2  # written before


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("/d/a b.jpg: the image: cut", Fault("/d/a b.jpg", None, None, "the image: cut")),
        ("/d/car.jsonl:12: alert: wanted 0", Fault("/d/car.jsonl", 12, None, "alert: wanted 0")),
        ("/d/boxes.txt, line 7: no area", Fault("/d/boxes.txt", 7, None, "no area")),
        ("key 'a/1.jpg' of the LMDB /d/x: gone", Fault("/d/x", None, "a/1.jpg", "gone")),
        ("key 'a.txt' of the LMDB /d/x, line 3: nan", Fault("/d/x", 3, "a.txt", "nan")),
        ("no place at all", Fault("no place at all", None, None, "no place at all")),
    ],
)
def test_messages_are_taken_apart(message: str, fault: Fault) -> None:
    assert Fault.of(message) == fault


def test_a_single_bad_sample_stops_no_small_validation_unless_none_may_be() -> None:
    one, two = log("x.jpg: cut", samples=96), log("x.jpg: cut", "y.jpg: cut", samples=96)
    one.check(0.01)  # though it is 1.04 % of 96
    one.check_early(0.01, samples=96)
    for stopped, limit in ((one, 0.0), (two, 0.01)):
        with pytest.raises(DataError, match=r"MAX_BAD_FRACTION \([01]\.00%\) is not accepted"):
            stopped.check(limit)
        with pytest.raises(DataError, match=r"of 96 samples were bad"):
            stopped.check_early(limit, samples=96)
    log("x.jpg: cut", "y.jpg: cut", samples=200).check(0.01)
    log(samples=96).check(0.0)


def test_an_epoch_ends_as_soon_as_it_is_certain_to_have_too_many() -> None:
    faults = log(*["x.jpg: cut"] * 10, samples=50)
    faults.check_early(0.01, samples=1000)  # 10 of 1000 are allowed
    faults.add([{"bad": ["y.jpg: cut"]}])
    with pytest.raises(DataError, match="11 of 51 samples were bad"):
        faults.check_early(0.01, samples=1000)
