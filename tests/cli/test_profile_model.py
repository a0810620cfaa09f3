"""`tracking/profile_model.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mtltrack.cli import profile_model
from mtltrack.training.stages import plan_stages


class Parts(nn.Module):
    """A tracker of two linear layers and a head, with a parameter that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 4)
        self.box_head = nn.Linear(4, 2, bias=False)
        self.cls_head = nn.Linear(4, 1)
        self.nothing = nn.ReLU()

    def tracker_parts(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "box": self.box_head}

    def task_parts(self) -> dict[str, nn.Module]:
        return {"cls": self.cls_head, "nothing": self.nothing}

    @staticmethod
    def unread_parameters() -> set[str]:
        return {"backbone.bias"}


def test_parameters_by_part_and_stage() -> None:
    net = Parts()
    assert profile_model.count_parameters(net) == {"backbone": 16, "box": 8, "cls": 5, "all": 29}  # type: ignore[arg-type]
    stages = plan_stages(
        parts=["backbone", "box"], tasks=["cls"], epochs=1, lr=1.0, freeze_backbone=False, two_stage=True
    )
    assert profile_model.count_trainable(net, stages) == {  # type: ignore[arg-type]
        "heads": {"backbone": 0, "box": 0, "cls": 5, "nothing": 0, "all": 5},
        "joint": {"backbone": 12, "box": 8, "cls": 5, "nothing": 0, "all": 25},
    }


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "costs.json"
    arguments = ["--script", "hiptrack", "--config", "hiptrack_seg_tiny", "--device", "cpu"]
    arguments += ["--frames", "1", "--memory", "2", "4", "--batch", "2", "--json", str(path)]
    assert profile_model.main(arguments) == 0
    said = capsys.readouterr().out
    for wanted in (
        "GFLOPs, template 64, search 128, batch 2",
        "2 in memory, written",
        "history: mask encoder",
    ):
        assert wanted in said
    assert "ms (median of 1, fp32;" in said and "MB at most (" in said and "trained in 'heads'" in said
    found = json.loads(path.read_text())
    assert [(cost["entries"], cost["writes"]) for cost in found["frames"]] == [
        (2, False),
        (4, False),
        (2, True),
    ]
    first, second, _ = found["frames"]
    read = "history: memory read"
    assert 2 * first["operations"][read] == second["operations"][read]
    assert first["operations_total"] == sum(first["operations"].values())
    assert set(first["seconds"]) == {"backbone", "history: key, fusion", read, "box", "seg"}
    assert found["whole"]["count"] == 1 and found["memory"]["process"] >= found["memory"]["before"]
    assert found["setting"]["batch"] == 2 and found["trainable"]["heads"]["backbone"] == 0


def test_every_head_can_be_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Also one that hands a parameter to a layer, and one that asks for a detail view."""
    arguments = ["--script", "ostrack", "--config", "ostrack_mtl_tiny", "--device", "cpu", "--frames", "0"]
    assert profile_model.main(arguments) == 0
    said = capsys.readouterr().out
    counted = said[said.index("GFLOPs") :]
    for task in ("cls", "seg", "plate", "ocr", "alert"):
        assert f"  {task} " in counted
    assert "milliseconds" not in said and "executed" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "hiptrack_tini"], "hiptrack_tiny"),
        (["--frames", "-1"], "--frames must be 0 or more, and --batch 1 or more"),
        (["--batch", "0"], "--frames must be 0 or more, and --batch 1 or more"),
        (["--memory", "0"], "--memory 0: the memory holds 1 to 150 entries (MODEL.MAX_MEM)"),
        (["--memory", "1", "151"], "--memory 151: the memory holds 1 to 150 entries (MODEL.MAX_MEM)"),
        (["--script", "ostrack", "--config", "ostrack_tiny", "--memory", "1"], "this tracker has no history"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile_model.main(["--config", "hiptrack_tiny", "--device", "cpu", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.gpu
def test_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    arguments = ["--config", "hiptrack_tiny", "--frames", "2", "--memory", "1", "--device", "cuda:0"]
    assert profile_model.main(arguments) == 0
    said = capsys.readouterr().out
    assert "memory of the GPU's tensors" in said and "on cuda:0 (" in said


def test_the_help_states_the_defaults() -> None:
    words = " ".join(profile_model.build_parser().format_help().split())
    assert "hiptrack (the default), ostrack" in words and "name of the configuration (hiptrack)" in words
