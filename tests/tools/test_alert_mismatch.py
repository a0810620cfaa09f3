"""Simulated tracks and the comparison of soft and hard, `tools/alert_mismatch.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import alert_mismatch as tool

from mtltrack.core.errors import ConfigError
from mtltrack.core.stopping import StopRule


def test_a_simulated_vehicle_stands_for_as_long_as_wanted() -> None:
    line = tool.simulate(np.random.default_rng(0), StopRule(), stand=80, tremble=0)
    seconds = tool.hard_seconds(line, StopRule(step=0))
    assert seconds[0] == seconds[-1] == 0
    assert 80 <= seconds.max() < 83  # it is slow for a moment before and after
    assert np.all(np.diff(line.times) > 0) and np.diff(line.times).max() > 0.5


def test_the_same_clock_gives_no_mismatch_and_a_slow_one_does() -> None:
    boxes = np.tile([0.0, 0, 10, 10], (5, 1))
    line = tool.Timeline(boxes, np.array([0.0, 50, 100, 130, 140]), np.ones(5))
    hard = tool.hard_seconds(line, StopRule())
    rows = tool.compare([line], [hard], [hard], StopRule(), (2.0, 0.05))
    assert rows[0] == ["0.00", "0.00", "0.00", "1 of 1"]
    # ten seconds behind: red at 140 s instead of 130 s, one frame of five
    rows = tool.compare([line], [hard], [np.maximum(hard - 10, 0)], StopRule(), (2.0, 0.05))
    assert rows[0] == ["8.00", "20.00", "10.00", "1 of 1"]


def test_soft_clocks_leak_and_straight_through_ones_dont() -> None:
    line = tool.simulate(np.random.default_rng(1), StopRule(), stand=20, tremble=0)
    hard = tool.hard_seconds(line, StopRule())
    np.testing.assert_allclose(tool.soft_seconds(line, StopRule(), "straight_through", 4), hard)
    assert tool.soft_seconds(line, StopRule(), "soft", 5).max() < 0.9 * hard.max()


def test_nothing_to_compare_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="--tracks is 0; it must be at least 1"):
        tool.run(tool.parse(["--tracks", "0"]))
    assert tool.main(["--tracks", "0"]) == 1
    assert "--tracks is 0" in capsys.readouterr().err
