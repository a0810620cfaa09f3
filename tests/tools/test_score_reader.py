"""`tools/real/reader.py` on made-up crops and an untrained network."""

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
import reader

CONFIG = ["ostrack", "ostrack_reader_tiny"]


def test_the_constant_takes_the_most_frequent_character_at_each_place() -> None:
    assert reader.constant_text(["AB1", "AC1", "XC2", "LONG", "LONGER", "AC3"]) == "AC1"


def test_scores_are_those_of_the_readings() -> None:
    scores = reader.score([("AB12", "AB12"), ("A12", "AB12")])
    assert scores == {"exact": 0.5, "cer": 1 / 8, "length": 0.5}


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    """Options that make the tiny configuration train on made-up crops."""
    lines = []
    for number in range(4):
        image = np.full((30, 94, 3), 60 * number, dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / f"crop{number}.png"), image)
        lines.append(f"crop{number}.png,AB{number}")
    (tmp_path / "groundtruth.csv").write_text("\n".join(lines), encoding="utf-8")
    entry = f"{{TYPE: PlateCrops, ROOT: {tmp_path}, SPLIT: train, TEST_EVERY: 2}}"
    return [f"DATA.TRAIN.DATASETS_NAME=[{entry}]", "DATA.TRAIN.DATASETS_RATIO=[1]"]


def test_readings_of_left_out_crops_are_scored(
    config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = load_config(find_config(*CONFIG), config, script="ostrack")
    weights = tmp_path / "weights.pth"
    torch.save({"net": build_tracker(cfg, "ostrack").state_dict()}, weights)
    out = tmp_path / "scores" / "reader.json"
    arguments = [*CONFIG, "--checkpoint", str(weights), "--rendered", "3", "--out", str(out)]
    assert reader.main([*arguments, "--cfg-options", *config]) == 0
    printed = capsys.readouterr().out
    name = tmp_path.name
    assert "constant AB0" in printed and "box found by the head plate" in printed
    content = json.loads(out.read_text(encoding="utf-8"))
    rows = content["readings"]
    assert [text for _, text in rows[f"{name}: reader"]] == ["AB1", "AB3"]
    assert [text for _, text in rows[f"{name}: reader, crops trained on"]] == ["AB0", "AB2"]
    assert content["scores"][f"{name}: constant AB0"] == {
        "exact": 0.0,
        "cer": pytest.approx(1 / 3),
        "length": 1.0,
    }
    assert len(rows["rendered: reader"]) == 3


def test_what_was_trained_on_is_not_scored(config: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    spoiled = [config[0].replace("SPLIT: train", "SPLIT: all"), config[1]]
    assert reader.main([*CONFIG, "--cfg-options", *spoiled]) == 1
    assert "nothing is left that it wasn't trained on. Set SPLIT: train" in capsys.readouterr().err
    none = ["DATA.TRAIN.DATASETS_NAME=[{TYPE: RenderedPlates}]", "DATA.TRAIN.DATASETS_RATIO=[1]"]
    assert reader.main([*CONFIG, "--cfg-options", *none]) == 1
    assert "DATA.TRAIN.DATASETS_NAME names no PlateCrops" in capsys.readouterr().err
    assert reader.main(["ostrack", "ostrack_cls_tiny"]) == 1
    assert "has no task ocr; its tasks: cls" in capsys.readouterr().err
    assert reader.main([*CONFIG, "--rendered", "0", "--cfg-options", *config]) == 1
    assert "--rendered is 0; it must be at least 1" in capsys.readouterr().err


def test_help_says_what_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reader.main(["--help"])
    assert "most frequent character" in capsys.readouterr().out
