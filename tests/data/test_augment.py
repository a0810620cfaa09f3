"""The training transform: same numbers for the same seed, and geometry that survives every flip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtltrack.data.augment import (
    ClipTransform,
    CropSettings,
    CutFrame,
    JointDraw,
    RejectedCrop,
    SampleRandom,
    ViewSettings,
)

SETTINGS = CropSettings(ViewSettings(64, 2.0), ViewSettings(96, 4.0, 1.0, 0.2), ViewSettings(160, 3.0))
BOX = torch.tensor([70.0, 50.0, 24.0, 20.0])
MARK = (85, 58)  # x, y of the one white pixel, inside the target


def marked_frame() -> np.ndarray:
    image = np.zeros((120, 160, 3), np.uint8)
    image[MARK[1] - 1 : MARK[1] + 2, MARK[0] - 1 : MARK[0] + 2] = 255
    return image


def centre_of_light(image: np.ndarray) -> np.ndarray:
    weight = image[:, :, 0].astype(float)
    rows, columns = np.indices(weight.shape)
    return np.array([(columns * weight).sum(), (rows * weight).sum(), weight.sum()]) / weight.sum()


def run(seed: int, **options: bool) -> tuple[CutFrame, list[CutFrame]]:
    view = (marked_frame(), BOX)
    transform = ClipTransform(SETTINGS, augment=options.get("augment", True))
    return transform(view, [view, view], SampleRandom(seed), options.get("allow_flip", True))


@pytest.mark.parametrize("seed", range(12))
def test_matrices_lead_back_to_the_frame_whatever_is_flipped(seed: int) -> None:
    template, search = run(seed)
    for frame in [template, *search]:
        np.testing.assert_allclose(frame.affine @ centre_of_light(frame.image), MARK, atol=0.3)
    for frame in search:
        assert frame.detail is not None and frame.detail_affine is not None
        np.testing.assert_allclose(frame.detail_affine @ centre_of_light(frame.detail), MARK, atol=0.3)


@pytest.mark.parametrize("seed", range(12))
def test_box_of_the_crop_is_the_box_of_the_frame(seed: int) -> None:
    """Box edges go through the matrix as edges: half a pixel off the pixels' centres."""
    for frame in run(seed)[1]:
        size = frame.image.shape[0]
        x, y, w, h = (frame.box_xywh * size).tolist()
        corners = np.array([[x, y, 1.0], [x + w, y + h, 1.0]]).T
        corners[:2] -= 0.5
        found = np.sort(frame.affine @ corners + 0.5, axis=1)
        # crops start at whole pixels (0.5), published labels are half a crop pixel (0.4) and, where the frame
        # was mirrored, one frame pixel off
        np.testing.assert_allclose(found, [[70, 94], [50, 70]], atol=2.1)


def test_flips_happen_and_can_be_forbidden() -> None:
    signs = {frame.affine[0, 0] > 0 for seed in range(12) for frame in run(seed)[1]}
    assert signs == {True, False}
    assert all(frame.affine[0, 0] > 0 for seed in range(12) for frame in run(seed, allow_flip=False)[1])


def test_validation_leaves_brightness_alone() -> None:
    for seed in range(6):
        template, search = run(seed, augment=False)
        assert {frame.brightness for frame in [template, *search]} == {1.0}
    assert all(0.8 <= frame.brightness <= 1.2 and frame.brightness != 1.0 for frame in run(0)[1])


def test_same_seed_same_clip() -> None:
    first, second = run(3)[1], run(3)[1]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert a.brightness == b.brightness and torch.equal(a.box_xywh, b.box_xywh)


def test_draws_of_a_sample_depend_on_seed_epoch_and_index_only() -> None:
    def draws(*numbers: int) -> tuple[float, float, float]:
        rng = SampleRandom.for_sample(*numbers)
        return rng.python.random(), float(rng.numpy.rand()), float(torch.rand((), generator=rng.torch))

    assert draws(42, 3, 7) == draws(42, 3, 7)
    assert len({draws(42, 3, 7), draws(42, 3, 8), draws(42, 4, 7), draws(43, 3, 7), draws(42, 7, 3)}) == 5


def test_grey_is_drawn_first_then_the_flip() -> None:
    rng, python = SampleRandom(5), SampleRandom(5).python
    expected = JointDraw(python.random() < 0.05, python.random() < 0.5)
    assert ClipTransform(SETTINGS).draw_joint(rng) == expected


def test_a_crop_beside_the_frame_is_rejected() -> None:
    beside = torch.tensor([500.0, 400.0, 10.0, 10.0])
    with pytest.raises(RejectedCrop):
        ClipTransform(SETTINGS)((marked_frame(), beside), [], SampleRandom(0))


def test_brightness_varies_as_far_as_it_is_told() -> None:
    view = (marked_frame(), BOX)
    transform = ClipTransform(replace(SETTINGS, brightness_jitter=0.6))
    factors = [transform(view, [view], SampleRandom(seed))[0].brightness for seed in range(40)]
    assert 0.4 <= min(factors) < 0.8 and 1.2 < max(factors) <= 1.6


@pytest.mark.parametrize("seed", range(6))
def test_the_detail_view_changes_nothing_else(seed: int) -> None:
    """Its jitter is drawn last, and depends on no other view's."""
    view = (marked_frame(), BOX)
    jittered = replace(SETTINGS, detail=ViewSettings(160, 3.0, 0.25, 0.1))
    without = ClipTransform(replace(SETTINGS, detail=None))
    plain_template, plain = without(view, [view, view], SampleRandom(seed))
    assert [frame.detail for frame in plain] == [None, None]
    details = []
    for settings in (SETTINGS, jittered):
        template, search = ClipTransform(settings)(view, [view, view], SampleRandom(seed))
        for ours, theirs in zip([template, *search], [plain_template, *plain], strict=True):
            assert np.array_equal(ours.image, theirs.image) and ours.brightness == theirs.brightness
            assert torch.equal(ours.box_xywh, theirs.box_xywh) and np.array_equal(ours.affine, theirs.affine)
        details.append([frame.detail_affine for frame in search])
    for a, b in zip(*details, strict=True):
        assert a is not None and b is not None
        # without jitter the view's middle is the target's: (82, 60), and the square's side is rounded
        np.testing.assert_allclose(a @ [79.5, 79.5, 1] + 0.5, [82, 60], atol=1.1)
        assert (np.abs(b @ [79.5, 79.5, 1] + 0.5 - [82, 60]) <= 0.125 * 22 * 1.5 + 1.1).all()
        assert not np.array_equal(a, b)


def test_the_detail_view_is_jittered_in_validation_too() -> None:
    jittered = replace(SETTINGS, detail=ViewSettings(160, 3.0, 0.25, 0.1))
    view, transform = (marked_frame(), BOX), ClipTransform(jittered, augment=False)
    (frames,) = zip(*(transform(view, [view], SampleRandom(seed))[1] for seed in range(4)), strict=True)
    assert len({str(frame.detail_affine) for frame in frames}) == 4
