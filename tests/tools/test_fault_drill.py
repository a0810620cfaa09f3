"""The fault drill: the whole of it with few trials, and what it says of parts that fail or die."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tools import fault_drill
from tools.drill.row import Row


@pytest.mark.slow
def test_every_check_of_the_short_drill_holds(tmp_path: Path, capsys) -> None:
    status = fault_drill.main(["--short", "--out", str(tmp_path)])
    told = capsys.readouterr().out
    outcomes = json.loads((tmp_path / "drill.json").read_text(encoding="utf-8"))
    failed = [row for outcome in outcomes for row in outcome["rows"] if not row["passed"]]
    assert failed == []
    assert status == 0
    assert [outcome["part"] for outcome in outcomes] == list(fault_drill.PARTS)
    rows = sum(len(outcome["rows"]) for outcome in outcomes)
    assert f"{rows} of {rows} checks held" in told
    lines = (tmp_path / "drill.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == rows + 2


def test_a_part_that_fails_is_said_so_in_table_and_status(tmp_path: Path, monkeypatch, capsys) -> None:
    rows = (Row("a | b", "no loss", "a loss", False), Row("c", "nothing", "nothing", True))
    monkeypatch.setattr(fault_drill, "drill_part", lambda part, short: fault_drill.Outcome(part, rows, 1.0))
    assert fault_drill.main(["--only", "memory", "--out", str(tmp_path)]) == 1
    assert "1 of 2 checks held" in capsys.readouterr().out
    assert (tmp_path / "drill.md").read_text(encoding="utf-8").splitlines()[2:] == [
        "| out of memory | a \\| b | no loss | a loss **FAILED** |",
        "|  | c | nothing | nothing |",
    ]


def test_a_part_that_dies_is_a_failed_check(monkeypatch) -> None:
    monkeypatch.setitem(fault_drill.PARTS, "nowhere", "a part that isn't there")
    (row,) = fault_drill.drill_part("nowhere", short=True).rows
    assert not row.passed
    assert "exit status 1: ModuleNotFoundError: No module named 'tools.drill.nowhere'" in row.found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "memory", "mermory"], "--only mermory: no part of the drill; choose of resume, files"),
        (["--jobs", "0"], "--jobs is 0; at least one part must run"),
    ],
)
def test_wrong_options_are_refused(arguments, message, capsys) -> None:
    assert fault_drill.main(arguments) != 0
    captured = capsys.readouterr()
    assert message in captured.err + captured.out
