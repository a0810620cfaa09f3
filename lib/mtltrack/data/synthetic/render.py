"""The pixels of a rendered frame: background, objects, bar; then blur, light, resolution, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.pixels import change_light, coarsen
from mtltrack.data.synthetic.conditions import state_at
from mtltrack.data.synthetic.motion import Plan, Pose, State, Strip, bystander_poses, wave
from mtltrack.data.synthetic.textures import (
    SPRITE,
    SPRITE_MARGIN,
    Sprite,
    background,
    outline,
    sensor_noise,
    sprite,
)

Image = NDArray[np.uint8]
PAN = 0.07  # share of the frame by which the background is larger at each side
NOISE_SHIFTS = 32


@dataclass(frozen=True)
class Looks:
    """The textures of a sequence."""

    background: Image
    target: Sprite
    disguise: Sprite
    bystanders: tuple[Sprite, ...]
    bar: Image
    noise: NDArray[np.int16]


def make_looks(plan: Plan) -> Looks:
    """Draw the textures of a sequence from its key."""
    rng = np.random.default_rng([*plan.key, 3])
    width, height = plan.size
    return Looks(
        background=background(rng, int(width * (1 + 2 * PAN)) + 2, int(height * (1 + 2 * PAN)) + 2),
        target=sprite(rng, plan.outline),
        disguise=sprite(rng, plan.outline),
        bystanders=tuple(sprite(rng, outline(rng)) for _ in plan.bystanders),
        bar=background(rng, width // 2, height // 2),
        noise=sensor_noise(rng, width + NOISE_SHIFTS, height + NOISE_SHIFTS),
    )


def render(plan: Plan, looks: Looks, frame: int) -> Image:
    """Return frame number `frame` (0-based) as uint8 RGB (height, width, 3)."""
    state = state_at(plan, frame)
    image = _camera(plan, looks.background, frame)
    for pose, look in zip(bystander_poses(plan, frame), looks.bystanders, strict=True):
        draw_sprite(image, look, pose)
    for pose in state.doubles:
        draw_sprite(image, looks.target, pose)
    smear = _smear_kernel(state) if state.blur >= 1 else None
    own_smear = None if state.episode.variant else smear
    draw_sprite(image, looks.target, state.target, own_smear, looks.disguise, state.disguise)
    if state.strip is not None:
        _draw_strip(image, looks.bar, state.strip)
    if smear is not None and state.episode.variant:
        image = cv2.filter2D(image, -1, smear, borderType=cv2.BORDER_REPLICATE)
    image = change_light(image, state.light)
    image = coarsen(image, state.coarseness)
    return _noisy(image, looks, plan, frame)


def _camera(plan: Plan, canvas: Image, frame: int) -> Image:
    """Cut the frame out of the larger background, at a place that pans slowly."""
    width, height = plan.size
    x = (canvas.shape[1] - 1) / 2 + wave(plan.pan_x, frame)
    y = (canvas.shape[0] - 1) / 2 + wave(plan.pan_y, frame)
    return cv2.getRectSubPix(canvas, (width, height), (x, y))


def draw_sprite(
    image: Image,
    look: Sprite,
    pose: Pose,
    smear: NDArray[np.float32] | None = None,
    disguise: Sprite | None = None,
    disguised: float = 0.0,
) -> None:
    """Blend a sprite into `image` in place.

    Args:
        image: uint8 RGB.
        look: the sprite.
        pose: its place.
        smear: kernel of a motion blur of the sprite alone.
        disguise: a second sprite, of which the share `disguised` in [0, 1] is mixed in.
        disguised: that share.
    """
    height, width = image.shape[:2]
    reach = np.abs(pose.matrix()).sum(axis=1) / 2 + 2 + (0 if smear is None else smear.shape[0])
    low = np.maximum(np.floor(pose.centre - reach), 0).astype(int)
    high = np.minimum(np.ceil(pose.centre + reach), [width, height]).astype(int)
    if (high <= low).any():
        return
    level = _level(pose)
    texture = look.levels[level]
    if disguise is not None and disguised > 0:
        texture = (1 - disguised) * texture + disguised * disguise.levels[level]
    pad = 0 if smear is None else smear.shape[0]  # so that a blur at the frame's edge sees what lies outside
    size = (int(high[0] - low[0]) + 2 * pad, int(high[1] - low[1]) + 2 * pad)
    patch = cv2.warpAffine(texture, _texture_to_patch(pose, level, low - pad), size, flags=cv2.INTER_LINEAR)
    if smear is not None:
        patch = cv2.filter2D(patch, -1, smear)[pad : size[1] - pad, pad : size[0] - pad]
    patch = patch * np.float32(pose.opacity)
    region = image[low[1] : high[1], low[0] : high[0]]
    region[:] = np.round(region * (1 - patch[..., 3:]) + 255 * patch[..., :3]).astype(np.uint8)


def _level(pose: Pose) -> int:
    """Return the texture level whose pixels are nearest to the frame's in size, from above."""
    shrink = (SPRITE - 2 * SPRITE_MARGIN) / float(pose.extent.mean())
    return int(np.clip(np.floor(np.log2(max(shrink, 1.0)) + 0.25), 0, 2))


def _texture_to_patch(pose: Pose, level: int, origin: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the (2, 3) affine from pixels of a texture level to pixels of a patch starting at `origin`."""
    pixels = SPRITE / 2**level
    span = (SPRITE - 2 * SPRITE_MARGIN) / 2**level  # texture pixels that the unit sprite fills
    matrix = pose.matrix() / span
    middle = (pixels - 1) / 2  # pixel index of the sprite's middle
    shift = pose.centre - 0.5 - origin - matrix @ [middle, middle]
    return np.column_stack([matrix, shift])


def _smear_kernel(state: State) -> NDArray[np.float32]:
    """Return a square kernel that averages along a line of `state.blur` pixels."""
    half = int(np.ceil(state.blur / 2))
    way = np.array([np.cos(state.episode.direction), np.sin(state.episode.direction)]) * state.blur / 2
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    for share in np.linspace(-1, 1, 4 * half + 1):
        x, y = half + share * way
        column, row = int(x), int(y)
        right, below = x - column, y - row
        kernel[row, column] += (1 - right) * (1 - below)
        if right > 0:
            kernel[row, column + 1] += right * (1 - below)
        if below > 0:
            kernel[row + 1, column] += (1 - right) * below
        if right > 0 and below > 0:
            kernel[row + 1, column + 1] += right * below
    return kernel / kernel.sum()


def _draw_strip(image: Image, bar: Image, strip: Strip) -> None:
    height, width = image.shape[:2]
    along = np.array([-strip.normal[1], strip.normal[0]]) * (width + height)
    across = strip.normal * strip.half_width
    corners = strip.point + np.array([along + across, -along + across, -along - across, along - across]) - 0.5
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 255, cv2.LINE_AA, shift=4)
    cover = cv2.resize(bar, (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.copyTo(cover, mask, image)


def _noisy(image: Image, looks: Looks, plan: Plan, frame: int) -> Image:
    x, y = np.random.default_rng([*plan.key, 4, frame]).integers(0, NOISE_SHIFTS, 2)
    grain = looks.noise[y : y + image.shape[0], x : x + image.shape[1]]
    return cv2.add(image, grain, dtype=cv2.CV_8U)
