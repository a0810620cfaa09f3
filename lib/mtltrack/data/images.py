"""Reading images."""

from __future__ import annotations

import cv2
import numpy as np

from mtltrack.core.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_TAIL = 4096  # some cameras append data of their own behind the end marker


def is_image(name: str) -> bool:
    """Say whether the file name ends like an image's."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Decode an image file.

    Args:
        data: bytes of the file.
        name: how to call it in an error.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DataError: the bytes are no image, or end before the image does.
    """
    remedy = "Fetch the file again, or take its frame out of the data set."
    if data[:2] == _JPEG_START and _JPEG_END not in data[-_TAIL:]:
        raise DataError(f"the image {name} is cut off ({len(data)} bytes, no end marker). {remedy}")
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if buffer.size else None
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"the image {name} can't be decoded ({len(data)} bytes). {remedy}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
