"""Frames to cut crops out of: pixels that are there, or a JPEG that is decoded no finer than its crops need.

A JPEG decoder can leave out the fine half of every block of pixels, or three quarters, or seven eighths: the
image comes at 1/2, 1/4 or 1/8 of its size. A crop that shows the frame at that scale or smaller anyway is cut
out of the small image by the same matrix; box, padding and matrix are those of the whole frame.
"""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.data.crops import CropWindow, cut, in_unmirrored_frame, padded_share, window_affine
from mtltrack.data.images import check_complete, decode_image, upright_jpeg_size
from mtltrack.data.sequences import SequenceDataset, encoded_image

DIVISORS = (8, 4, 2)
"""Scales, 1 over these, that a JPEG can be decoded at."""


class Frame(Protocol):
    """What crops are cut out of.

    Attributes:
        size: width and height in pixels.
        divisor: how many of them, in each direction, are one pixel of what was decoded last; 1 before that.
    """

    size: tuple[int, int]
    divisor: int

    def need(self, window: CropWindow, size: int) -> None:
        """Say that another crop will be cut later, so that both come from one decoding."""
        ...

    def cut(
        self, window: CropWindow, size: int, grayscale: bool = False, mirrored: bool = False
    ) -> np.ndarray:
        """Cut a window out, pad with black, resize.

        Args:
            window: in pixels of the frame; of its mirror image, where `mirrored`.
            size: side of the result in pixels.
            grayscale: turn the pixels grey (three equal channels).
            mirrored: mirror the frame left to right before.

        Returns:
            (size, size, 3) uint8 RGB.
        """
        ...


class WholeFrame:
    """A frame whose pixels are there, (H, W, 3) uint8 RGB."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.divisor = 1
        self.size = (int(image.shape[1]), int(image.shape[0]))

    def need(self, window: CropWindow, size: int) -> None:
        """Do nothing: there is no more to decode."""

    def cut(
        self, window: CropWindow, size: int, grayscale: bool = False, mirrored: bool = False
    ) -> np.ndarray:
        """See `Frame.cut`."""
        return cut(self.image[:, ::-1] if mirrored else self.image, window, size, grayscale)


class JpegFrame:
    """A JPEG that is decoded when a crop is cut, at the smallest scale that the crop can be cut from.

    Where an earlier crop was cut from a finer image, that one is used again.

    Args:
        data: the file, a JPEG that isn't turned.
        name: how to call it in an error.
        size: width and height in pixels, from its head.
    """

    def __init__(self, data: bytes, name: str, size: tuple[int, int]) -> None:
        self.size = size
        self.divisor = 1
        self._image: np.ndarray | None = None
        self._data, self._name = data, name
        self._limit = max(DIVISORS)

    def need(self, window: CropWindow, size: int) -> None:
        """See `Frame.need`."""
        self._limit = min(self._limit, divisor_for(window.side, size))

    def cut(
        self, window: CropWindow, size: int, grayscale: bool = False, mirrored: bool = False
    ) -> np.ndarray:
        """See `Frame.cut`; raises DataError when the file can't be decoded."""
        self.need(window, size)
        if self._image is None or self.divisor > self._limit:
            self._image = self._decode(self._limit)
            self.divisor = self._limit
        if self.divisor == 1:
            return WholeFrame(self._image).cut(window, size, grayscale, mirrored)
        return cut_reduced(self._image, self.divisor, self.size, window, size, grayscale, mirrored)

    def _decode(self, divisor: int) -> np.ndarray:
        image = decode_image(self._data, self._name, divisor)
        width, height = (-(-side // divisor) for side in self.size)
        if image.shape[:2] != (height, width):
            raise DataError(
                f"{self._name}: decoded at 1/{divisor} it has {image.shape[1]} x {image.shape[0]} pixels; "
                f"wanted {width} x {height} by its head. Write the file anew, or set "
                "DATA.REDUCED_DECODE: false."
            )
        return image


def as_frame(image: np.ndarray | Frame) -> Frame:
    """Return an image (H, W, 3) uint8 RGB as a frame."""
    return WholeFrame(image) if isinstance(image, np.ndarray) else image


def open_frame(source: SequenceDataset, i: int, frame: int, reduced: bool = False) -> Frame:
    """Read frame `frame` of sequence `i` of a data set.

    Args:
        source: the data set.
        i: number of the sequence.
        frame: number of the frame, from 0.
        reduced: decode it later, no finer than its crops need, where that can be done: it is a JPEG that is
            stored as it is to be seen, not turned by its camera's note.

    Raises:
        DataError: there is no such image, or it is cut off or broken.
    """
    encoded = encoded_image(source, i, frame) if reduced else None
    if encoded is None:
        return WholeFrame(source.image(i, frame))
    data, name = encoded
    check_complete(data, name)
    size = upright_jpeg_size(data, name)
    return WholeFrame(decode_image(data, name)) if size is None else JpegFrame(data, name, size)


def divisor_for(side: int, size: int) -> int:
    """Return by how much a frame may be reduced before a crop is cut out of it: 1, 2, 4 or 8.

    Args:
        side: of the crop's window, in frame pixels.
        size: side of the crop in pixels; it is never larger than the window in the reduced frame.
    """
    return next((divisor for divisor in DIVISORS if size * divisor <= side), 1)


def cut_reduced(
    image: np.ndarray,
    divisor: int,
    frame_size: tuple[int, int],
    window: CropWindow,
    size: int,
    grayscale: bool = False,
    mirrored: bool = False,
) -> np.ndarray:
    """Cut a window of the whole frame out of its reduced image, as `crops.cut` does out of the frame.

    Pixel k of the reduced image covers the frame's pixels from k * divisor on; the last column and row may
    reach beyond the frame.

    Args:
        image: (ceil(H / divisor), ceil(W / divisor), 3) uint8.
        divisor: frame pixels a pixel of `image`.
        frame_size: width and height of the whole frame.
        window, size, grayscale, mirrored: see `Frame.cut`.

    Returns:
        (size, size, 3) uint8.
    """
    columns, rows = (
        1 - padded_share(inside, window.side, size) for inside in window.inside(*frame_size)
    )  # (size,) each, how much of a crop's pixel shows the frame
    crop = np.zeros((size, size, 3), dtype=np.uint8)
    across, down = _shown(columns), _shown(rows)
    if across.start == across.stop or down.start == down.stop:
        return crop
    affine = window_affine(window, size)
    affine[:, 2] += affine.diagonal() * (across.start, down.start)
    if mirrored:
        affine = in_unmirrored_frame(affine, frame_size[0])
    affine /= divisor
    affine[:, 2] += 0.5 / divisor - 0.5  # between centres of pixels
    part = cv2.warpAffine(
        image,
        affine,
        (across.stop - across.start, down.stop - down.start),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if grayscale:
        part = cv2.cvtColor(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    crop[down, across] = part
    for k in np.flatnonzero((columns > 0) & (columns < 1)):
        crop[:, k] = np.rint(crop[:, k] * columns[k])
    for k in np.flatnonzero((rows > 0) & (rows < 1)):
        crop[k] = np.rint(crop[k] * rows[k])
    return crop


def _shown(shares: np.ndarray) -> slice:
    """Return the part of a crop's columns, or rows, that shows the frame."""
    places = np.flatnonzero(shares > 0)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)
