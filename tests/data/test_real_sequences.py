"""The real sequences load, with boxes, attributes and clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtltrack.core.conditions import condition_names
from mtltrack.data import ClipDataset, CropSettings, ViewSettings
from mtltrack.data.collate import collate
from mtltrack.data.datasets import FolderSequences
from mtltrack.data.transforms import RenderConditions
from mtltrack.data.transforms.render_conditions import KINDS


@pytest.fixture
def sequences(data_root: Path) -> FolderSequences:
    attributes = data_root / "evalcheck" / "OTB100.json.gz"
    if not (data_root / "sot").is_dir() or not attributes.is_file():
        pytest.skip(f"no sot/ or evalcheck/ in {data_root}")
    ranges = {"Crossing": [1, 80], "Car4_0001-0250": [1, 180]}
    return FolderSequences(data_root / "sot", ranges=ranges, conditions="otb", attributes=attributes)


def test_boxes_and_attributes(sequences: FolderSequences) -> None:
    car, crossing = sequences.sequence(0), sequences.sequence(1)
    assert (car.num_frames, crossing.num_frames) == (180, 80)
    assert car.boxes_xywh[0].tolist() == [69, 50, 107, 87]  # the file says 70,51,107,87, counted from 1
    names = np.array(condition_names())
    assert names[car.labels["cls"]["flags"][0]].tolist() == ["Illumination Change", "Scale Variation"]
    # SV, DEF, FM, OPR, BC
    expected = ["Scale Variation", "Variance in Appearance", "Background Clutter"]
    assert names[crossing.labels["cls"]["flags"][79]].tolist() == expected
    assert names[crossing.labels["cls"]["index"][0]] == "Variance in Appearance"


def test_clips(sequences: FolderSequences) -> None:
    crop = CropSettings(ViewSettings(96, 2.0), ViewSettings(192, 4.0, 3.0, 0.25))
    dataset = ClipDataset([sequences], [1], 8, 2, crop, max_interval=50)
    clip = collate([dataset[(0, i)] for i in range(8)])
    assert clip.labels["cls"]["valid"].all() and not any(source["bad"] for source in clip.sources)
    assert (clip.search.float().std(dim=(2, 3, 4)) > 5).all()


@pytest.mark.parametrize("name", KINDS)
def test_conditions_are_rendered_onto_real_frames(name: str, data_root: Path) -> None:
    if not (data_root / "sot").is_dir():
        pytest.skip(f"no sot/ in {data_root}")
    render = RenderConditions(0.5, [name], (1.0, 1.0))
    crop = CropSettings(ViewSettings(96, 2.0), ViewSettings(192, 4.0, 1.0, 0.1), transforms=(render,))
    dataset = ClipDataset([FolderSequences(data_root / "sot")], [1], 8, 3, crop, max_interval=50)
    label = collate([dataset[(0, i)] for i in range(8)]).labels["cls"]
    number = condition_names().index(name)
    assert label["valid"].all() and 0.2 < float(label["flags"][..., number].float().mean()) < 0.8
    assert torch.equal(label["index"] == number, label["flags"][..., number])
