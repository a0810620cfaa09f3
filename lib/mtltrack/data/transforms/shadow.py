"""Shadows on training crops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mtltrack.core.errors import ConfigError
from mtltrack.core.registry import TRANSFORMS

if TYPE_CHECKING:
    from mtltrack.data.augment import SampleRandom


@TRANSFORMS.register_module()
class CastShadow:
    """Darken one side of a random line, as a bridge or a tree does to a street.

    Brightness of the whole crop, the published augmentation, doesn't teach this: a target that enters a
    shadow darkens while the background behind it stays as it is.

    Args:
        probability: share of crops with a shadow.
        darkest: least factor on the shaded pixels; the factor is drawn between this and 1.
        softness: width of the shadow's edge as a share of the crop's side.
    """

    def __init__(self, probability: float = 0.5, darkest: float = 0.3, softness: float = 0.05) -> None:
        if not (0 <= probability <= 1 and 0 < darkest <= 1 and softness > 0):
            raise ConfigError(
                "CastShadow wants PROBABILITY in [0, 1], DARKEST in (0, 1] and SOFTNESS above 0; found "
                f"{probability}, {darkest} and {softness}"
            )
        self.probability, self.darkest, self.softness = probability, darkest, softness

    def __call__(self, image: np.ndarray, rng: SampleRandom) -> np.ndarray:
        """Return the crop, in a share of cases with a shadow."""
        if not rng.chance(self.probability):
            return image
        angle, offset, factor = (
            float(value) for value in rng.numpy.uniform([0, -0.35, self.darkest], [2 * math.pi, 0.35, 1.0])
        )
        position = (np.arange(len(image), dtype=np.float32) + 0.5) / len(image) - 0.5
        distance = math.cos(angle) * position[None, :] + math.sin(angle) * position[:, None] - offset
        shade = 1 - (1 - factor) * np.clip(0.5 + distance / self.softness, 0, 1)  # (size, size) float32
        return cv2.multiply(image, cv2.merge([shade] * 3), dtype=cv2.CV_8U)  # rounds to the nearest
