"""Masks as files and lines of text hold them: COCO run-length objects and PNG images.

A mask in memory is (H, W) uint8, 1 on the target. COCO counts runs down the columns, the first run of zeros;
`counts` is COCO's compressed text, or its plain list of numbers, which is read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from mtltrack.core.errors import DataError

Mask = NDArray[np.uint8]
_REMEDY = "Write the mask again, or take the frame's mask out."
_FIRST, _VALUES = 48, 64  # COCO's text uses the 64 characters from "0" on
_MORE, _SIGN, _BITS = 0x20, 0x10, 5  # in each: another character follows; the last one's sign; bits of value
_MOST = 2**35  # pixels of a run: as many as the longest number below can say
_LONGEST_SIDE, _LARGEST = 65535, 2**28  # a JPEG's longest side; pixels that a small machine can still hold
_LONGEST = 7  # characters of one number: more than any mask in memory needs


def encode_mask(mask: NDArray[Any]) -> dict[str, Any]:
    """Return {"size": [H, W], "counts": text} of a mask (H, W) whose target is whatever isn't 0."""
    encoded = coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode_mask(rle: Mapping[str, Any], where: str) -> Mask:
    """Return the mask (H, W) uint8 of a COCO run-length object.

    pycocotools isn't asked: it returns memory that was never written when the runs don't fill the mask.

    Args:
        rle: `size` [H, W] and `counts`, text or numbers.
        where: file and line that hold it, for messages.

    Raises:
        DataError: the object is broken, or its runs don't fill the mask; names `where`.
    """
    size, counts = rle.get("size"), rle.get("counts")
    whole = isinstance(size, (list, tuple)) and len(size) == 2 and all(type(side) is int for side in size)
    if not whole or not isinstance(size, (list, tuple)) or min(size) < 1:
        raise DataError(f"{where}: a mask needs size [height, width] above 0; found {size!r}. {_REMEDY}")
    if max(size) > _LONGEST_SIDE or size[0] * size[1] > _LARGEST:
        raise DataError(
            f"{where}: a mask of size {size!r} is larger than any frame (at most {_LONGEST_SIDE} pixels "
            f"a side, {_LARGEST} in all). {_REMEDY}"
        )
    runs = _text_runs(counts, where) if isinstance(counts, (str, bytes)) else _listed_runs(counts, where)
    filled = sum(runs.tolist())
    if runs.size == 0 or runs.min() < 0 or filled != size[0] * size[1]:
        raise DataError(
            f"{where}: the mask's runs cover {filled} pixels, its size {size[1]} x {size[0]} has "
            f"{size[0] * size[1]}. {_REMEDY}"
        )
    values = np.arange(len(runs), dtype=np.int64) % 2
    return np.ascontiguousarray(np.repeat(values.astype(np.uint8), runs).reshape(size[1], size[0]).T)


def _listed_runs(counts: Any, where: str) -> NDArray[np.int64]:
    if not isinstance(counts, (list, tuple)) or not all(type(run) is int for run in counts):
        raise DataError(f"{where}: a mask needs counts, text or whole numbers; found {counts!r}. {_REMEDY}")
    if any(abs(run) > _MOST for run in counts):
        raise DataError(f"{where}: the mask's counts hold a run of more than {_MOST} pixels. {_REMEDY}")
    return np.array(counts, dtype=np.int64)


def _text_runs(counts: str | bytes, where: str) -> NDArray[np.int64]:
    """Return the run lengths that COCO's text says.

    A number is five bits a character, lowest first; from the fourth number on it is the difference to the
    number two places before.
    """
    data = counts.encode("utf-8") if isinstance(counts, str) else counts
    codes = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - _FIRST
    if codes.size and (codes.min() < 0 or codes.max() >= _VALUES):
        raise DataError(f"{where}: the mask's counts hold a character that COCO's don't. {_REMEDY}")
    last = (codes & _MORE) == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    if (codes.size and not last[-1]) or (ends - starts >= _LONGEST).any():
        raise DataError(f"{where}: the mask's counts are cut off or broken. {_REMEDY}")
    if not ends.size:
        return np.zeros(0, dtype=np.int64)
    place = np.arange(codes.size) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * place), starts)
    negative = (codes[ends] & _SIGN) != 0
    numbers -= np.where(negative, np.int64(1) << (_BITS * (ends - starts + 1)), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def decode_png(data: bytes, where: str) -> Mask:
    """Return the mask (H, W) uint8 of a PNG file: 1 wherever its value or palette number isn't 0.

    Raises:
        DataError: the file isn't such an image; names `where`.
    """
    return (decode_numbers(data, where) != 0).astype(np.uint8)


def decode_numbers(data: bytes, where: str) -> Mask:
    """Return the values (H, W) uint8 of a PNG file: grey values, or palette numbers (one an object).

    Raises:
        DataError: the file isn't a grey image or one with a palette, or is cut off; names `where`.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            if image.mode in ("RGB", "RGBA", "LA"):  # grey values that were saved as colours
                return _grey(np.asarray(image), image.mode, where)
            if image.mode not in ("1", "L", "P"):
                raise DataError(
                    f"{where}: a mask must be a grey or palette image of 8 bits; found the mode "
                    f"{image.mode}. {_REMEDY}"
                )
            return np.array(image, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: the mask can't be read ({error}; {len(data)} bytes). {_REMEDY}") from error


def _grey(pixels: NDArray[np.uint8], mode: str, where: str) -> Mask:
    colours = pixels[..., : 1 if mode == "LA" else 3]
    if (colours != colours[..., :1]).any():
        raise DataError(
            f"{where}: the mask is a colour image without a palette: its colours can't be told to objects. "
            f"{_REMEDY}"
        )
    return np.ascontiguousarray(colours[..., 0])


def check_mask_size(mask: Mask, size: tuple[int, int], where: str) -> None:
    """Raise DataError naming `where` unless the mask has the frame's size.

    Args:
        mask: (H, W).
        size: width and height of the frame in pixels.
        where: file, or file and line, that the mask came from.
    """
    height, width = mask.shape
    if (width, height) != size:
        raise DataError(
            f"{where}: the mask is {width} x {height} pixels, but its frame is {size[0]} x {size[1]}. "
            "Make the mask anew from this frame, or take it out."
        )
