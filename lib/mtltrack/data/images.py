"""Finding and reading images."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mtltrack.core.errors import DataError
from mtltrack.data.stores import Store

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
IMAGE_FOLDERS = ("img", "imgs", "images", "color")  # where a sequence's folder may hold its images
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_REMEDY = "Fetch the file again, or take its frame out of the data set."
# flags of OpenCV that say a scale and nothing of colours
_SCALES = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_NUMBERED = re.compile(r"(.*?)(\d+)(\.\w+)")
_ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held; 5 to 8 swap rows and columns


def is_image(name: str) -> bool:
    """Say whether the file name ends like an image's."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def images_in(store: Store, folder: str = "") -> list[str]:
    """Return the keys of the images directly below a folder, in natural order (2.jpg before 10.jpg)."""
    start = f"{folder}/" if folder else ""
    return [f"{start}{name}" for name in store.list(folder) if is_image(name)]


def sequence_images(store: Store, folder: str = "") -> list[str]:
    """Return the keys of a sequence's images, in natural order; training and testing both use it.

    Args:
        store: where the sequence lies.
        folder: of the sequence; "" is the store's own.

    Returns:
        The images of the first of IMAGE_FOLDERS that has any, or else those of the folder itself.

    Raises:
        DataError: there are none.
    """
    places = [*(f"{folder}/{name}" if folder else name for name in IMAGE_FOLDERS), folder]
    for place in places:
        if images := images_in(store, place):
            return images
    raise DataError(
        f"{store.locate(folder)}: there are no images, nor below it in {', '.join(IMAGE_FOLDERS)}. Add them."
    )


def with_missing(images: Sequence[str], count: int) -> list[str]:
    """Put the keys of missing images between the others, where numbers leave no doubt about them.

    So a frame is missed by its own name, and not the whole sequence. The first and the last image must be
    there: without them nobody can tell where counting begins.

    Args:
        images: keys that end in numbers, in order.
        count: how many there must be.

    Returns:
        `count` keys, or those that were given.
    """
    parts = [_NUMBERED.fullmatch(image) for image in images]
    if len(images) >= count or not all(parts):
        return list(images)
    stems = {(part[1], part[3]) for part in parts if part}
    by_number = {int(part[2]): image for part, image in zip(parts, images, strict=True) if part}
    first, last = min(by_number), max(by_number)
    width = {len(part[2]) for part in parts if part}
    if len(stems) > 1 or len(width) > 1 or len(by_number) < len(images) or last - first + 1 != count:
        return list(images)
    ((head, tail),) = stems
    digits = width.pop()
    return [by_number.get(n, f"{head}{n:0{digits}d}{tail}") for n in range(first, last + 1)]


def decode_image(data: bytes, name: str, divisor: int = 1) -> np.ndarray:
    """Decode an image file.

    Args:
        data: bytes of the file.
        name: how to call it in an error.
        divisor: 2, 4 or 8 decode a JPEG at 1/2, 1/4 or 1/8 of its size; only for a JPEG.

    Returns:
        (H, W, 3) uint8 RGB; of a reduced JPEG (ceil(H / divisor), ceil(W / divisor), 3).

    Raises:
        DataError: the bytes are no image, or end before the image does.
    """
    check_complete(data, name)
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        image = cv2.imdecode(buffer, _SCALES[divisor] | cv2.IMREAD_COLOR_RGB) if buffer.size else None
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{name}: the image can't be decoded ({len(data)} bytes). {_REMEDY}")
    return image


def check_complete(data: bytes, name: str) -> None:
    """Raise DataError for a JPEG that ends before its end marker.

    Some decoders fill what is missing with grey. The marker is searched from the end, where it nearly always
    stands.
    """
    if data[:2] == _JPEG_START and data.rfind(_JPEG_END) < 0:
        raise DataError(f"{name}: the image is cut off ({len(data)} bytes, no end marker). {_REMEDY}")


def upright_jpeg_size(data: bytes, name: str) -> tuple[int, int] | None:
    """Return the width and height of a JPEG that is stored as it is to be seen; None for anything else.

    So it is for one whose EXIF note is damaged: a decoder may read another orientation out of it.

    Raises:
        DataError: it begins as a JPEG and is none.
    """
    if data[:2] != _JPEG_START:
        return None
    with warnings.catch_warnings(record=True) as damages:
        warnings.simplefilter("always")
        with _opened(data, name) as image:
            upright = image.getexif().get(_ORIENTATION, 1) == 1
            return image.size if upright and not damages else None


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Return the width and height of what `decode_image` makes of a file, from its head alone.

    Raises:
        DataError: the bytes are no image.
    """
    with _opened(data, name) as image:
        turned = image.getexif().get(_ORIENTATION, 1) in range(5, 9)
        return (image.height, image.width) if turned else image.size


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Read the head of an image; raises DataError for bytes that are no image."""
    try:
        with Image.open(BytesIO(data)) as image:
            yield image
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: the image can't be decoded ({len(data)} bytes). {_REMEDY}") from error
