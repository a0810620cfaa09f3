"""The loading of training clips in its plain form: everything is done to whole frames and to floats.

As in the published pipeline: the decoded frame is mirrored and made grey as a whole, a float mask of it is
mirrored and cut with it, the padding of each crop becomes a float mask that is resized, and the crop is
jittered and normalised as floats in the worker, which hands four bytes a colour on. The random draws are
those of the project's own loader, so that both make the same clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from mtltrack.core.errors import DataError
from mtltrack.data.augment import FLIP_PROBABILITY, GRAYSCALE_PROBABILITY, SampleRandom, ViewSettings
from mtltrack.data.crops import crop_window, jittered_box, transform_image_to_crop
from mtltrack.data.sampler import MAX_DRAWS, ClipDataset

STRIDE = 16  # crop pixels a token


class Redraw(Exception):
    """A drawn clip can't be used."""


@dataclass
class Frame:
    """A frame, the target's box in it and a mask of it, all of which are changed together."""

    image: np.ndarray  # (H, W, 3) uint8
    box_xywh: Tensor  # (4,)
    mask: Tensor  # (H, W) float32


@dataclass
class PlainView:
    """The crops of a template (T = 1) or of the search frames, ready for the network.

    Attributes:
        images: (T, 3, size, size) float32 normalised.
        boxes_xywh: (T, 4) in [0, 1] of the crop.
        masks: (T, size, size) float32, the cut mask.
        padding: (T, size, size) bool, True where a pixel isn't the frame's.
    """

    images: Tensor
    boxes_xywh: Tensor
    masks: Tensor
    padding: Tensor


class PlainClips(Dataset[tuple[PlainView, PlainView]]):
    """Template and search crops of a project's clips, cut in the plain way.

    Args:
        clips: which frames of which sequences, how they are cut; its tasks and transforms aren't used.
        mean: DATA.MEAN.
        std: DATA.STD.
    """

    def __init__(self, clips: ClipDataset, mean: Sequence[float], std: Sequence[float]) -> None:
        self.clips = clips
        self.mean = torch.tensor(list(mean))[:, None, None]
        self.std = torch.tensor(list(std))[:, None, None]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: tuple[int, int]) -> tuple[PlainView, PlainView]:
        """Return the template's and the search frames' view of sample (epoch, number)."""
        rng = SampleRandom.for_sample(self.clips.seed, *index)
        for _ in range(MAX_DRAWS):
            try:
                return self._draw(rng)
            except Redraw:
                continue
        raise DataError(f"no usable clip in {MAX_DRAWS} draws (epoch {index[0]}, sample {index[1]})")

    def _draw(self, rng: SampleRandom) -> tuple[PlainView, PlainView]:
        clips = self.clips
        source = clips.sources[rng.python.choices(range(len(clips.sources)), clips.ratios)[0]]
        i = rng.python.randrange(source.num_sequences)
        info = source.sequence(i)
        choice = clips.choose_frames(np.flatnonzero(info.visible), clips.num_search, clips.max_interval, rng)
        if choice is None:
            raise Redraw
        frames = []
        for number in (choice.template, *choice.search):
            image = source.image(i, number)
            box = torch.from_numpy(info.boxes_xywh[number].astype(np.float32))
            frames.append(Frame(image, box, torch.zeros(image.shape[:2])))
        grey = rng.chance(GRAYSCALE_PROBABILITY)
        mirror = rng.chance(FLIP_PROBABILITY) and not info.has_text
        for frame in frames:
            change_whole(frame, grey, mirror)
        crop = clips.transform.settings
        may_mirror = not info.has_text
        return (
            self._view(frames[:1], crop.template, rng, may_mirror),
            self._view(frames[1:], crop.search, rng, may_mirror),
        )

    def _view(
        self, frames: Sequence[Frame], view: ViewSettings, rng: SampleRandom, may_mirror: bool
    ) -> PlainView:
        extracts = [
            jittered_box(frame.box_xywh, view.center_jitter, view.scale_jitter, rng.torch) for frame in frames
        ]
        parts = [
            self._crop(frame, extract, view, rng, may_mirror)
            for frame, extract in zip(frames, extracts, strict=True)
        ]
        return PlainView(*(torch.stack(values) for values in zip(*parts, strict=True)))

    def _crop(
        self, frame: Frame, extract: Tensor, view: ViewSettings, rng: SampleRandom, may_mirror: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pixels, mask, padding, scale = cut_padded(frame, extract, view)
        box = transform_image_to_crop(frame.box_xywh, extract, scale, view.size)
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()
        image = image / 255
        if self.clips.transform.augment:
            jitter = self.clips.transform.settings.brightness_jitter
            image = (image * float(rng.numpy.uniform(1 - jitter, 1 + jitter))).clamp(0.0, 1.0)
            if rng.chance(FLIP_PROBABILITY) and may_mirror:
                image, mask, padding = (value.flip(-1) for value in (image, mask, padding))
                box = torch.stack((1 - (box[0] + box[2]), *box[1:]))
        if _only_padding(padding):
            raise Redraw
        return (image - self.mean) / self.std, box, mask, padding


def change_whole(frame: Frame, grey: bool, mirror: bool) -> None:
    """Make a frame grey, and mirror it with its box and its mask."""
    if grey:
        frame.image = cv2.cvtColor(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if mirror:
        width = frame.image.shape[1]
        frame.image = np.fliplr(frame.image).copy()
        frame.mask = frame.mask.flip(-1)
        x, y, w, h = frame.box_xywh.unbind()
        frame.box_xywh = torch.stack(((width - 1) - (x + w), y, w, h))


def cut_padded(frame: Frame, extract: Tensor, view: ViewSettings) -> tuple[np.ndarray, Tensor, Tensor, float]:
    """Cut the square around `extract` out of a frame, pad it with black and resize it.

    Returns:
        The crop (size, size, 3) uint8; the mask (size, size) cut alike; (size, size) bool, True on padding;
        and crop pixels a frame pixel.

    Raises:
        Redraw: the box to cut around has no area.
    """
    try:
        window = crop_window(extract, view.factor)
    except DataError as error:
        raise Redraw from error
    side, size = window.side, view.size
    height, width = frame.image.shape[:2]
    before = max(0, -window.left), max(0, -window.top)
    # one pixel more than needed where the square touches the far edges, as published
    after = max(window.left + side - width + 1, 0), max(window.top + side - height + 1, 0)
    rows = slice(window.top + before[1], window.top + side - after[1])
    columns = slice(window.left + before[0], window.left + side - after[0])
    if rows.start >= rows.stop or columns.start >= columns.stop:  # the square doesn't touch the frame
        nothing = np.zeros((size, size, 3), dtype=np.uint8)
        return nothing, torch.zeros(size, size), torch.ones(size, size, dtype=torch.bool), size / side
    border = (before[1], after[1], before[0], after[0])
    pixels = cv2.copyMakeBorder(frame.image[rows, columns], *border, cv2.BORDER_CONSTANT)
    mask = F.pad(frame.mask[rows, columns], (before[0], after[0], before[1], after[1]))
    outside = np.ones((side, side))
    outside[before[1] : side - after[1], before[0] : side - after[0]] = 0
    resized_mask = F.interpolate(mask[None, None], (size, size), mode="bilinear", align_corners=False)[0, 0]
    padding = torch.from_numpy(cv2.resize(outside, (size, size)) != 0)
    return cv2.resize(pixels, (size, size)), resized_mask, padding, size / side


def _only_padding(padding: Tensor) -> bool:
    """Tell whether no token of the crop, or no pixel, shows the frame."""
    cells = max(padding.shape[-1] // STRIDE, 1)
    tokens = F.interpolate(padding[None, None].float(), size=cells)  # the nearest pixel
    return bool(padding.all()) or bool(tokens.bool().all())


def plain_collate(samples: Sequence[tuple[PlainView, PlainView]]) -> tuple[PlainView, PlainView]:
    """Join samples to a batch: every tensor gets a leading B."""
    template, search = zip(*samples, strict=True)
    return _joined(template), _joined(search)


def _joined(views: Sequence[PlainView]) -> PlainView:
    names = ("images", "boxes_xywh", "masks", "padding")
    return PlainView(*(torch.stack([getattr(view, name) for view in views]) for name in names))
