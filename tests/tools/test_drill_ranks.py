"""The drill's checks of several processes that aren't in its short form (see test_fault_drill)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tools.drill import commands, memory, not_finite
from tools.drill.row import Row


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes left what they found."""
    folder = tmp_path_factory.mktemp("ranks")
    assert commands.in_ranks(folder, ["faults", "memory"]) == ""
    return folder


@pytest.fixture
def started_once(of_ranks: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder; the drill takes what is there."""
    monkeypatch.setattr(commands, "in_ranks", lambda folder, checks: "")
    return of_ranks


def passed(rows: list[Row], number: int) -> None:
    assert len(rows) == number
    assert all(row.passed for row in rows), [row for row in rows if not row.passed]


@pytest.mark.slow
def test_a_fault_on_one_rank_stops_the_step_on_both(started_once: Path) -> None:
    rows = not_finite.rank_rows(started_once)
    passed(rows, 2)
    assert "12 cases" in rows[0].check


@pytest.mark.slow
def test_too_little_memory_on_one_rank_makes_both_go_in_pieces(started_once: Path) -> None:
    passed(memory.rank_rows(started_once), 6)


@pytest.mark.slow
def test_two_hosts_end_as_two_processes_of_which_one_was_killed(tmp_path: Path) -> None:
    commands.prepare(tmp_path)
    assert commands.two_hosts(tmp_path, "hosts") == [0, 0], commands.said(tmp_path, "hosts")
    sign = "epoch 2/3 step 1/2"
    assert commands.killed_once(tmp_path, "killed", sign) == (0, True), commands.said(tmp_path, "killed")
    assert "resuming from killed/checkpoints" in commands.said(tmp_path, "killed")
    one, other = (commands.weights(tmp_path, run) for run in ("hosts", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert commands.figures(tmp_path, "hosts")[-1] == commands.figures(tmp_path, "killed")[-1]
