"""The tool that measures what keeping features gains."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import feature_gain

NET = ["--script", "ostrack", "--config", "ostrack_cls_tiny"]
SMALL = [
    *(*NET, "--batch", "2", "--rounds", "1", "--cfg-options"),
    *("DATA.SEARCH.SIZE=64", "DATA.TEMPLATE.SIZE=32", "MODEL.HEAD.NUM_CHANNELS=16"),
    *("MODEL.BACKBONE.EMBED_DIM=32", "MODEL.BACKBONE.DEPTH=1", "MODEL.BACKBONE.NUM_HEADS=2"),
    *("MODEL.BACKBONE.CE_LOC=[]", "MODEL.BACKBONE.CE_KEEP_RATIO=[]"),
]


def test_both_kinds_of_step_are_compared_and_nothing_is_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert feature_gain.main(["--folder", str(tmp_path), *SMALL]) == 0
    told = capsys.readouterr().out
    assert "stage heads, 2 x 1 frames: read" in told and "computed and written" in told
    assert "kB a sample" in told and "making sure of the weights" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--rounds", "0"], "--rounds 0: at least 1 is needed"),
        (["--threads", "2"], "--clock cpu needs --threads 1: it adds up the time of all threads"),
        (["--cfg-options", "TRAIN.STAGE1_EPOCHS=0"], "no stage of this configuration has a frozen backbone"),
    ],
)
def test_what_makes_no_sense(options: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert feature_gain.main([*NET, *options]) == 1
    assert text in capsys.readouterr().err
