"""The benchmark of scoring, on very few boxes; how long it takes isn't tested."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import benchmark_scoring

FEW = ["--sequences", "3", "--frames", "40", "--trackers", "2"]


@pytest.mark.parametrize("protocol", ["otb", "uav", "lasot", "got10k"])
def test_seconds_and_scores_are_printed(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark_scoring.main([*FEW, "--protocol", protocol]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith(f"3 sequences x 40 frames x 2 trackers, {protocol}: ")
    assert "s on one core" in first and "million frames/s" in first and len(rows) == 2


def test_a_tracker_that_is_further_off_scores_less() -> None:
    _, (near, far) = benchmark_scoring.measure("lasot", 3, 200, 2)
    assert 0 < far["AUC"] < near["AUC"] < 1 and far["Precision"] < near["Precision"] < 1
