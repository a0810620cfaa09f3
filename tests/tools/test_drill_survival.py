"""What the drill of one process can tell, and what of it isn't in its short form (see test_fault_drill)."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import random
import re
import time
from pathlib import Path

import pytest
import torch
from tools.drill import files, resume, signals
from tools.drill.hostile import Calls, contents, ways

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the drill forks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder in which children may train."""
    path = tmp_path_factory.mktemp("drill")
    with resume.forked(path):
        yield path


def test_the_drill_tells_one_bit_from_equality():
    state = {"position": {"step": 3}, "random": [torch.arange(4), (1.0, float("nan"))], "net": torch.ones(2)}
    assert resume.difference(state, copy.deepcopy(state)) == ""
    for change, place in (
        (lambda other: other["position"].update(step=4), "/position/step: 3 and 4"),
        (lambda other: other["random"][0].add_(1), "/random/0"),
        (lambda other: other["random"].__setitem__(1, (1.0, 2.0)), "/random/1/1: nan and 2.0"),
        (lambda other: other.update(net=torch.ones(2).double()), "/net"),
        (lambda other: other.update(more=1), "/"),
    ):
        other = copy.deepcopy(state)
        change(other)
        assert resume.difference(state, other) == place
    assert resume.difference(torch.ones(1), None) == resume.difference([], [1]) == "/"


def test_a_step_that_was_told_twice_must_have_the_same_figures(tmp_path):
    run = resume.Run(tmp_path, 0)
    notes = ['["train", 2, {"total": "0.5"}]', '["train", 2, {"total": "0.5"}]', '["train", 3, {"tot']
    (tmp_path / "figures.jsonl").write_text("\n".join(notes), encoding="utf-8")
    assert run.figures() == {("train", 2): '{"total": "0.5"}'}  # without the line that was being written
    notes[1] = notes[1].replace("0.5", "0.6")
    (tmp_path / "figures.jsonl").write_text("\n".join(notes), encoding="utf-8")
    with pytest.raises(ValueError, match="train at step 2"):
        run.figures()


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(tmp_path):
    row = signals.two_ranks(tmp_path, limit=300.0)
    assert row.passed, row.found


def test_a_reader_that_takes_damaged_files_fails_the_drill(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "read_weights_file", lambda path: {})
    flips, cuts = files.damaged(tmp_path, 20, 10, random.Random(0))
    assert (flips.found, flips.passed) == ("10 refused", False)
    assert (cuts.found, cuts.passed) == ("5 refused", False)


def test_a_full_disk_costs_nothing_but_time(folder, monkeypatch):
    monkeypatch.setattr(files, "_mount", lambda disk, size: False)
    row = files.full_disk(folder)
    assert row.passed, row.found


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore:subprocess .*:ResourceWarning")
def test_the_traps_are_real(tmp_path):
    trace, script = tmp_path / "trace", tmp_path / "script.py"
    script.write_text(f"open({str(trace)!r}, 'w').close()", encoding="utf-8")
    assert len(ways(trace, script)) == 20
    for name, call in ways(trace, script).items():
        pickle.loads(pickle.dumps(Calls(call)))
        gc.collect()  # the files that they open
        assert _comes(trace), name
    assert len(contents((print, ()))) == 3


def _comes(trace: Path) -> bool:
    """Wait for a trace that another process leaves."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if files.remove(trace):
            return True
        time.sleep(0.01)
    return False


def test_no_way_of_reading_runs_what_a_file_says():
    """Nothing in the project unpickles freely, and there is no fallback to it."""
    unsafe = re.compile(
        r"weights_only\s*=\s*False|pickle\.loads?\(|Unpickler\(|allow_pickle\s*=\s*True|np\.load\("
    )
    load = re.compile(r"torch\.load\((?!.*weights_only=True)")
    found = []
    for path in sorted([*(ROOT / "lib").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if unsafe.search(line) or load.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert [re.sub(r":\d+:.*InertUnpickler\(.*", ": inert", line) for line in found] == [
        "lib/mtltrack/models/inert_pickle.py: inert",
        "lib/mtltrack/models/weights.py: inert",
    ]
