"""`tools/real/masks.py` on a made-up video and an untrained network."""

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

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "real"))
import masks

SEG = "TASKS.seg={TYPE: SegHead, HIDDEN_DIM: 8, STEM: 4}"
FRAMES = 5


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of an untrained network's weights."""
    cfg = load_config(find_config("ostrack", "ostrack_tiny"), [SEG], script="ostrack")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save({"net": build_tracker(cfg, "ostrack").state_dict()}, path)
    return str(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A rectangle of 40 x 20 pixels that stands still for two frames, then jumps 20 pixels to the right."""
    for frame in range(FRAMES):
        left = 30 if frame < 2 else 50
        mask = np.zeros((90, 120), dtype=np.uint8)
        mask[40:60, left : left + 40] = 255
        for folder, suffix, pixels in (("JPEGImages", "jpg", mask // 2 + 60), ("Annotations", "png", mask)):
            path = tmp_path / folder / "480p" / "box" / f"{frame:05d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), pixels)
    return tmp_path


def test_a_filled_box_holds_the_pixels_whose_centres_it_holds() -> None:
    mask = masks.fill((1.0, 0.6, 2.0, 1.0), (3, 5))
    assert mask.tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]


def test_scores_of_head_and_boxes_are_told(
    root: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores" / "masks.json"
    arguments = ["ostrack", "ostrack_tiny", "--checkpoint", weights, "--data", str(root)]
    assert masks.main([*arguments, "--out", str(out), "--cfg-options", SEG]) == 0
    printed = capsys.readouterr().out
    assert "mask head" in printed and "first box, held still" in printed
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["frames"] == {"box": 3}  # neither the first nor the last
    scores = content["means"]
    assert scores["true box, filled"]["J_mean"] == 1.0 == scores["true box, filled"]["F_mean"]
    # the same place once, then twice half of 40 columns shared with 60 covered
    assert scores["first box, held still"]["J_mean"] == pytest.approx((1 + 2 * 20 / 60) / 3)
    assert 0 <= scores["mask head"]["J_mean"] <= 1
    assert content["videos"]["its box, filled"]["box"]["J_recall"] >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "/nowhere/vos"], "there is no folder /nowhere/vos. Name the videos' folder by --data"),
        (["--data", "{root}"], r"ostrack_tiny.yaml has no task seg; its tasks: none"),
        (["--data", "{root}", "--frames", "car=1:3"], "RANGES names the sequence 'car', which isn't in"),
        (
            ["--data", "{root}", "--frames", "box=1:2", "--checkpoint", "{weights}", "--cfg-options", SEG],
            r"'box' needs at least three frames, the first with the target's mask; found 2",
        ),
    ],
)
def test_what_can_be_mended_is_said(
    root: Path, weights: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.replace("{root}", str(root)).replace("{weights}", weights) for argument in arguments]
    assert masks.main(["ostrack", "ostrack_tiny", *filled]) == 1
    assert message in capsys.readouterr().err


def test_help_says_what_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        masks.main(["--help"])
    assert "The first frame, which is given, and the last are\nleft out" in capsys.readouterr().out
