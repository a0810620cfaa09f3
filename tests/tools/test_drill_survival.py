"""The drill of one process, with few of everything: killed, stopped, damaged files, traps, a full disk."""

from __future__ import annotations

import gc
import os
import pickle
import random
import re
import time
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_that_was_killed_ends_as_if_it_had_not_been(folder, workers):
    row = resume.drill(folder, workers, 2, random.Random(workers))
    assert row.passed, row.found


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_training_that_was_asked_to_leave_saves_and_says_so_by_its_status(folder, name):
    row = signals.leaving(folder, name, 1, random.Random(1))
    assert row.passed, row.found


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(tmp_path):
    row = signals.two_ranks(tmp_path)
    assert row.passed, row.found


def test_damaged_files_are_refused(tmp_path):
    rows = files.damaged(tmp_path, 100, 40, random.Random(0))
    assert [row.passed for row in rows] == [True, True], rows


def test_a_full_disk_costs_nothing_but_time(folder, monkeypatch):
    monkeypatch.setattr(files, "_mount", lambda disk, size: False)
    row = files.full_disk(folder)
    assert row.passed, row.found


def test_traps_run_nothing(tmp_path):
    row = files.traps(tmp_path)
    assert row.passed, row.found
    assert row.check == "20 malicious pickles"


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore:subprocess .*:ResourceWarning")
def test_the_traps_are_real(tmp_path):
    trace, script = tmp_path / "trace", tmp_path / "script.py"
    script.write_text(f"open({str(trace)!r}, 'w').close()", encoding="utf-8")
    for name, call in ways(trace, script).items():
        pickle.loads(pickle.dumps(Calls(call)))
        gc.collect()  # the files that they open
        assert _comes(trace), name
    assert len(contents((print, ()))) == 3


def _comes(trace: Path) -> bool:
    """Wait for a trace that another process leaves."""
    deadline = time.monotonic() + 20
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
