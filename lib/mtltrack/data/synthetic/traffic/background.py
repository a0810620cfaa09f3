"""What stands still behind the vehicles: the ground with its markings, and the sky."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.textures import noise
from mtltrack.data.synthetic.traffic.camera import Camera
from mtltrack.data.synthetic.traffic.ground import paint_ground
from mtltrack.data.synthetic.traffic.scene import Plan
from mtltrack.data.synthetic.traffic.shading import GAMMA, displayed

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


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
    lit = np.full((size[1], size[0]), 255, np.uint8)
    paint_ground(rng, image, plan, camera)
    _illuminate(image, lit, plan)
    _paint_sky(rng, image, plan, camera)
    return Background(image, lit)


def _illuminate(image: Image, lit: Image, plan: Plan) -> None:
    """Turn painted surface colours into seen ones: the ground's light at each pixel."""
    light = plan.light
    share = np.linspace(0, 1, 256)[:, None]
    level = light.ambient + light.direct * max(float(light.sun[2]), 0.1) * share
    gain = (level ** (1 / GAMMA)).astype(np.float32)  # of pixel values: the same for all colours
    factors = cv2.LUT(cv2.merge([lit, lit, lit]), gain[:, None, :])
    cv2.multiply(image, factors, dst=image, dtype=cv2.CV_8U)


def _paint_sky(rng: np.random.Generator, image: Image, plan: Plan, camera: Camera) -> None:
    rows = int(np.clip(np.ceil(camera.horizon()), 0, image.shape[0]))
    if rows < 2:
        return
    share = np.linspace(1, 0, rows)[:, None] ** 0.7
    ramp = displayed(plan.light.horizon + (plan.light.zenith - plan.light.horizon) * share)
    clouds = (noise(rng, image.shape[1] // 4, max(rows // 4, 2), cells=4, octaves=3) - 0.5) * 30
    clouds = cv2.resize(clouds, (image.shape[1], rows))
    image[:rows] = np.clip(ramp[:, None] + clouds[..., None], 0, 255).astype(np.uint8)
