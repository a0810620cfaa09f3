"""Looks made from random numbers: noise of several octaves, palettes, backgrounds and target sprites.

Every function takes a numpy Generator and is otherwise pure. Images are uint8 RGB.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SPRITE = 96  # pixels a side of a target's texture
SPRITE_MARGIN = 4  # transparent border of it, so that edges stay smooth when it is warped

# ground, grass, brick, asphalt, water: hue range, saturation
GROUNDS = (
    ((0.07, 0.12), 0.4),
    ((0.2, 0.33), 0.4),
    ((0.0, 0.05), 0.45),
    ((0.0, 1.0), 0.08),
    ((0.52, 0.62), 0.3),
)

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Sprite:
    """A target's look.

    Attributes:
        levels: the texture as premultiplied RGBA float32 in [0, 1]; SPRITE, SPRITE / 2 and SPRITE / 4 pixels
            a side. Small targets are drawn from the small ones, which keeps them free of aliasing.
    """

    levels: tuple[Array, ...]


def noise(rng: np.random.Generator, width: int, height: int, cells: int = 3, octaves: int = 5) -> Array:
    """Return (height, width) float32 noise in [0, 1]; octave k has `cells * 2**k` cells, weight 0.6**k."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        across = cells * 2**octave
        down = max(2, round(across * height / width))
        coarse = rng.random((down, across), dtype=np.float32)
        method = cv2.INTER_CUBIC if octave < 3 else cv2.INTER_LINEAR
        total += np.float32(0.6**octave) * cv2.resize(coarse, (width, height), interpolation=method)
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def palette(
    rng: np.random.Generator, hue: float, spread: float, saturation: float, value: tuple[float, float]
) -> Array:
    """Return a (256, 3) uint8 colour ramp through four colours.

    Args:
        rng: source of the colours.
        hue: middle hue, in turns.
        spread: the four hues lie within this distance of it, in turns.
        saturation: in [0, 1]; the colours' saturations lie within 30 % of it.
        value: darkest and brightest colour's value, in [0, 1].
    """
    hues = hue + spread * rng.uniform(-1, 1, 4)
    values = np.linspace(*value, 4)
    saturations = np.clip(saturation * rng.uniform(0.7, 1.3, 4), 0, 1)
    stops = [colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in zip(hues, saturations, values, strict=True)]
    ramp = [np.interp(np.linspace(0, 3, 256), range(4), [stop[c] for stop in stops]) for c in range(3)]
    return np.round(255 * np.stack(ramp, axis=1)).astype(np.uint8)


def _ground(rng: np.random.Generator, middle: float) -> Array:
    """Return a colour ramp of a natural surface whose values lie around `middle`."""
    (low, high), saturation = GROUNDS[int(rng.integers(len(GROUNDS)))]
    return palette(rng, float(rng.uniform(low, high)), 0.03, saturation, (middle - 0.2, middle + 0.2))


def coloured(field: Array, ramp: Array) -> Array:
    """Return uint8 RGB: each value of `field` (h, w), in [0, 1], looked up in `ramp` (256, 3)."""
    index = cv2.convertScaleAbs(field, alpha=255)
    return cv2.applyColorMap(index, ramp[:, None])  # a table look-up: the order of channels is the table's


def background(rng: np.random.Generator, width: int, height: int) -> Array:
    """Return a (height, width, 3) scene: a surface with roads and blocks of another surface on it."""
    middle = float(rng.uniform(0.3, 0.7))
    apart = float(rng.uniform(0.12, 0.25)) * (-1 if middle > 0.5 else 1)
    scene = coloured(noise(rng, width, height, cells=3, octaves=6), _ground(rng, middle))
    other = coloured(noise(rng, width, height, cells=12, octaves=4), _ground(rng, middle + apart))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        _draw_strip(rng, mask)
    for _ in range(int(rng.integers(4, 10))):
        _draw_block(rng, mask)
    weight = cv2.merge([mask, mask, mask])
    mixed = cv2.multiply(other, weight, scale=1 / 255)
    return cv2.add(mixed, cv2.multiply(scene, 255 - weight, scale=1 / 255))


def _draw_strip(rng: np.random.Generator, mask: Array) -> None:
    height, width = mask.shape
    start = (int(rng.uniform(0, width)), 0)
    stop = (int(rng.uniform(0, width)), height)
    if rng.random() < 0.5:
        start, stop = (0, int(rng.uniform(0, height))), (width, int(rng.uniform(0, height)))
    thickness = int(rng.uniform(0.03, 0.12) * height)
    cv2.line(mask, start, stop, int(rng.uniform(110, 230)), max(1, thickness), cv2.LINE_AA)


def _draw_block(rng: np.random.Generator, mask: Array) -> None:
    height, width = mask.shape
    centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
    sides = (float(rng.uniform(0.05, 0.25) * width), float(rng.uniform(0.05, 0.25) * height))
    corners = cv2.boxPoints((centre, sides, float(rng.uniform(0, 90)) if rng.random() < 0.4 else 0.0))
    cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), int(rng.uniform(60, 255)), cv2.LINE_AA)


def outline(rng: np.random.Generator, vertices: int = 48) -> Array:
    """Return a closed outline (vertices, 2): a bulged superellipse, [-0.5, 0.5] in both directions."""
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    power = 2.0 / rng.choice([2.0, 3.0, 6.0])
    points = np.stack([np.sign(f) * np.abs(f) ** power for f in (np.cos(angle), np.sin(angle))], axis=1)
    bulge = 1 + rng.uniform(0, 0.15) * np.sin(int(rng.integers(1, 4)) * angle + rng.uniform(0, 2 * np.pi))
    points *= bulge[:, None]
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - low) / (high - low) - 0.5


def sprite(rng: np.random.Generator, shape: Array) -> Sprite:
    """Return a look for the outline `shape` (V, 2): vivid noise, marks, light from above, a rim."""
    hue = float(rng.random())
    field = noise(rng, SPRITE, SPRITE, cells=int(rng.integers(2, 5)), octaves=4)
    picture = coloured(field, palette(rng, hue, 0.08, 0.7, (0.25, 0.9)))
    marks = palette(rng, hue + float(rng.uniform(0.25, 0.75)), 0.12, 0.7, (0.1, 1.0))[[0, 90, 180, 255]]
    for _ in range(int(rng.integers(3, 6))):
        _draw_mark(rng, picture, tuple(int(c) for c in marks[rng.integers(4)]))
    corners = (shape + 0.5) * (SPRITE - 2 * SPRITE_MARGIN) + SPRITE_MARGIN - 0.5
    fixed = np.round(corners * 16).astype(np.int32)
    rim = tuple(int(c) for c in marks[rng.choice([0, 3])])
    cv2.polylines(picture, [fixed], True, rim, int(rng.integers(2, 6)), cv2.LINE_AA, shift=4)
    alpha = np.zeros((SPRITE, SPRITE), np.uint8)
    cv2.fillPoly(alpha, [fixed], 255, cv2.LINE_AA, shift=4)
    full = np.dstack([picture, alpha]).astype(np.float32) / 255
    shade = np.linspace(1.15, 0.7, SPRITE, dtype=np.float32)[:, None, None]
    full[..., :3] = np.minimum(full[..., :3] * shade, 1) * full[..., 3:]
    half = cv2.resize(full, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return Sprite((full, half, cv2.resize(half, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)))


def _draw_mark(rng: np.random.Generator, picture: Array, colour: tuple[int, ...]) -> None:
    """Draw a disc, a ring, a bar or a window onto a sprite: what makes a target recognisable."""
    x, y = (int(v) for v in rng.uniform(0.2, 0.8, 2) * SPRITE)
    size = int(rng.uniform(0.08, 0.22) * SPRITE)
    kind = int(rng.integers(4))
    if kind == 0:
        cv2.circle(picture, (x, y), size, colour, -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.circle(picture, (x, y), size, colour, 5, cv2.LINE_AA)
    elif kind == 2:
        start = (int(rng.uniform(0, SPRITE)), int(rng.uniform(0, SPRITE)))
        stop = (SPRITE - start[0], SPRITE - start[1])
        cv2.line(picture, start, stop, colour, size // 2 + 2, cv2.LINE_AA)
    else:
        cv2.rectangle(picture, (x - size, y - size // 2), (x + size, y + size), colour, -1, cv2.LINE_AA)


def sensor_noise(rng: np.random.Generator, width: int, height: int, deviation: float = 2.0) -> Array:
    """Return (height, width, 3) int16 noise that is added to frames; a tile of 128 pixels, repeated."""
    tile = np.round(rng.normal(0, deviation, (128, 128, 3))).astype(np.int16)
    return np.tile(tile, (height // 128 + 1, width // 128 + 1, 1))[:height, :width]
