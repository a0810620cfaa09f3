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
    CropWindow,
    crop_window,
    cut_target_mask,
    in_unmirrored_frame,
    jittered_box,
    target_crop,
    window_affine,
)
from mtltrack.data.effects import render_view
from mtltrack.data.frames import Frame, as_frame
from mtltrack.data.transforms.base import CropTransform, Rendered, SceneTransform, SceneView

GRAYSCALE_PROBABILITY = 0.05
FLIP_PROBABILITY = 0.5
FrameAndBox = tuple[np.ndarray | Frame, Tensor]
"""A frame, or its RGB pixels (H, W, 3) uint8, and the target's box (4,) float32 xywh in its pixels."""
Shown = tuple[Frame, Tensor]


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
    transforms: tuple[CropTransform | SceneTransform, ...] = ()
    """Further changes of training crops, in this order; see `mtltrack.data.transforms`."""
    reduced_decode: bool = False
    """Decode JPEG frames no finer than their crops need; see `mtltrack.data.frames`."""


@dataclass(frozen=True)
class Cutting:
    """How a crop was cut out of its frame.

    Attributes:
        window: what was cut, in pixels of the frame as it was then: mirrored, where `frame_mirrored`.
        frame_mirrored: whether the frame was mirrored before.
        mirrored: whether the crop was mirrored after.
    """

    window: CropWindow
    frame_mirrored: bool = False
    mirrored: bool = False

    def cut_mask(self, mask: np.ndarray, size: int) -> np.ndarray:
        """Cut a mask (H, W) of the frame in the same way: (size, size) uint8, 0 in padding."""
        cut = cut_target_mask(mask[:, ::-1] if self.frame_mirrored else mask, self.window, size)
        return np.ascontiguousarray(cut[:, ::-1]) if self.mirrored else cut


@dataclass
class CutFrame:
    """One crop of a sample, flips already applied.

    Attributes:
        image: (size, size, 3) uint8.
        box_xywh: (4,) float32 in [0, 1] of the crop.
        affine: (2, 3) float64 crop pixel -> frame pixel, flips included.
        cutting: how it was cut.
        brightness: factor for the pixels.
        detail: the same for the detail view, or None.
        detail_affine: (2, 3), or None.
        rendered: what scene transforms made of it.
    """

    image: np.ndarray
    box_xywh: Tensor
    affine: np.ndarray
    cutting: Cutting
    brightness: float = 1.0
    detail: np.ndarray | None = None
    detail_affine: np.ndarray | None = None
    rendered: tuple[Rendered, ...] = ()


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

    The detail view is cut around the target with a jitter of its own, with and without `augment`: it stands
    for how far the target is from where the tracker saw it last. It is drawn after everything else, so that
    the other crops are the same without it.
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
        template: FrameAndBox,
        search: Sequence[FrameAndBox],
        rng: SampleRandom,
        allow_flip: bool = True,
    ) -> tuple[CutFrame, list[CutFrame]]:
        """Cut one clip.

        Args:
            template: the frame, or its pixels, and the target's box.
            search: the same, one a search frame.
            rng: the sample's generators.
            allow_flip: False for samples with text.

        Raises:
            RejectedCrop: a crop shows nothing but padding or the jittered box is too small: draw again.
            DataError: a frame can't be decoded.
        """
        joint = self.draw_joint(rng, allow_flip)
        settings = self.settings
        first, *others = [(as_frame(image), box) for image, box in (template, *search)]
        if settings.detail is not None:
            for frame, box in others:  # without its jitter, which is drawn last
                frame.need(_window(box, settings.detail), settings.detail.size)
        template_crop = self._cut_view([first], settings.template, joint, rng, allow_flip, is_search=False)[0]
        crops = self._cut_view(others, settings.search, joint, rng, allow_flip, is_search=True)
        if settings.detail is not None:
            for crop, (frame, box) in zip(crops, others, strict=True):
                _add_detail(crop, frame, box, settings.detail, joint, rng)
        return template_crop, crops

    def _cut_view(
        self,
        frames: Sequence[Shown],
        view: ViewSettings,
        joint: JointDraw,
        rng: SampleRandom,
        allow_flip: bool,
        is_search: bool,
    ) -> list[CutFrame]:
        """Jitter all boxes first, then cut frame by frame: the published order of draws."""
        boxes = [mirror_box(box, frame.size[0]) if joint.flip else box for frame, box in frames]
        extracts = [jittered_box(box, view.center_jitter, view.scale_jitter, rng.torch) for box in boxes]
        results = []
        for original, box, extract in zip(frames, boxes, extracts, strict=True):
            window, source = _window(extract, view), original[0]
            pixels = source.cut(window, view.size, joint.grayscale, mirrored=joint.flip)
            crop = target_crop(pixels, window, extract, box, source.size)
            frame = CutFrame(crop.image, crop.box_xywh, crop.affine, Cutting(window, joint.flip))
            if self.augment:
                jitter = self.settings.brightness_jitter
                frame.brightness = float(rng.numpy.uniform(1 - jitter, 1 + jitter))
                if rng.chance(FLIP_PROBABILITY) and allow_flip:
                    frame = _mirror(frame)
                    crop = crop._replace(valid=crop.valid.flipped())
            if joint.flip:
                frame.affine = in_unmirrored_frame(frame.affine, source.size[0])
            if self.augment:
                self._change(frame, original, rng, is_search)
            if not crop.valid.usable():
                raise RejectedCrop("a crop shows only padding")
            results.append(frame)
        return results

    def _change(self, frame: CutFrame, original: Shown, rng: SampleRandom, is_search: bool) -> None:
        """Apply DATA.TRANSFORMS in their order; those that change the scene only to search crops."""
        for change in self.settings.transforms:
            if not isinstance(change, SceneTransform):
                frame.image = change(frame.image, rng)
            elif is_search:
                _render(frame, original, change, rng)


def _window(extract: Tensor, view: ViewSettings) -> CropWindow:
    try:
        return crop_window(extract, view.factor)
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
    return replace(
        frame,
        image=cv2.flip(frame.image, 1),
        box_xywh=torch.stack((1 - (x + w), y, w, h)),
        affine=_mirror_affine(frame.affine, frame.image.shape[1]),
        cutting=replace(frame.cutting, mirrored=True),
    )


def _mirror_affine(affine: np.ndarray, size: int) -> np.ndarray:
    """Return the matrix of the mirrored crop: its pixel x was pixel size - 1 - x."""
    mirrored = affine.copy()
    mirrored[:, 0] = -affine[:, 0]
    mirrored[:, 2] = affine[:, 2] + affine[:, 0] * (size - 1)
    return mirrored


def _render(frame: CutFrame, original: Shown, change: SceneTransform, rng: SampleRandom) -> None:
    """Let a scene transform change a crop, and the box with it where the frame's border moves."""
    source, box_xywh = original
    x, y, w, h = (float(value) for value in box_xywh)
    box, frame_size = np.array([x, y, x + w, y + h]), source.size
    rendered = change.draw(SceneView(frame.image, frame.affine, box, frame_size), rng)
    frame.image = render_view(rendered.effect, frame.image, frame.affine, frame_size)
    frame.rendered += (rendered,)
    left, top, right, bottom = ((rendered.effect.visible_box(box) - box) / [w, h, w, h]).tolist()
    if frame.affine[0, 0] < 0:
        left, right = -right, -left
    x, y, w, h = frame.box_xywh.tolist()
    frame.box_xywh = torch.tensor([x + left * w, y + top * h, w + (right - left) * w, h + (bottom - top) * h])


def _add_detail(
    crop: CutFrame,
    frame: Frame,
    box_xywh: Tensor,
    view: ViewSettings,
    joint: JointDraw,
    rng: SampleRandom,
) -> None:
    """Cut the detail view around the target, mirrored and grey as the frame's crop is."""
    width = frame.size[0]
    if joint.flip:
        box_xywh = mirror_box(box_xywh, width)
    extract = jittered_box(box_xywh, view.center_jitter, view.scale_jitter, rng.torch)
    window = crop_window(extract, view.factor)
    detail = frame.cut(window, view.size, joint.grayscale, mirrored=joint.flip)
    affine = window_affine(window, view.size)
    if crop.cutting.mirrored:
        detail, affine = cv2.flip(detail, 1), _mirror_affine(affine, view.size)
    crop.detail_affine = in_unmirrored_frame(affine, width) if joint.flip else affine
    for rendered in crop.rendered:
        detail = render_view(rendered.effect, detail, crop.detail_affine, frame.size)
    crop.detail = detail
