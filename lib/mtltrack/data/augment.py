"""Randomness of one sample, and the transform that turns frames and boxes into crops for training.

The transform is the one published with OSTrack and HIPTrack, with the draws in the same order: seeded with
the same number, it gives the same crops. Pixels stay uint8; the brightness factor travels with the sample
and is applied on the device.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from mtltrack.core.errors import DataError
from mtltrack.data.crops import (
    TargetCrop,
    crop_window,
    cut,
    jittered_box,
    jittered_center_crop,
    window_affine,
)
from mtltrack.data.transforms import CropTransform

GRAYSCALE_PROBABILITY = 0.05
FLIP_PROBABILITY = 0.5


class RejectedDraw(Exception):
    """A draw gives no clip and no data is at fault: draw again.

    The message is the kind that reports count, so it names no sequence.
    """


class RejectedCrop(RejectedDraw):
    """A drawn crop shows only padding, or its jittered box vanished."""


class SampleRandom:
    """The three generators that one sample draws from.

    Attributes:
        python: decides choices: source, sequence, frames, grayscale, flips.
        numpy: brightness factors and the reversal of a sequence.
        torch: jitter.
    """

    def __init__(self, seed: int) -> None:
        """Seed all three with the same number, 0 <= seed < 2**32."""
        self.python = random.Random(seed)
        self.numpy = np.random.RandomState(seed)
        self.torch = torch.Generator().manual_seed(seed)

    @classmethod
    def for_sample(cls, seed: int, epoch: int, index: int) -> SampleRandom:
        """Return the generators of sample `index` of an epoch: the same in any process and in any order."""
        return cls(int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0]))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability; always draws one number."""
        return self.python.random() < probability


@dataclass(frozen=True)
class ViewSettings:
    """How one kind of crop is cut.

    Attributes:
        size: side in pixels.
        factor: side of the cut square over the square root of the target's area.
        center_jitter: see `jittered_box`.
        scale_jitter: see `jittered_box`.
    """

    size: int
    factor: float
    center_jitter: float = 0.0
    scale_jitter: float = 0.0


@dataclass(frozen=True)
class CropSettings:
    """How the crops of a clip are cut: template, search frames and, where a task asks for it, the detail."""

    template: ViewSettings
    search: ViewSettings
    detail: ViewSettings | None = None
    brightness_jitter: float = 0.2
    """Each training crop is made up to this share darker or brighter, in [0, 1)."""
    transforms: tuple[CropTransform, ...] = ()
    """Further changes of training crops, in this order; see `mtltrack.data.transforms`."""


@dataclass
class CutFrame:
    """One crop of a sample, flips already applied.

    Attributes:
        image: (size, size, 3) uint8.
        box_xywh: (4,) float32 in [0, 1] of the crop.
        affine: (2, 3) float64 crop pixel -> frame pixel, flips included.
        brightness: factor for the pixels.
        detail: the same for the detail view, or None.
        detail_affine: (2, 3), or None.
    """

    image: np.ndarray
    box_xywh: Tensor
    affine: np.ndarray
    brightness: float = 1.0
    detail: np.ndarray | None = None
    detail_affine: np.ndarray | None = None


@dataclass(frozen=True)
class JointDraw:
    """What is decided once for all frames of a clip."""

    grayscale: bool
    flip: bool


class ClipTransform:
    """Cuts the crops of one clip, at random as published.

    Once a clip: all frames grey (5 %), all frames mirrored (50 %). A crop: jitter of the box; with `augment`
    also a brightness factor and a mirror image of its own (50 %). Without `augment` (validation) the last
    two are left out, as published.
    """

    def __init__(self, settings: CropSettings, augment: bool = True) -> None:
        self.settings = settings
        self.augment = augment

    def draw_joint(self, rng: SampleRandom, allow_flip: bool = True) -> JointDraw:
        """Decide what happens to all frames; the same draws are made when flips are not allowed."""
        grayscale = rng.chance(GRAYSCALE_PROBABILITY)
        flip = rng.chance(FLIP_PROBABILITY)
        return JointDraw(grayscale, flip and allow_flip)

    def __call__(
        self,
        template: tuple[np.ndarray, Tensor],
        search: Sequence[tuple[np.ndarray, Tensor]],
        rng: SampleRandom,
        allow_flip: bool = True,
    ) -> tuple[CutFrame, list[CutFrame]]:
        """Cut one clip.

        Args:
            template: RGB image (H, W, 3) uint8 and the target's box (4,) float32 xywh in frame pixels.
            search: the same, one a search frame.
            rng: the sample's generators.
            allow_flip: False for samples with text.

        Raises:
            RejectedCrop: a crop shows nothing but padding or the jittered box is too small: draw again.
        """
        joint = self.draw_joint(rng, allow_flip)
        first = self._cut_view([template], self.settings.template, joint, rng, allow_flip, None)[0]
        frames = self._cut_view(search, self.settings.search, joint, rng, allow_flip, self.settings.detail)
        return first, frames

    def _cut_view(
        self,
        frames: Sequence[tuple[np.ndarray, Tensor]],
        view: ViewSettings,
        joint: JointDraw,
        rng: SampleRandom,
        allow_flip: bool,
        detail: ViewSettings | None,
    ) -> list[CutFrame]:
        """Jitter all boxes first, then cut frame by frame: the published order of draws."""
        widths = [image.shape[1] for image, _ in frames]
        if joint.flip:
            frames = [(image[:, ::-1], mirror_box(box, image.shape[1])) for image, box in frames]
        extracts = [jittered_box(box, view.center_jitter, view.scale_jitter, rng.torch) for _, box in frames]
        results = []
        for (image, box), extract, width in zip(frames, extracts, widths, strict=True):
            crop = _cut_target(image, extract, box, view, joint.grayscale)
            frame = CutFrame(crop.image, crop.box_xywh, crop.affine)
            if detail is not None:
                window = crop_window(extract, detail.factor)
                frame.detail = cut(image, window, detail.size, joint.grayscale)
                frame.detail_affine = window_affine(window, detail.size)
            if self.augment:
                jitter = self.settings.brightness_jitter
                frame.brightness = float(rng.numpy.uniform(1 - jitter, 1 + jitter))
                if rng.chance(FLIP_PROBABILITY) and allow_flip:
                    frame = _mirror(frame)
                    crop = crop._replace(valid=crop.valid.flipped())
                for change in self.settings.transforms:
                    frame.image = change(frame.image, rng)
            if not crop.valid.usable():
                raise RejectedCrop("a crop shows only padding")
            results.append(_in_unmirrored_frame(frame, width) if joint.flip else frame)
        return results


def _cut_target(
    image: np.ndarray, extract: Tensor, box: Tensor, view: ViewSettings, grayscale: bool
) -> TargetCrop:
    try:
        return jittered_center_crop(image, extract, box, view.factor, view.size, grayscale)
    except DataError as error:
        raise RejectedCrop("the jittered box is too small") from error


def mirror_box(box_xywh: Tensor, width: int) -> Tensor:
    """Return the box in the mirrored frame as published: x' = (width - 1) - (x + w).

    That mirrors edges as if they were pixel centres, so the box stands one pixel too far left; it is kept,
    since the weights that are fine-tuned here were trained with it.
    """
    left = (width - 1) - (box_xywh[0] + box_xywh[2])
    return torch.stack((left, box_xywh[1], box_xywh[2], box_xywh[3]))


def _mirror(frame: CutFrame) -> CutFrame:
    """Mirror a crop left to right, with its box and its matrix."""
    x, y, w, h = frame.box_xywh.unbind()
    box = torch.stack((1 - (x + w), y, w, h))
    image = cv2.flip(frame.image, 1)
    detail = None if frame.detail is None else cv2.flip(frame.detail, 1)
    detail_affine = None
    if frame.detail is not None and frame.detail_affine is not None:
        detail_affine = _mirror_affine(frame.detail_affine, frame.detail.shape[1])
    affine = _mirror_affine(frame.affine, image.shape[1])
    return CutFrame(image, box, affine, frame.brightness, detail, detail_affine)


def _mirror_affine(affine: np.ndarray, size: int) -> np.ndarray:
    """Return the matrix of the mirrored crop: its pixel x was pixel size - 1 - x."""
    mirrored = affine.copy()
    mirrored[:, 0] = -affine[:, 0]
    mirrored[:, 2] = affine[:, 2] + affine[:, 0] * (size - 1)
    return mirrored


def _in_unmirrored_frame(frame: CutFrame, width: int) -> CutFrame:
    """Let the matrices point into the frame as it was before it was mirrored."""

    def undo(affine: np.ndarray) -> np.ndarray:
        result = affine.copy()
        result[0] = -affine[0]
        result[0, 2] += width - 1
        return result

    detail_affine = None if frame.detail_affine is None else undo(frame.detail_affine)
    return replace(frame, affine=undo(frame.affine), detail_affine=detail_affine)
