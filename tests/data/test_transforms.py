from __future__ import annotations

import math

import numpy as np
import pytest

from mtltrack.core.errors import ConfigError
from mtltrack.data.augment import SampleRandom
from mtltrack.data.build import build_transforms
from mtltrack.data.transforms import CastShadow


class Fixed:
    """A generator that draws what it was told."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def uniform(self, low: list[float], high: list[float]) -> np.ndarray:
        return np.array(self.values)


WHITE = np.full((64, 64, 3), 200, np.uint8)


def test_a_shadow_darkens_one_side_of_a_line_and_leaves_the_other() -> None:
    shadow = CastShadow(probability=1.0, darkest=0.5)
    for seed in range(20):
        image = shadow(WHITE, SampleRandom(seed))
        lit, dark = image.max(), image.min()
        assert lit == 200  # the untouched side
        assert 100 <= dark <= 200
        shaded = (image[..., 0] < (int(lit) + int(dark)) / 2).mean()
        assert dark > 195 or 0.05 < shaded < 0.95
    assert WHITE.min() == 200


def test_shaded_pixels_are_rounded_and_lit_ones_stay_whatever_their_value() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(256).reshape(256, 256, 1).repeat(3, 2)
    rng = SampleRandom(7)
    rng.numpy = Fixed([math.pi, 0.0, 0.5])  # type: ignore[assignment]  # the left half at 0.5
    shaded = CastShadow(1.0, softness=1e-6)(image, rng)
    assert np.array_equal(shaded[:, 128:], image[:, 128:]) and shaded.dtype == np.uint8
    halves = np.arange(256) / 2
    assert np.abs(shaded[:, :128] - halves[:, None, None]).max() <= 0.5
    assert abs(float((shaded[:, :128] - halves[:, None, None]).mean())) < 0.01  # not darker than asked for


def test_the_same_seed_casts_the_same_shadow_and_no_chance_casts_none() -> None:
    first, second = (CastShadow(1.0)(WHITE, SampleRandom(3)) for _ in range(2))
    assert np.array_equal(first, second)
    assert CastShadow(0.0)(WHITE, SampleRandom(3)) is WHITE


def test_built_by_name_with_messages() -> None:
    (shadow,) = build_transforms([{"TYPE": "CastShadow", "DARKEST": 0.4}])
    assert isinstance(shadow, CastShadow) and shadow.darkest == 0.4
    with pytest.raises(ConfigError, match=r"CastShadow has no argument DARKES. Did you mean 'DARKEST'\?"):
        build_transforms([{"TYPE": "CastShadow", "DARKES": 0.4}])
    with pytest.raises(KeyError, match="'Shadow' is not a registered transform"):
        build_transforms([{"TYPE": "Shadow"}])
    with pytest.raises(ConfigError, match="DARKEST in"):
        build_transforms([{"TYPE": "CastShadow", "DARKEST": 0.0}])
