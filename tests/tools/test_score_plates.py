"""`tools/real/plates.py` on made-up photographs and an untrained network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mtltrack.cli.build import build_tracker
from mtltrack.core.config import find_config, load_config
from mtltrack.core.errors import ConfigError
from mtltrack.core.types import Clip

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "real"))
import plates


def labelled_clip(boxes: list[list[float]], present: list[bool]) -> Clip:
    count = len(boxes)
    return Clip(
        template=torch.zeros(count, 3, 8, 8),
        template_boxes_xywh=torch.zeros(count, 4),
        search=torch.zeros(count, 1, 3, 8, 8),
        affine=torch.zeros(count, 1, 2, 3),
        timestamps=torch.zeros(count, 1),
        labels={
            "plate": {
                "valid": torch.ones(count, 1, dtype=torch.bool),
                "present": torch.tensor(present)[:, None],
                "cxcywh": torch.tensor(boxes)[:, None],
            }
        },
    )


def test_the_constant_is_the_mean_box_and_the_share_of_crops_with_a_plate() -> None:
    absent = [0.0, 0.0, 0.0, 0.0]
    training = labelled_clip([[0.4, 0.5, 0.2, 0.1], [0.6, 0.5, 0.2, 0.1], absent], [True, True, False])
    near, far = [0.5, 0.5, 0.2, 0.1], [0.8, 0.5, 0.2, 0.1]  # the mean box is `near`
    scores = plates.score_constant([training], [labelled_clip([near, far, near], [True, True, True])])
    # hit, miss, hit of three: precision 1 up to recall 1/3 (34 of 101 places), 2/3 up to recall 2/3 (33)
    assert scores["AP50"] == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert scores["presence_accuracy"] == 1.0  # 2 of 3 training crops show one: more than a half


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    """Options that make the tiny configuration train on made-up photographs."""
    for number in range(4):
        image = np.full((120, 160, 3), 40 + 40 * number, dtype=np.uint8)
        image[60:68, 70:102] = 240
        assert cv2.imwrite(str(tmp_path / f"car{number}.png"), image)
        line = f"car{number}.png\t70\t60\t32\t8\tAB{number}\n"
        (tmp_path / f"car{number}.txt").write_text(line, encoding="utf-8")
    entry = f"{{TYPE: PlateScenes, ROOT: {tmp_path}, TEST_EVERY: 2}}"
    return [f"DATA.TRAIN.DATASETS_NAME=[{entry}]", "DATA.TRAIN.DATASETS_RATIO=[1]"]


def test_scores_of_head_and_constant_are_told(
    config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = load_config(find_config("ostrack", "ostrack_plate_tiny"), config, script="ostrack")
    weights = tmp_path / "weights.pth"
    torch.save({"net": build_tracker(cfg, "ostrack").state_dict()}, weights)
    out = tmp_path / "scores" / "plates.json"
    arguments = ["ostrack", "ostrack_plate_tiny", "--checkpoint", str(weights), "--crops", "2"]
    assert plates.main([*arguments, "--out", str(out), "--cfg-options", *config]) == 0
    printed = capsys.readouterr().out
    assert "2 plates not trained on, 4 crops" in printed and "constant box" in printed
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["plates"] == ["car1", "car3"] and content["crops"] == 4
    assert all(0 <= row["AP50"] <= 1 for row in content["scores"].values())


def test_what_was_trained_on_is_not_scored(config: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    spoiled = [config[0].replace("TEST_EVERY: 2", "SPLIT: all"), config[1]]
    cfg = load_config(find_config("ostrack", "ostrack_plate_tiny"), spoiled, script="ostrack")
    with pytest.raises(ConfigError, match=r"trains on the 'all' part of .*nothing is left .* SPLIT: train"):
        plates.scenes(cfg, "test")
    assert plates.main(["ostrack", "ostrack_cls_tiny"]) == 1
    assert "has no task plate; its tasks: cls" in capsys.readouterr().err


def test_help_says_what_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        plates.main(["--help"])
    assert "mean box of the plates in the training part" in capsys.readouterr().out
