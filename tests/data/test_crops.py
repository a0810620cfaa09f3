"""Crops: hand-worked windows, the references, and masks against an explicit one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mtltrack.core.errors import DataError
from mtltrack.data.crops import (
    CropWindow,
    crop_affine,
    crop_window,
    cut,
    cut_mask,
    jittered_box,
    sample_target,
    transform_image_to_crop,
    valid_pixels,
)

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def references(references_root: Path) -> dict[str, Any]:
    path = references_root / "functions.pt"
    if not path.is_file():
        pytest.skip(f"no {path}")
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


@pytest.mark.parametrize(
    "key", ["sample_target", "transform_image_to_crop", "jittered_center_crop", "jitter", "processing"]
)
def test_equal_to_the_references(
    key: str, references: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    from parity import functions_data
    from parity.report import Report

    report = Report("functions.pt")
    functions_data.compare({key: references[key]}, report)
    assert report.values + report.decisions > 0
    assert report.passed, report.failures + report.differing


def test_window_is_centred_and_as_large_as_the_factor_says() -> None:
    # sqrt(9 * 16) = 12, times 2 = 24; centre (24.5, 28), minus 12 = (12.5, 16); 12.5 rounds to the even 12
    assert crop_window([20, 20, 9, 16], 2.0) == CropWindow(left=12, top=16, side=24)
    # sqrt(2 * 3) * 2 = 4.9 -> 5
    assert crop_window([0, 0, 2, 3], 2.0).side == 5


@pytest.mark.parametrize(
    "box", [[1, 1, 0, 5], [1, 1, 4, -1], [float("nan"), 1, 4, 4], [1, 1, float("inf"), 4]]
)
def test_a_box_without_area_is_refused(box: list[float]) -> None:
    with pytest.raises(DataError, match="finite box with w > 0 and h > 0; found x="):
        sample_target(np.zeros((9, 9, 3), np.uint8), box, 2.0, 8)


def test_crop_without_resizing_shows_the_frame_and_black() -> None:
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3) + 1
    crop, factor = sample_target(image, [0, 0, 2, 2], 2.0, 4)  # window from (-1, -1), 4 pixels a side
    assert factor == 1.0
    assert not crop[0].any() and not crop[:, 0].any()
    np.testing.assert_array_equal(crop[1:, 1:], image[:3, :3])


def test_last_column_is_lost_where_a_window_touches_the_edge() -> None:
    image = np.full((8, 8, 3), 9, np.uint8)
    crop = cut(image, CropWindow(left=4, top=2, side=4), 4)  # ends exactly at the right edge: published quirk
    assert crop[:, :3].all() and not crop[:, 3].any()


@pytest.mark.parametrize("window", [CropWindow(90, 2, 6), CropWindow(-20, 2, 6), CropWindow(3, -50, 6)])
def test_a_window_beside_the_frame_is_all_padding(window: CropWindow) -> None:
    image = np.full((10, 12, 3), 200, np.uint8)
    assert not cut(image, window, 32).any()
    valid = valid_pixels(window, 12, 10, 32)
    assert valid.attention_mask().all() and not valid.usable()


@pytest.mark.parametrize("seed", range(30))
def test_valid_pixels_equal_a_resized_whole_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height, size = int(rng.integers(5, 60)), int(rng.integers(5, 60)), int(rng.choice([16, 32, 48]))
    window = CropWindow(int(rng.integers(-30, 50)), int(rng.integers(-30, 50)), int(rng.integers(1, 90)))
    image = np.full((height, width, 3), 255, np.uint8)
    columns, rows = window.inside(width, height)
    mask = np.ones((window.side, window.side))
    mask[rows, columns] = 0
    valid = valid_pixels(window, width, height, size)
    np.testing.assert_array_equal(valid.attention_mask(), cv2.resize(mask, (size, size)) != 0)
    np.testing.assert_array_equal(valid.flipped().attention_mask(), valid.attention_mask()[:, ::-1])
    assert (cut(image, window, size)[~valid.attention_mask()] == 255).all()
    small = torch.nn.functional.interpolate(
        torch.tensor(valid.attention_mask())[None, None].float(), size=size // 16
    )
    assert valid.usable() == (not small.bool().all())


def test_a_window_far_larger_than_the_frame_costs_little() -> None:
    image = np.full((20, 20, 3), 255, np.uint8)
    crop = cut(image, CropWindow(-9000, -9000, 18000), 16)
    assert crop.shape == (16, 16, 3)


def test_grey_crop_equals_the_crop_of_the_grey_frame() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None].repeat(3, axis=2)
    window = CropWindow(-5, 10, 37)
    np.testing.assert_array_equal(cut(image, window, 24, grayscale=True), cut(grey, window, 24))


def test_affine_finds_the_frame_pixel_of_a_crop_pixel() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[33, 47] = 255  # one white pixel
    box = [40, 28, 16, 16]  # window 32 a side, enlarged 4 times
    crop, factor = sample_target(image, box, 2.0, 128)
    assert factor == 4.0
    weight = crop[:, :, 0].astype(float)
    rows, columns = np.indices(weight.shape)
    centre = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    np.testing.assert_allclose(crop_affine(box, 2.0, 128) @ [*centre, 1.0], [47, 33], atol=0.01)


def test_box_in_crop_by_hand() -> None:
    box, extract = torch.tensor([10.0, 20.0, 8.0, 4.0]), torch.tensor([8.0, 18.0, 8.0, 4.0])
    # centres (14, 22) and (12, 20): 2 pixels apart, doubled; the crop's centre is (64 - 1) / 2
    expected = torch.tensor([31.5 + 4 - 8, 31.5 + 4 - 4, 16.0, 8.0])
    torch.testing.assert_close(transform_image_to_crop(box, extract, 2.0, 64, normalise=False), expected)
    torch.testing.assert_close(transform_image_to_crop(box, extract, 2.0, 64), expected / 64)


def test_jitter_without_strength_keeps_the_box_but_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    box = torch.tensor([4.0, 5.0, 6.0, 8.0])
    torch.testing.assert_close(jittered_box(box, 0, 0, generator), box)
    other = torch.Generator().manual_seed(0)
    torch.randn(2, generator=other), torch.rand(2, generator=other)
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=other))


def test_mask_is_cut_like_the_image() -> None:
    mask = np.zeros((10, 10))
    mask[2:5, 3:6] = 1
    result = cut_mask(mask, CropWindow(1, 1, 6), 6)
    np.testing.assert_array_equal(result, np.pad(mask[1:7, 1:7], 0))
