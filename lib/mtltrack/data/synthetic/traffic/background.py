"""What stands still behind the vehicles: ground, houses, trees, sky, and the light that falls on them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.textures import noise
from mtltrack.data.synthetic.traffic.camera import Camera
from mtltrack.data.synthetic.traffic.ground import Brush, paint_ground
from mtltrack.data.synthetic.traffic.houses import House, draw_rows, paint_houses
from mtltrack.data.synthetic.traffic.roadside import Tree, draw_lamps, draw_trees, paint_lamps, paint_trees
from mtltrack.data.synthetic.traffic.scene import Plan
from mtltrack.data.synthetic.traffic.shading import GAMMA, Light, displayed

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
POOL = (
    (9.0, 40),
    (7.0, 75),
    (5.2, 120),
    (3.6, 175),
    (2.2, 235),
)  # radius in metres and share of 255 of a lamp's light
UNLIT = 22  # share of 255 of the lamps' light that gets everywhere


@dataclass(frozen=True)
class Background:
    """The scene without vehicles, on the canvas.

    Attributes:
        image: (H, W, 3) uint8.
        lit: (H, W) uint8, share of the direct light that arrives on the ground, 255 for all of it.
    """

    image: Image
    lit: Image


def draw_background(
    rng: np.random.Generator, plan: Plan, camera: Camera, size: tuple[int, int]
) -> Background:
    """Draw the scene of a plan for the canvas camera; `size` is the canvas's, pixels."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    glow = np.zeros_like(image) if plan.light.night else None
    houses, trees = (draw_rows(rng, plan.road, camera), draw_trees(rng, plan.road, camera))
    lamps = draw_lamps(rng, plan.road)
    lit = (
        _pools(lamps, camera, size) if plan.light.night else _sunlit(plan.light, houses, trees, camera, size)
    )
    paint_ground(rng, image, plan, camera)
    _paint_sky(rng, image, plan.light, camera, int(lit[0, 0]))
    paint_houses(rng, image, glow, houses, camera, plan.light)
    paint_lamps(image, glow, lamps, plan.road, camera, plan.light)
    paint_trees(rng, image, trees, camera, plan.light)
    cv2.multiply(image, _gain(lit, plan.light), dst=image, dtype=cv2.CV_8U)
    if glow is not None:
        cv2.add(image, glow, dst=image)
        cv2.add(image, cv2.convertScaleAbs(cv2.blur(glow, (25, 25)), alpha=0.35), dst=image)
    return Background(image, lit)


def _gain(lit: Image, light: Light) -> NDArray[np.float32]:
    """Return (H, W, 3) the factor from surface colours to seen ones, for the ground's light at each pixel."""
    table = _gains(light, np.arange(256)[:, None])
    return cv2.LUT(cv2.merge([lit, lit, lit]), table[:, None, :].astype(np.float32))


def _gains(light: Light, lit: Array) -> Array:
    level = light.ambient + light.direct * max(float(light.sun[2]), 0.1) * lit / 255
    return level ** (1 / GAMMA)  # of pixel values: the same for all colours


def _sunlit(
    light: Light, houses: list[House], trees: list[Tree], camera: Camera, size: tuple[int, int]
) -> Image:
    """Return (H, W) where the sun reaches the ground: not behind houses and trees."""
    lit = np.full((size[1], size[0]), 255, np.uint8)
    if light.shadow < 0.4:
        return lit
    brush = Brush(lit, camera)
    away = -light.sun[:2] / max(float(light.sun[2]), 0.25)
    for house in houses:
        (x0, y0, _), (x1, y1, top) = house.low, house.high
        base = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        both = np.concatenate([base, base + away * top]).astype(np.float32)
        brush.polygon(cv2.convexHull(both)[:, 0].astype(np.float64), (70.0, 0, 0))
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for tree in trees:
        middle = np.array([tree.x, tree.y]) + away * (tree.trunk + tree.radius)
        crown = middle + tree.radius * 0.9 * np.column_stack([np.cos(angle), np.sin(angle)])
        brush.polygon(crown, (110.0, 0, 0))
    return cv2.blur(lit, (7, 5))


def _pools(lamps: list[tuple[float, float, int]], camera: Camera, size: tuple[int, int]) -> Image:
    """Return (H, W) where the street lamps light the ground."""
    lit = np.full((size[1], size[0]), UNLIT, np.uint8)
    brush = Brush(lit, camera)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.column_stack([np.cos(angle), np.sin(angle)])
    for radius, share in POOL:
        for x, y, side in lamps:
            brush.polygon(np.array([x - side * 1.4, y]) + radius * ring, (float(share), 0, 0))
    wide = max(size[0] // 24, 3)
    return cv2.blur(cv2.blur(lit, (wide, wide // 2)), (wide, wide // 2))


def _paint_sky(rng: np.random.Generator, image: Image, light: Light, camera: Camera, lit: int) -> None:
    """Paint the sky and the houses far away; `lit` is the light that will be applied to it."""
    rows = int(np.clip(np.ceil(camera.horizon()), 0, image.shape[0]))
    if rows < 2:
        return
    share = np.linspace(1, 0, rows)[:, None] ** 0.7
    ramp = displayed(light.horizon + (light.zenith - light.horizon) * share)
    clouds = (noise(rng, image.shape[1] // 4, max(rows // 4, 2), cells=4, octaves=3) - 0.5) * (
        8 if light.night else 36
    )
    clouds = cv2.resize(clouds, (image.shape[1], rows))
    sky = np.clip(ramp[:, None] + clouds[..., None], 0, 255)
    far = displayed(0.6 * light.horizon + 0.25 * light.ambient)
    x, unit = 0, image.shape[1] / 640
    while x < image.shape[1]:
        width, height = (int(rng.uniform(14, 60) * unit) + 1, int(rng.uniform(3, 26) * unit))
        sky[max(rows - height, 0) :, x : x + width] = far * rng.uniform(0.9, 1.05)
        x += width
    gain = _gains(light, np.array(float(lit)))
    image[:rows] = np.clip(sky / gain, 0, 255).astype(np.uint8)
