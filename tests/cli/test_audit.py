"""The command that audits gradients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mtltrack.cli.audit import main
from mtltrack.tasks.cls import ClsHead

SMALL = [
    "DATA.SEARCH.SIZE=64",
    "DATA.TEMPLATE.SIZE=32",
    "MODEL.BACKBONE.EMBED_DIM=24",
    "MODEL.BACKBONE.DEPTH=3",
    "MODEL.HEAD.NUM_CHANNELS=64",
    "TEST.SEARCH_SIZE=64",
    "TEST.TEMPLATE_SIZE=32",
]
COMMAND = ["--script", "hiptrack", "--config", "hiptrack_cls_tiny"]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_healthy_model_passes_and_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    status = main([*COMMAND, "--report", str(tmp_path), "--cfg-options", *SMALL])
    shown = capsys.readouterr().out
    assert status == 0, shown
    assert "passed: " in shown and "stage 'joint'" in shown
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content["model"] == "hiptrack hiptrack_cls_tiny"
    assert [stage["name"] for stage in content["stages"]] == ["box", "heads", "joint"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "audit.html",
        "audit.json",
        "box.png",
        "heads.png",
        "joint.png",
    ]


def test_a_violation_is_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    forward = ClsHead.forward

    def cut(self, tokens, upstream, clip):
        tokens.search = tokens.search.detach()
        return forward(self, tokens, upstream, clip)

    monkeypatch.setattr(ClsHead, "forward", cut)
    assert main([*COMMAND, "--stage", "joint", "--cfg-options", *SMALL]) == 1
    shown = capsys.readouterr().out
    assert "FAILED: 1 violated expectation(s)" in shown and "-> backbone, history (" in shown
    assert "cut at detach at tests/cli/test_audit.py" in shown


def test_an_unknown_stage_is_named(capsys: pytest.CaptureFixture) -> None:
    assert main([*COMMAND, "--stage", "jiont", "--cfg-options", *SMALL]) == 1
    error = capsys.readouterr().err
    assert "--stage jiont: there is no such stage. Did you mean 'joint'?" in error
    assert "This configuration has: box, heads, joint" in error


def test_real_samples_are_chosen_by_their_labels(capsys: pytest.CaptureFixture) -> None:
    rendered = ["--config", "hiptrack_cls_tiny_synthetic", "--data", "real", "--stage", "joint"]
    source = "DATA.TRAIN.DATASETS_NAME=[{TYPE: SyntheticSequences, NUM_SEQUENCES: 1, NUM_FRAMES: 30}]"
    status = main(["--script", "hiptrack", *rendered, "--cfg-options", *SMALL, source])
    shown = capsys.readouterr().out
    assert status == 0, shown
    assert "cls/cls" in shown and "unlabelled" not in shown
