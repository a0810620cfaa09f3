"""The shadows of vehicles on the ground: the dark below them, and what the sun casts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import Camera
from mtltrack.data.synthetic.traffic.picture import darken
from mtltrack.data.synthetic.traffic.shading import Light

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
BELOW = 0.72  # how dark it is below a vehicle


def cast_shadow(canvas: Image, light: Light, camera: Camera, extent: Array, pose: Array, lit: float) -> None:
    """Darken the ground below and beside a vehicle, in place.

    Args:
        canvas: (H, W, 3).
        light: the scene's.
        camera: of the canvas.
        extent, pose: (3,) each, of the vehicle.
        lit: share of the direct light that arrives there.
    """
    below = _turned(_rectangle(extent[:2] * [0.98, 0.92]), pose)
    _darken_ground(canvas, camera, below, BELOW, 0.10)
    strength = light.shadow * lit
    if strength > 0.05:
        _darken_ground(canvas, camera, _cast(extent, pose, light.sun), strength, light.softness)


def _rectangle(extent: Array) -> Array:
    return np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * extent / 2


def _turned(corners: Array, pose: Array) -> Array:
    cosine, sine = np.cos(pose[2]), np.sin(pose[2])
    return corners @ np.array([[cosine, sine], [-sine, cosine]]) + pose[:2]


def _cast(extent: Array, pose: Array, sun: Array) -> Array:
    """Return the outline (N, 2) on the ground of the shadow of a body: wide below, narrower at the roof."""
    layers = [
        _turned(_rectangle(extent[:2] * share), pose)
        - sun[:2] / max(float(sun[2]), 0.25) * extent[2] * height
        for share, height in (([1.0, 0.95], 0.12), ([1.0, 0.95], 0.55), ([0.6, 0.78], 1.0))
    ]
    return cv2.convexHull(np.concatenate(layers).astype(np.float32))[:, 0].astype(np.float64)


def _darken_ground(canvas: Image, camera: Camera, ground: Array, strength: float, softness: float) -> None:
    seen = camera.project(np.column_stack([ground, np.zeros(len(ground))]))
    if seen[:, 2].min() < 1.0:
        return
    pixels = seen[:, :2]
    blur = softness * camera.focal / float(seen[:, 2].mean())
    reach = int(np.ceil(blur)) + 2
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - reach, 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + reach, canvas.shape[1::-1])
    if (high - low < 2).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    fixed = np.clip(np.round((pixels - low - 0.5) * 16), -60000, 60000).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_AA, 4)
    if blur > 0.7:
        kernel = 2 * int(np.ceil(blur)) + 1
        mask = cv2.blur(mask, (kernel, kernel))
        mask = cv2.blur(mask, (kernel, kernel)) if blur > 3 else mask
    darken(canvas, mask, (int(low[0]), int(low[1])), strength)
