"""The script that writes rendered sequences to a folder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mtltrack.core.conditions import conditions
from mtltrack.data.datasets.folder import FolderSequences
from mtltrack.data.synthetic.sequences import SyntheticSequences

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_synthetic", ROOT / "tools" / "make_synthetic.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rendered")
    arguments = ["--world", "textures", "--sequences", "2", "--frames", "20", "--size", "96", "64"]
    arguments += ["--seed", "5", "--format", "png"]
    assert script.main([*arguments, "--out", str(out)]) == 0
    return out


def test_the_folder_reads_back_as_it_was_rendered(folder: Path) -> None:
    world = SyntheticSequences(2, 20, (96, 64), seed=5)
    read = FolderSequences(folder)
    assert read.num_sequences == 2
    for i in range(2):
        info, truth = read.sequence(i), world.sequence(i)
        assert info.name == truth.name
        assert np.abs(info.boxes_xywh - truth.boxes_xywh).max() <= 0.005 + 1e-9  # two decimals in the file
        assert np.array_equal(read.image(i, 13), world.image(i, 13))


def test_the_side_car_tells_box_flags_and_time(folder: Path) -> None:
    world = SyntheticSequences(2, 20, (96, 64), seed=5)
    name = world.sequence_name(1)
    lines = [json.loads(line) for line in (folder / name / f"{name}.jsonl").read_text().splitlines()]
    assert [line["frame_id"] for line in lines] == list(range(1, 21))
    truth = world.truth(1, 15)
    x, y, w, h = truth.box_xywh
    assert lines[15]["ground_truth_bbox"] == pytest.approx([x, y, x + w, y + h], abs=0.01)
    assert lines[15]["timestamp"] == pytest.approx(15 / 30)
    for condition in conditions():
        if condition.group:
            flag = lines[15][condition.group][condition.key]["flag"]
            assert flag == truth.flags[condition.index], condition.name


def test_a_folder_with_files_is_left_alone(
    script: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--out", str(folder)]) == 1
    assert "already holds files" in capsys.readouterr().err
