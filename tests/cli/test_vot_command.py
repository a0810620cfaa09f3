"""`tracking/vot.py`."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mtltrack.cli import vot
from mtltrack.cli.build import build_tracker
from mtltrack.core.config import find_config, load_config

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from fake_trax import QUIT, Mask, Rectangle, fake_trax, request


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a very small tracker with a mask head."""
    cfg = load_config(find_config("ostrack", "ostrack_seg_tiny"), script="ostrack")
    path = tmp_path_factory.mktemp("weights") / "some.pth"
    torch.save({"net": build_tracker(cfg, "ostrack").state_dict(), "config": cfg.dump()}, path)
    return path


def arguments(checkpoint: Path, *more: str) -> list[str]:
    common = ["--script", "ostrack", "--config", "ostrack_seg_tiny", "--checkpoint", str(checkpoint)]
    return [*common, "--device", "cpu", *more]


def test_without_the_library_the_command_says_what_to_install(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trax", None)  # which makes its import fail
    assert vot.main(arguments(checkpoint)) == 1
    said = capsys.readouterr().err
    assert "the library of the TraX protocol can't be loaded" in said and "pip install vot-trax" in said


@pytest.mark.parametrize("mask", [False, True])
def test_session(
    mask: bool,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = tmp_path / "frame.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    pixels = np.zeros((60, 80), np.uint8)
    pixels[20:40, 30:60] = 1
    target = Mask(pixels) if mask else Rectangle(30.0, 20.0, 30.0, 20.0)
    log: list[Any] = []
    script = [request("initialize", image, target), request("frame", image), QUIT]
    monkeypatch.setitem(sys.modules, "trax", fake_trax(script, log))
    assert vot.main(arguments(checkpoint, *(["--mask"] if mask else []))) == 0
    said = capsys.readouterr()
    assert said.out == "" and said.err == "2 frames answered\n"
    ((region, properties),) = [entry for entry in log if entry[0] == "answer"][1][1]
    assert 0 <= properties["confidence"] <= 1
    if mask:
        assert region.array().shape == (60, 80)
    else:
        x, y, w, h = region.bounds()
        assert 0 <= x < 80 and 0 <= y < 60 and w >= 10 and h >= 10


def test_masks_of_a_tracker_without_that_head(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[Any] = []
    monkeypatch.setitem(sys.modules, "trax", fake_trax([QUIT], log))
    given = ["--script", "ostrack", "--config", "ostrack_tiny", "--device", "cpu", "--mask"]
    cfg = load_config(find_config("ostrack", "ostrack_tiny"), script="ostrack")
    path = checkpoint.with_name("box.pth")
    torch.save({"net": build_tracker(cfg, "ostrack").state_dict()}, path)
    assert vot.main([*given, "--checkpoint", str(path)]) == 0
    assert "ostrack_tiny has no TASKS.seg: rectangles are answered" in capsys.readouterr().err
    assert log[0][1] == ["rectangle"]


def test_entry_for_the_workspace(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The toolkit starts the command in an empty folder: every path is absolute."""
    monkeypatch.setattr(sys, "argv", ["tracking/vot.py"])
    monkeypatch.chdir(checkpoint.parent)
    path = tmp_path / "trackers.ini"
    wanted = arguments(Path("some.pth"), "--mask", "--threads", "1", "--trackers-ini", str(path))
    wanted += ["--cfg-options", "TEST.FPS=25"]
    assert vot.main(wanted) == 0
    assert "[ostrack_ostrack_seg_tiny], weights some.pth (--checkpoint)" in capsys.readouterr().out
    entries = configparser.ConfigParser()
    entries.read(path)
    script = Path("tracking/vot.py").resolve()
    assert entries["ostrack_ostrack_seg_tiny"]["command"] == (
        f"{sys.executable} {script} --script ostrack --config ostrack_seg_tiny --checkpoint "
        f"{checkpoint.resolve()} --mask --device cpu --threads 1 --cfg-options TEST.FPS=25"
    )


def test_unknown_weights_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert vot.main(arguments(Path("none.pth"))) == 1
    assert "--checkpoint 'none.pth' is no file" in capsys.readouterr().err


def test_the_help_states_the_defaults() -> None:
    words = " ".join(vot.build_parser().format_help().split())
    assert "hiptrack (the default), ostrack" in words and "name of the configuration (hiptrack)" in words
