"""The tool that measures what watching gradients costs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import watch_cost
from watch_cost import Costs

SMALL = [
    *("--script", "ostrack", "--config", "ostrack_cls_tiny", "--batch", "2", "--steps", "1", "--cfg-options"),
    *("DATA.SEARCH.SIZE=64", "DATA.TEMPLATE.SIZE=32", "MODEL.HEAD.NUM_CHANNELS=16"),
    *("MODEL.BACKBONE.EMBED_DIM=32", "MODEL.BACKBONE.DEPTH=1", "MODEL.BACKBONE.NUM_HEADS=2"),
    *("MODEL.BACKBONE.CE_LOC=[]", "MODEL.BACKBONE.CE_KEEP_RATIO=[]"),
]


def test_the_share_of_a_training() -> None:
    costs = Costs(step=2.0, look=0.5, matrix=4.0, reading=1.0)
    assert costs.share(50, 0) == pytest.approx(0.5)  # 0.5 of 50 * 2 seconds
    assert costs.share(50, 2000) == pytest.approx(0.5 + 0.1)
    assert costs.share(0, 0) == 0


def test_the_command_measures_each_stage_and_refuses_too_much(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch_cost.main(["--most", "1000", *SMALL]) == 0
    told = capsys.readouterr().out
    assert "heads" in told and "joint" in told and "look at 50 steps" in told
    assert "no more than 1000 %" in told
    assert watch_cost.main(["--most", "0", "--stage", "joint", *SMALL]) == 1
    assert "MORE than 0 %" in capsys.readouterr().out


def test_what_makes_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch_cost.main(["--steps", "0", *SMALL[:4]]) == 1
    assert "--steps 0: at least 1 is needed" in capsys.readouterr().err
    assert watch_cost.main([*SMALL, "TRAIN.AUDIT_INTERVAL=0", "TRAIN.AUDIT_FULL_INTERVAL=0"]) == 1
    told = capsys.readouterr().err
    assert "TRAIN.AUDIT_INTERVAL and AUDIT_FULL_INTERVAL are 0: nothing is watched" in told
