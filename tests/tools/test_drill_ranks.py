"""The drill of several processes: what it can tell, and what its short form leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tools.drill import commands, memory, not_finite


def test_ranks_that_part_fail_the_drill(tmp_path: Path) -> None:
    good = {"most": [1, 1], "difference": 0.0, "said": ["rank 1: no memory"] * 2}
    cases = {"fixed forward": good, "famo forward": {**good, "most": [4, 1]}}
    cases["fixed backward"] = {**good, "difference": 0.5}
    torch.save(cases, tmp_path / "memory.pt")
    assert [row.passed for row in memory.rank_rows(tmp_path)] == [True, False, False]
    case = {"kind": not_finite.LOSS, "task": "cls", "rank": 1, "sample": ["task cls", "sample 3"]}
    named, silent = "task cls at made up (sample 3)", "task box"
    for told, passed in (
        ([(named, True), (named, True)], True),
        ([(named, True), (named, False)], False),  # one rank's weights have moved
        ([(None, True), (named, True)], False),  # one rank has made the step
        ([(silent, True), (named, True)], False),
    ):
        torch.save([{**case, "told": told}], tmp_path / "faults.pt")
        assert [row.passed for row in not_finite.rank_rows(tmp_path)] == [passed, True]
    assert commands.in_ranks(tmp_path, ["memory", "faults"]) == ""  # both are there


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
