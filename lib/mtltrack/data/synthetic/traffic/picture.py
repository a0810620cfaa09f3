"""Operations on whole pictures: blending, smearing, light, resolution."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def blend(image: Image, rgba: Image, origin: tuple[int, int]) -> None:
    """Lay a premultiplied RGBA picture over `image` in place; it must lie inside."""
    x, y = origin
    height, width = rgba.shape[:2]
    region = image[y : y + height, x : x + width]
    rest = cv2.bitwise_not(rgba[..., 3])
    cv2.multiply(region, cv2.merge([rest, rest, rest]), dst=region, scale=1 / 255)
    cv2.add(region, cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), dst=region)


def paste(image: Image, texture: Image, corners: NDArray[np.float64]) -> None:
    """Draw a texture into a convex quadrilateral of `image`, in place.

    Args:
        image: (H, W, 3).
        texture: (h, w, 3).
        corners: (4, 2) continuous pixels of the texture's corners, top left first, then clockwise.
    """
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, image.shape[1::-1])
    if (high <= low).any():
        return
    edges = np.hypot(*(np.roll(corners, -1, axis=0) - corners).T)
    size = [max(float(edges[[k, k + 2]].max()), 1.0) for k in (0, 1)]
    shrink = [min(1.0, 1.5 * want / have) for want, have in zip(size, texture.shape[1::-1], strict=True)]
    if min(shrink) < 0.75:  # else fine parts would flicker
        few = (max(2, round(texture.shape[1] * shrink[0])), max(2, round(texture.shape[0] * shrink[1])))
        texture = cv2.resize(texture, few, interpolation=cv2.INTER_AREA)
    height, width = texture.shape[:2]
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    goal = (corners - low - 0.5).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(source, goal)
    extent = (int(high[0] - low[0]), int(high[1] - low[1]))
    seen = cv2.warpPerspective(
        texture, matrix, extent, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    mask = np.zeros(extent[::-1], np.uint8)
    cv2.fillConvexPoly(mask, np.round(np.clip(goal, -2000, 4000) * 16).astype(np.int32), 255, cv2.LINE_8, 4)
    cv2.copyTo(seen, mask, image[low[1] : high[1], low[0] : high[0]])


def darken(image: Image, mask: Image, origin: tuple[int, int], strength: float) -> None:
    """Take `strength` of the light away from `image` where `mask` (h, w) is 255, in place."""
    x, y = origin
    height, width = mask.shape
    region = image[y : y + height, x : x + width]
    rest = cv2.bitwise_not(cv2.convertScaleAbs(mask, alpha=strength))
    cv2.multiply(region, cv2.merge([rest, rest, rest]), dst=region, scale=1 / 255)


def hazed(rgba: Image, clear: float, haze: tuple[float, float, float]) -> Image:
    """Return a premultiplied RGBA picture of which haze lets only the share `clear` through."""
    veil = cv2.merge([cv2.convertScaleAbs(rgba[..., 3], alpha=value * (1 - clear) / 255) for value in haze])
    seen = cv2.add(cv2.convertScaleAbs(rgba[..., :3], alpha=clear), veil)
    return np.dstack([seen, rgba[..., 3]])


def smeared(image: Image, way: tuple[float, float]) -> Image:
    """Average an image of any number of channels along `way` (pixels), the middle of it staying in place.

    Halving steps: two shifted copies, then two of those, ...: 2**n samples evenly spread along the way.
    """
    longest = max(abs(way[0]), abs(way[1]))
    step = np.array(way) / 2
    while longest > 1.0:
        first, second = np.round(step / 2).astype(int), np.round(-step / 2).astype(int)
        if (first == second).all():
            break
        reach = int(np.abs(np.concatenate([first, second])).max())
        wide = cv2.copyMakeBorder(image, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
        height, width = image.shape[:2]
        one, other = (
            wide[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
            for dx, dy in (first, second)
        )
        image = cv2.addWeighted(one, 0.5, other, 0.5, 0)
        step, longest = step / 2, longest / 2
    return image


def relit(image: Image, light: float) -> Image:
    """Multiply the light by 2**light; bright parts saturate softly."""
    if light == 0:
        return image
    level = np.arange(256) / 255 * 2**light
    level = np.where(level > 0.8, 0.8 + 0.2 * np.tanh((level - 0.8) / 0.2), level)
    return cv2.LUT(image, np.round(255 * level).astype(np.uint8))


def coarsened(image: Image, coarseness: float) -> Image:
    """Measure only one value for `coarseness` x `coarseness` pixels."""
    if coarseness <= 1:
        return image
    height, width = image.shape[:2]
    few = (max(2, round(width / coarseness)), max(2, round(height / coarseness)))
    small = cv2.resize(image, few, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def shifted(image: Image, margin: int, size: tuple[int, int], shake: NDArray[np.float64]) -> Image:
    """Cut the frame out of a canvas `margin` larger at each side, moved by `shake` (2,) whole pixels."""
    x, y = margin - int(shake[0]), margin - int(shake[1])
    return image[y : y + size[1], x : x + size[0]]
