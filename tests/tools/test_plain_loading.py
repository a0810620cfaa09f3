"""The plain loader makes the clips of the project's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mtltrack.core.errors import DataError
from mtltrack.data.augment import CropSettings, ViewSettings
from mtltrack.data.collate import collate
from mtltrack.data.sampler import ClipDataset
from mtltrack.data.sequences import SequenceInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from plain.loading import Frame, PlainClips, cut_padded, plain_collate

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HEIGHT, WIDTH, FRAMES = 48, 64, 12


class Noise:
    """A sequence of noise whose target runs to the frame's edges."""

    name = "noise"
    num_sequences = 1

    def __init__(self, side: float = 10.0) -> None:
        self.side = side

    def sequence(self, i: int) -> SequenceInfo:
        x = np.linspace(0, WIDTH - self.side, FRAMES)
        y = np.linspace(0, HEIGHT - self.side, FRAMES)
        boxes = np.stack([x, y, np.full(FRAMES, self.side), np.full(FRAMES, self.side)], axis=1)
        return SequenceInfo("noise", boxes, np.ones(FRAMES, dtype=bool))

    def image(self, i: int, frame: int) -> np.ndarray:
        return np.random.default_rng(frame).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_clips(augment: bool = True, jitter: float = 4.5, side: float = 10.0) -> ClipDataset:
    crop = CropSettings(ViewSettings(32, 2.0), ViewSettings(64, 4.0, jitter, 0.5))
    source = Noise(side)
    return ClipDataset([source], None, 8, 2, crop, "causal", 200, augment, seed=3, tasks=())


@pytest.mark.parametrize("augment", [True, False])
def test_the_same_crops_and_boxes(augment: bool) -> None:
    clips = make_clips(augment)
    plain = PlainClips(clips, MEAN, STD)
    assert len(plain) == 8
    numbers = [(epoch, number) for epoch in range(4) for number in range(8)]
    ours = collate([clips[index] for index in numbers]).normalised(MEAN, STD)
    template, search = plain_collate([plain[index] for index in numbers])
    # pixels are equal; dividing by 255 before or after the factor of brightness rounds differently
    torch.testing.assert_close(ours.template, template.images[:, 0], rtol=0, atol=2e-6)
    torch.testing.assert_close(ours.search, search.images, rtol=0, atol=2e-6)
    torch.testing.assert_close(ours.template_boxes_xywh, template.boxes_xywh[:, 0], rtol=0, atol=1e-6)
    x, y, w, h = search.boxes_xywh.unbind(-1)
    centres = torch.stack([x + w / 2, y + h / 2, w, h], dim=-1)
    torch.testing.assert_close(ours.labels["box"]["cxcywh"], centres, rtol=0, atol=1e-6)
    redrawn = [source for source in ours.sources if source["redraws"]]
    assert redrawn  # the random stream stays the same after a crop that is thrown away


def test_what_is_padding_by_hand() -> None:
    frame = Frame(
        np.full((8, 8, 3), 255, dtype=np.uint8), torch.tensor([2.0, 2.0, 4.0, 4.0]), torch.ones(8, 8)
    )
    pixels, mask, padding, scale = cut_padded(
        frame, torch.tensor([-2.0, 2.0, 4.0, 4.0]), ViewSettings(8, 2.0)
    )
    # the square is 8 wide and begins at x = -4, y = 0: four columns of padding, and at the edge below a row
    # more than needed
    assert scale == 1 and pixels.shape == (8, 8, 3)
    wanted = torch.zeros(8, 8, dtype=torch.bool)
    wanted[:, :4] = True
    wanted[7] = True
    assert torch.equal(padding, wanted)
    assert torch.equal(mask, (~wanted).float()) and np.array_equal(pixels[..., 0] == 0, wanted.numpy())
    nothing, mask, padding, _ = cut_padded(frame, torch.tensor([99.0, 2.0, 4.0, 4.0]), ViewSettings(8, 2.0))
    assert not nothing.any() and not mask.any() and padding.all()


def test_data_that_give_no_clip() -> None:
    with pytest.raises(DataError, match=r"no usable clip in 100 draws \(epoch 1, sample 2\)"):
        PlainClips(make_clips(jitter=1e4), MEAN, STD)[1, 2]
