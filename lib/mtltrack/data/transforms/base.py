"""What DATA.TRANSFORMS may name: changes of a crop's pixels, and changes of the scene that a crop shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from mtltrack.data.effects import Effect

if TYPE_CHECKING:
    from mtltrack.data.augment import SampleRandom


class CropTransform(Protocol):
    """Changes the pixels of any training crop; all labels stay as they are, so it must not move pixels."""

    def __call__(self, image: np.ndarray, rng: SampleRandom) -> np.ndarray:
        """Return the changed crop, (size, size, 3) uint8 RGB."""
        ...


@dataclass(frozen=True)
class SceneView:
    """A search crop and the scene that it shows.

    Attributes:
        image: (size, size, 3) uint8 RGB.
        affine: (2, 3) float64, crop pixel -> frame pixel.
        box_xyxy: (4,) float64, the target's box in frame pixels.
        frame_size: width and height of the frame in pixels.
    """

    image: np.ndarray
    affine: np.ndarray
    box_xyxy: np.ndarray
    frame_size: tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """What a scene transform does to a frame.

    Attributes:
        effect: rendered into the search crop and its detail view.
        flags: (10,) bool, the scene conditions that the frame then shows because of it.
        known: (10,) bool, the conditions that are told so, for a frame whose source tells none.
    """

    effect: Effect
    flags: np.ndarray
    known: np.ndarray


@runtime_checkable
class SceneTransform(Protocol):
    """Changes what search frames show, and with it their labels: box, mask, plate, text and conditions.

    The template stays as it is: a condition is told by what differs from it.
    """

    def draw(self, view: SceneView, rng: SampleRandom) -> Rendered:
        """Decide what happens to a frame; called for each search frame, also where nothing happens."""
        ...
