"""What a run shows of itself."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mtltrack.evaluation import progress as module
from mtltrack.evaluation.progress import RunProgress


def test_lines_without_a_terminal() -> None:
    text = io.StringIO()
    with RunProgress(3, Console(file=text, width=100)) as progress:
        progress("start", "a", 11, 0.0)
        progress("done", "a", 11, 2.0)
        progress("failed", "b", 0, 0.0)
        progress("skipped", "c", 0, 0.0)
    assert text.getvalue().splitlines() == [
        "[1/3] a: 11 frames, 5.0 frames a second",  # the first frame only starts the tracker
        "[2/3] b: failed",
        "[3/3] c: results exist, skipped (--force runs it again)",
    ]


def test_bar_shows_what_all_processes_do_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 104.0, 105.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock, 105.0))
    progress = RunProgress(2, Console(file=io.StringIO(), width=100))
    assert progress._rate() == ""  # at 104 s: nothing is done
    progress("done", "a", 10, 3.0)
    assert progress._rate() == "2.0 frames/s"  # ten frames in five seconds
    terminal = io.StringIO()
    with RunProgress(1, Console(file=terminal, width=120, force_terminal=True)) as shown:
        shown._start -= 5.0
        shown("start", "a", 20, 0.0)
        shown("done", "a", 20, 3.0)
    assert "4.0 frames/s" in terminal.getvalue() and "1/1" in terminal.getvalue()
