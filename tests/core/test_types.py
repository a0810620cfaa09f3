"""Clip and Tokens: normalisation by hand, moving, wrong shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mtltrack.core.types import Clip, Tokens, normalise

MEAN, STD = [0.5, 0.25, 0.0], [0.5, 0.25, 2.0]


def make_clip(**changed: object) -> Clip:
    clip = Clip(
        template=torch.full((2, 3, 4, 4), 255, dtype=torch.uint8),
        template_boxes_xywh=torch.tensor([[0.25, 0.25, 0.5, 0.5]] * 2),
        search=torch.full((2, 3, 3, 8, 8), 51, dtype=torch.uint8),
        affine=torch.eye(2, 3).repeat(2, 3, 1, 1),
        timestamps=torch.zeros(2, 3),
        labels={"cls": {"valid": torch.ones(2, 3, dtype=torch.bool), "index": torch.full((2, 3), 9)}},
        sources=[{"sequence": "a"}, {"sequence": "b"}],
    )
    return replace(clip, **changed)  # type: ignore[arg-type]


def test_sizes() -> None:
    clip = make_clip()
    assert (clip.batch_size, clip.num_frames) == (2, 3)


def test_normalised_by_hand() -> None:
    clip = make_clip().normalised(MEAN, STD)
    # 255 is 1.0: (1 - .5) / .5 = 1, (1 - .25) / .25 = 3, 1 / 2 = .5
    torch.testing.assert_close(clip.template[0, :, 0, 0], torch.tensor([1.0, 3.0, 0.5]))
    # 51 is 0.2: (.2 - .5) / .5 = -.6, (.2 - .25) / .25 = -.2, .2 / 2 = .1
    torch.testing.assert_close(clip.search[1, 2, :, 7, 7], torch.tensor([-0.6, -0.2, 0.1]))
    assert clip.template.dtype == clip.search.dtype == torch.float32


def test_brightness_scales_each_image_and_is_clamped() -> None:
    brightness = torch.tensor([[1.0, 2.0, 10.0], [0.5, 0.0, 1.0]])
    clip = make_clip(search_brightness=brightness, template_brightness=torch.tensor([0.5, 3.0]))
    done = clip.normalised([0.0] * 3, [1.0] * 3)
    # 51 / 255 = 0.2, times the factor, at most 1
    expected = torch.tensor([[0.2, 0.4, 1.0], [0.1, 0.0, 0.2]])
    torch.testing.assert_close(done.search[:, :, 0, 0, 0], expected)
    torch.testing.assert_close(done.template[:, 0, 0, 0], torch.tensor([0.5, 1.0]))
    assert done.search_brightness is None
    assert done.template_brightness is None
    assert clip.search.dtype == torch.uint8  # the clip that was given is unchanged


def test_normalised_twice_is_normalised_once() -> None:
    once = make_clip().normalised(MEAN, STD)
    assert once.normalised(MEAN, STD) is once


def test_detail_view_is_normalised_too() -> None:
    detail = torch.full((2, 3, 3, 6, 6), 51, dtype=torch.uint8)
    done = make_clip(detail=detail).normalised(MEAN, STD)
    assert done.detail is not None
    torch.testing.assert_close(done.detail[0, 0, :, 0, 0], torch.tensor([-0.6, -0.2, 0.1]))


def test_normalise_does_not_touch_its_input() -> None:
    images = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)
    normalise(images, MEAN, STD, torch.tensor([0.0]))
    assert images.eq(51).all()


def test_to_moves_every_tensor_and_keeps_the_rest() -> None:
    moved = make_clip().to("meta")
    tensors = [moved.template, moved.template_boxes_xywh, moved.search, moved.affine, moved.timestamps]
    tensors += list(moved.labels["cls"].values())
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.detail is None
    assert moved.sources == [{"sequence": "a"}, {"sequence": "b"}]


@pytest.mark.parametrize(
    ("template", "search"),
    [((2, 3, 4, 4), (2, 3, 8, 8)), ((3, 4, 4), (2, 1, 3, 8, 8)), ((1, 3, 4, 4), (2, 1, 3, 8, 8))],
)
def test_wrong_shapes(template: tuple[int, ...], search: tuple[int, ...]) -> None:
    message = r"a clip needs template \(B, 3, Hz, Wz\) and search \(B, T, 3, H, W\); found "
    with pytest.raises(ValueError, match=message):
        make_clip(template=torch.zeros(template), search=torch.zeros(search))


def test_search_maps_put_tokens_in_rows_of_the_grid() -> None:
    search = torch.arange(6.0).reshape(1, 1, 6, 1)  # token 4 stands in row 1, column 1 of 2 x 3
    tokens = Tokens(template=torch.zeros(1, 4, 1), search=search, grid=(2, 3))
    maps = tokens.search_maps()
    assert maps.shape == (1, 1, 1, 2, 3)
    torch.testing.assert_close(maps[0, 0, 0], torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]))
