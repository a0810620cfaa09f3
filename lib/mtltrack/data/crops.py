"""Geometry of the square crops around a target: which pixels are cut out, how they map back, what is padding.

Everything here equals what OSTrack and HIPTrack cut out, pixel by pixel, but touches only the pixels of the
crop. Coordinates: a box is x, y, w, h in pixels; pixel i covers [i, i + 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mtltrack.core.errors import DataError

Numbers = Sequence[float] | np.ndarray | Tensor


@dataclass(frozen=True)
class CropWindow:
    """The square of frame pixels that a crop shows; it may reach beyond the frame.

    Attributes:
        left: first column, in frame pixels.
        top: first row.
        side: width and height in frame pixels, at least 1.
    """

    left: int
    top: int
    side: int

    def inside(self, width: int, height: int) -> tuple[slice, slice]:
        """Return the columns and rows of the window (from its own corner) that show the frame, the rest is
        padding.

        The published code pads one pixel too many where a window touches the right or bottom edge: the last
        column or row of the frame is then left out. That is kept.
        """
        return _inside(self.left, self.side, width), _inside(self.top, self.side, height)


class ValidPixels(NamedTuple):
    """Which columns and rows of a crop show the frame only; a crop pixel is padding unless both do."""

    columns: np.ndarray  # (size,) bool
    rows: np.ndarray  # (size,) bool

    def flipped(self) -> ValidPixels:
        """Return the same for the crop mirrored left to right."""
        return ValidPixels(self.columns[::-1], self.rows)

    def attention_mask(self) -> np.ndarray:
        """Return (size, size) bool, True on padding: the attention mask of the published code."""
        return ~(self.rows[:, None] & self.columns[None, :])

    def usable(self, stride: int = 16) -> bool:
        """Say whether some pixel shows the frame, also after nearest-neighbour reduction to the token grid.

        Args:
            stride: crop pixels a token; the reduced mask has size // stride cells a side.
        """
        if not (self.columns.any() and self.rows.any()):
            return False
        size = len(self.columns)
        cells = max(size // stride, 1)
        picked = np.minimum((np.arange(cells) * np.float32(size / cells)).astype(np.int64), size - 1)
        return bool(self.columns[picked].any() and self.rows[picked].any())


class TargetCrop(NamedTuple):
    """A crop, where the target is in it, and what of it is padding."""

    image: np.ndarray  # (size, size, 3) uint8
    box_xywh: Tensor  # (4,) float32 in [0, 1] of the crop
    valid: ValidPixels
    affine: np.ndarray  # (2, 3) float64, crop pixel to frame pixel


def _inside(start: int, side: int, limit: int) -> slice:
    first = max(0, -start)
    padding_after = max(start + side - limit + 1, 0)
    return slice(first, max(first, side - padding_after))


def crop_window(box_xywh: Numbers, factor: float) -> CropWindow:
    """Return the square around the box whose area is factor^2 times the box's.

    Args:
        box_xywh: (4,) frame pixels.
        factor: side of the square over the square root of the box's area.

    Raises:
        DataError: the box has no area or isn't finite.
    """
    x, y, w, h = (float(value) for value in box_xywh)
    area = w * h
    side = math.ceil(math.sqrt(area) * factor) if math.isfinite(x + y + area) and w > 0 and h > 0 else 0
    if side < 1:
        raise DataError(
            f"a crop needs a finite box with w > 0 and h > 0; found x={x:g} y={y:g} w={w:g} h={h:g} "
            f"(search factor {factor:g}). Correct the box, or mark the frame as absent."
        )
    return CropWindow(round(x + 0.5 * w - side * 0.5), round(y + 0.5 * h - side * 0.5), side)


def cut(image: np.ndarray, window: CropWindow, size: int, grayscale: bool = False) -> np.ndarray:
    """Cut the window out of the image, pad with black, resize.

    Args:
        image: (H, W, 3) uint8; any strides, so a mirrored view costs nothing.
        size: side of the result in pixels.
        grayscale: turn the pixels grey (three equal channels) before resizing.

    Returns:
        (size, size, 3) uint8.
    """
    columns, rows = window.inside(image.shape[1], image.shape[0])
    part = _shown(image, window, columns, rows)
    if grayscale and part.size:
        part = cv2.cvtColor(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if part.shape[:2] == (window.side, window.side):
        return cv2.resize(part, (size, size))
    # zeros() leaves the padding to the operating system: a window far larger than the frame costs no memory
    padded = np.zeros((window.side, window.side, 3), dtype=np.uint8)
    padded[rows, columns] = part
    return cv2.resize(padded, (size, size))


def _shown(image: np.ndarray, window: CropWindow, columns: slice, rows: slice) -> np.ndarray:
    """Return the frame's pixels in the window; mirrored by OpenCV, which is faster than strides."""
    first, last = window.left + columns.start, window.left + columns.stop
    band = image[window.top + rows.start : window.top + rows.stop]
    if image.strides[1] >= 0 or first >= last or not len(band):
        return band[:, first:last]
    width = image.shape[1]
    return cv2.flip(band[:, ::-1][:, width - last : width - first], 1)


def cut_mask(mask: np.ndarray, window: CropWindow, size: int) -> np.ndarray:
    """Cut the window out of a mask as `cut` does of an image; beyond the frame it is 0.

    Args:
        mask: (H, W), 0 or 1.
        size: side of the result in pixels.

    Returns:
        (size, size) float32 in [0, 1]: bilinear, so a pixel on the edge lies between.
    """
    columns, rows = window.inside(mask.shape[1], mask.shape[0])
    top, left = window.top, window.left
    padded = np.zeros((window.side, window.side), dtype=np.float32)
    padded[rows, columns] = mask[
        top + rows.start : top + rows.stop, left + columns.start : left + columns.stop
    ]
    # torch's interpolation, as published; OpenCV's rounds its weights
    resized = interpolate(
        torch.from_numpy(padded)[None, None], (size, size), mode="bilinear", align_corners=False
    )
    return resized[0, 0].numpy()


def cut_target_mask(mask: np.ndarray, window: CropWindow, size: int) -> np.ndarray:
    """Cut the window out of a target's mask: 1 where the target covers most of a crop's pixel, 0 in padding.

    Args:
        mask: (H, W), 0 off the target; any strides.
        size: side of the result in pixels.

    Returns:
        (size, size) uint8.
    """
    columns, rows = window.inside(mask.shape[1], mask.shape[0])
    top, left = window.top, window.left
    padded = np.zeros((window.side, window.side), dtype=np.uint8)
    shown = mask[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
    padded[rows, columns] = shown != 0
    padded *= 255
    shares = cv2.resize(
        padded, (size, size), interpolation=cv2.INTER_AREA if window.side > size else cv2.INTER_LINEAR
    )
    return (shares >= 128).astype(np.uint8)


def sample_target(image: np.ndarray, box_xywh: Numbers, factor: float, size: int) -> tuple[np.ndarray, float]:
    """Crop the square around a box and resize it.

    Args:
        image: (H, W, 3) uint8 RGB.
        box_xywh: (4,) frame pixels.
        factor: side of the square over the square root of the box's area.
        size: side of the result in pixels.

    Returns:
        The crop (size, size, 3) uint8 and the resize factor, crop pixels a frame pixel.

    Raises:
        DataError: the box has no area or isn't finite.
    """
    window = crop_window(box_xywh, factor)
    return cut(image, window, size), size / window.side


def valid_pixels(window: CropWindow, width: int, height: int, size: int) -> ValidPixels:
    """Return which columns and rows of the resized crop show only pixels of the frame.

    The published code resizes a whole mask of padded pixels and takes every non-zero value as padding.
    Bilinear interpolation works on columns and rows alone, so two vectors say the same.
    """
    columns, rows = window.inside(width, height)
    side = window.side
    return ValidPixels(padded_share(columns, side, size) == 0.0, padded_share(rows, side, size) == 0.0)


def padded_share(inside: slice, side: int, size: int) -> np.ndarray:
    """Return (size,) float64 in [0, 1], how much of each column (or row) of a resized crop is padding.

    Of the window's columns, `side` of them, those `inside` show the frame; the crop has `size`.
    """
    if inside == slice(0, side):
        return np.zeros(size)
    padding = np.ones((1, side))
    padding[0, inside] = 0.0
    return cv2.resize(padding, (size, 1))[0]


def crop_affine(box_xywh: Numbers, factor: float, size: int) -> np.ndarray:
    """Return the (2, 3) float64 matrix that maps a crop's pixel (x, y, 1) to the frame's pixel.

    Pixels are named by their centres (index 0 is the centre of the first pixel). For box edges, which lie
    between pixels, map x - 0.5 and add 0.5.
    """
    return window_affine(crop_window(box_xywh, factor), size)


def window_affine(window: CropWindow, size: int) -> np.ndarray:
    """Return `crop_affine` of a window that is already known."""
    scale = window.side / size
    shift = 0.5 * scale - 0.5
    return np.array([[scale, 0.0, window.left + shift], [0.0, scale, window.top + shift]])


def in_unmirrored_frame(affine: np.ndarray, width: int) -> np.ndarray:
    """Let a matrix (2, 3) that points into a mirrored frame point into the frame as it was."""
    result = affine.copy()
    result[0] = -affine[0]
    result[0, 2] += width - 1
    return result


def transform_image_to_crop(
    box_xywh: Tensor, extract_xywh: Tensor, resize_factor: float, size: int, normalise: bool = True
) -> Tensor:
    """Map a box of the frame into the crop that was cut around another box.

    The centre of the crop is (size - 1) / 2 as published: half a crop pixel left and above the true centre.

    Args:
        box_xywh: (4,) float32 frame pixels, the box to map.
        extract_xywh: (4,) float32 frame pixels, the box that the crop was cut around.
        resize_factor: crop pixels a frame pixel.
        size: side of the crop in pixels.
        normalise: divide by `size`.

    Returns:
        (4,) x, y, w, h in [0, 1] of the crop, or in crop pixels.
    """
    extract_centre = extract_xywh[:2] + 0.5 * extract_xywh[2:]
    centre = box_xywh[:2] + 0.5 * box_xywh[2:]
    crop_centre = (size - 1) / 2 + (centre - extract_centre) * resize_factor
    crop_wh = box_xywh[2:] * resize_factor
    box = torch.cat((crop_centre - 0.5 * crop_wh, crop_wh))
    return box / size if normalise else box


def jittered_box(box_xywh: Tensor, centre: float, scale: float, generator: torch.Generator) -> Tensor:
    """Shift and scale a box at random: the place where the target is believed to be.

    Size is multiplied by exp(scale * normal); the centre moves by up to half of `centre` times the square
    root of the jittered area, in each direction. Draws two normal, then two uniform numbers, whatever the
    strengths.

    Args:
        box_xywh: (4,) float32 frame pixels.
        centre: DATA.*.CENTER_JITTER, at least 0.
        scale: DATA.*.SCALE_JITTER, at least 0.
        generator: where the four numbers come from.
    """
    size_noise = torch.randn(2, generator=generator)
    centre_noise = torch.rand(2, generator=generator)
    size = box_xywh[2:] * torch.exp(size_noise * scale)
    reach = size.prod().sqrt() * torch.tensor(centre).float()
    middle = box_xywh[:2] + 0.5 * box_xywh[2:] + reach * (centre_noise - 0.5)
    return torch.cat((middle - 0.5 * size, size))


def jittered_center_crop(
    image: np.ndarray,
    extract_xywh: Tensor,
    box_xywh: Tensor,
    factor: float,
    size: int,
    grayscale: bool = False,
) -> TargetCrop:
    """Cut around one box and say where another one is in the crop.

    Args:
        image: (H, W, 3) uint8 RGB.
        extract_xywh: (4,) float32 frame pixels, the box to cut around.
        box_xywh: (4,) float32 frame pixels, the target's box.
        factor: side of the crop over the square root of the area of `extract_xywh`.
        size: side of the result in pixels.
        grayscale: turn the crop grey.

    Raises:
        DataError: `extract_xywh` has no area or isn't finite.
    """
    window, frame_size = crop_window(extract_xywh, factor), (image.shape[1], image.shape[0])
    return target_crop(cut(image, window, size, grayscale), window, extract_xywh, box_xywh, frame_size)


def target_crop(
    pixels: np.ndarray,
    window: CropWindow,
    extract_xywh: Tensor,
    box_xywh: Tensor,
    frame_size: tuple[int, int],
) -> TargetCrop:
    """Say of a crop where the target is in it, and what of it is padding.

    Args:
        pixels: (size, size, 3) uint8, the crop.
        window: that of `extract_xywh`.
        extract_xywh, box_xywh: see `jittered_center_crop`.
        frame_size: width and height of the frame in pixels.
    """
    size = int(pixels.shape[0])
    return TargetCrop(
        image=pixels,
        box_xywh=transform_image_to_crop(box_xywh, extract_xywh, size / window.side, size),
        valid=valid_pixels(window, *frame_size, size),
        affine=window_affine(window, size),
    )
