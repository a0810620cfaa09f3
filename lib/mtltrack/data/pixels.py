"""Operations on the pixels of an image: light, resolution, blur, boxes of pixels, mixing.

Images are (h, w, 3) uint8 and left as they are; a box is given by its low and its high corner x, y, and pixel
i covers [i, i + 1).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

KNEE = 0.8  # share of full brightness from which on light saturates softly
FILL_PIXELS = 16  # pixels across a box on which the colours around it are carried over it
MOST_TAPS = 64  # pictures that a blur along a path averages at most


def change_light(image: Image, stops: float) -> Image:
    """Multiply the light by 2**stops; bright parts saturate softly.

    Args:
        image: uint8.
        stops: 0 leaves everything as it is, 1 doubles the light, -1 halves it.
    """
    if stops == 0:
        return image
    level = np.arange(256) / 255 * 2**stops
    level = np.where(level > KNEE, KNEE + (1 - KNEE) * np.tanh((level - KNEE) / (1 - KNEE)), level)
    return cv2.LUT(image, np.round(255 * level).astype(np.uint8))


def coarsen(image: Image, cell: float) -> Image:
    """Measure one pixel for each `cell` x `cell` of the image, and enlarge that to the image's size."""
    if cell <= 1:
        return image
    height, width = image.shape[:2]
    few = (max(2, round(width / cell)), max(2, round(height / cell)))
    small = cv2.resize(image, few, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def smear(image: Image, steps: Points) -> Image:
    """Average the image over a path.

    Args:
        image: (h, w, 3) uint8.
        steps: (P, 2) shifts x, y in pixels, evenly spaced along the path; rounded to whole pixels.
    """
    shifts = np.unique(np.round(steps).astype(int), axis=0)
    shifts = shifts[:: -(-len(shifts) // MOST_TAPS)]
    if len(shifts) < 2:
        return image
    height, width = image.shape[:2]
    reach = int(np.abs(shifts).max())
    wide = cv2.copyMakeBorder(image, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    total = np.zeros(image.shape, dtype=np.uint16)
    for x, y in shifts + reach:
        total += wide[y : y + height, x : x + width]
    return cv2.convertScaleAbs(total, alpha=1 / len(shifts))


def hard_box(low: Points, high: Points, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return (h, w) float32: 1 on the pixels whose centre lies in a box, else 0."""
    rows, columns = ((np.arange(side) + 0.5) for side in shape)
    inside = ((columns >= low[0]) & (columns <= high[0]))[None] & ((rows >= low[1]) & (rows <= high[1]))[
        :, None
    ]
    return inside.astype(np.float32)


def soft_box(low: Points, high: Points, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return (h, w) float32 in [0, 1]: 1 in a box, falling to 0 over a tenth of its size around it."""
    margins = np.maximum(0.1 * (high - low), 1.0)
    profiles = []
    for side, axis in ((shape[0], 1), (shape[1], 0)):
        centres = np.arange(side) + 0.5
        depth = np.minimum(centres - low[axis], high[axis] - centres) / margins[axis]
        profiles.append(np.clip(1 + depth, 0, 1).astype(np.float32))
    return profiles[0][:, None] * profiles[1][None]


def blend(image: Image, other: Image, share: NDArray[np.float32]) -> Image:
    """Mix two images: `share` (h, w) in [0, 1] of the other one. Only where there is any, which is quick."""
    rows, columns = np.flatnonzero(share.any(axis=1)), np.flatnonzero(share.any(axis=0))
    result = image.copy()
    if len(rows):
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        weight = np.ascontiguousarray(share[part])
        result[part] = cv2.blendLinear(other[part].copy(), image[part].copy(), weight, 1 - weight)
    return result


def carry_over(image: Image, low: Points, high: Points) -> Image:
    """Carry the colours around a box on over it: their mean within reach.

    That is smooth, so it is worked out on few pixels.
    """
    height, width = image.shape[:2]
    shrink = max(1.0, float((high - low).min()) / FILL_PIXELS)
    few = (max(4, round(width / shrink)), max(4, round(height / shrink)))
    small = cv2.resize(image, few, interpolation=cv2.INTER_AREA).astype(np.float32)
    scale = np.array(few) / [width, height]
    margin = 0.05 * (high - low) + 0.5 / scale
    weight = 1 - hard_box((low - margin) * scale, (high + margin) * scale, small.shape[:2])
    kernel = tuple(int(side) | 1 for side in np.ceil(1.5 * (high - low) * scale) + 2)
    share = cv2.blur(weight, kernel)[..., None]
    colour = cv2.blur(small * weight[..., None], kernel)
    filled = np.where(share > 1e-3, colour / np.maximum(share, 1e-3), small)
    filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(np.round(filled), 0, 255).astype(np.uint8)
