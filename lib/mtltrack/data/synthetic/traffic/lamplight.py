"""What the lamps of vehicles do at night: light on the road ahead, and glare."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import Camera, placed
from mtltrack.data.synthetic.traffic.drawing import Lamps, Model

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
BEAM = ((1.0, 45), (0.75, 110), (0.45, 200))  # shares of the beam's extent, share of 255 of its light
BEAM_EXTENT = (7.0, 2.1)  # metres along and across
BEAM_START = 1.5  # metres before the bumper
BEAM_POWER = 2.4  # times the light that is there already
HEAD_GLARE, TAIL_GLARE = 0.55, 0.26  # metres
HEAD_COLOUR, TAIL_COLOUR = (255.0, 246.0, 222.0), (235.0, 26.0, 16.0)


def light_road(canvas: Image, camera: Camera, extent: Array, pose: Array) -> None:
    """Brighten the road before a vehicle, in place."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.column_stack([np.cos(angle) * BEAM_EXTENT[0], np.sin(angle) * BEAM_EXTENT[1]])
    start = extent[0] / 2 + BEAM_START + BEAM_EXTENT[0]
    shapes = [np.column_stack([ring * share + [start, 0], np.zeros(len(ring))]) for share, _ in BEAM]
    seen = camera.project(placed(np.concatenate(shapes), pose))
    if seen[:, 2].min() < 1.5:
        return
    pixels = seen[:, :2]
    soft = np.maximum(np.ptp(pixels, axis=0) / 6, 1).astype(int)  # width of the beam's edge
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - soft, 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + soft, canvas.shape[1::-1])
    if (high - low < 3).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    fixed = np.clip(np.round((pixels - low - 0.5) * 16), -60000, 60000).astype(np.int32)
    for shape, (_, light) in zip(np.split(fixed, len(BEAM)), BEAM, strict=True):
        cv2.fillConvexPoly(mask, shape, light, cv2.LINE_8, 4)
    wide = np.minimum(2 * soft + 1, 2 * ((high - low) // 2) - 1)
    mask = cv2.blur(mask, (int(wide[0]), int(wide[1])), borderType=cv2.BORDER_REPLICATE)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    more = cv2.multiply(region, cv2.merge([mask, mask, mask]), scale=BEAM_POWER / 255)
    cv2.add(region, more, dst=region)


def add_glare(canvas: Image, camera: Camera, model: Model, pose: Array, lamps: Lamps) -> None:
    """Let the lamps that face the camera shine, in place."""
    ahead = np.array([np.cos(pose[2]), np.sin(pose[2])]) @ (camera.position[:2] - pose[:2])
    front = bool(ahead > 0)
    if not (lamps.head if front else lamps.tail or lamps.brakes):
        return
    places = model.head_places if front else model.tail_places
    if not len(places):
        return
    reach, colour = (HEAD_GLARE, HEAD_COLOUR) if front else (TAIL_GLARE, TAIL_COLOUR)
    slant = min(abs(float(ahead)) / float(np.hypot(*(camera.position[:2] - pose[:2]))), 1.0)
    for x, y, depth in camera.project(placed(places, pose)):
        if depth > 2:
            _add_spot(canvas, float(x), float(y), reach * camera.focal / float(depth), colour, slant**2)


def _add_spot(
    canvas: Image, x: float, y: float, radius: float, colour: tuple[float, float, float], power: float
) -> None:
    low = [max(int(np.floor(value - radius)), 0) for value in (x, y)]
    high = [
        min(int(np.ceil(value + radius)) + 1, side)
        for value, side in zip((x, y), canvas.shape[1::-1], strict=True)
    ]
    if high[0] <= low[0] or high[1] <= low[1]:
        return
    across = (np.arange(low[0], high[0], dtype=np.float32) + 0.5 - x) / radius
    down = (np.arange(low[1], high[1], dtype=np.float32) + 0.5 - y) / radius
    fall = np.clip(1 - np.sqrt(across**2 + down[:, None] ** 2), 0, 1) ** 2 * np.float32(power)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    cv2.add(region, cv2.merge([fall * np.float32(value) for value in colour]), dst=region, dtype=cv2.CV_8U)
