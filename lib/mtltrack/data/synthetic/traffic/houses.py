"""Houses along the road: boxes whose walls carry windows, doors, shops and roofs."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.textures import noise
from mtltrack.data.synthetic.traffic.camera import Camera
from mtltrack.data.synthetic.traffic.picture import paste
from mtltrack.data.synthetic.traffic.road import SIDE_STREET, Road
from mtltrack.data.synthetic.traffic.shading import GAMMA, Light

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
DETAIL = 14  # pixels a metre of a wall's texture
FLOOR = 3.0  # metres
NEAR = 0.5  # metres before the camera; what is nearer of a wall is left out
WALLS = (
    (196, 180, 150),
    (178, 170, 160),
    (150, 96, 78),
    (204, 198, 188),
    (160, 140, 118),
    (130, 128, 126),
    (190, 160, 130),
    (112, 84, 74),
)


@dataclass(frozen=True)
class House:
    """A box on the ground: low and high corner (3,) metres; `wall` colour, `kind` of walls."""

    low: Array
    high: Array
    wall: tuple[float, float, float]
    kind: str


def draw_rows(rng: np.random.Generator, road: Road, camera: Camera) -> list[House]:
    """Draw the houses, walls and hedges of both sides of the road; those before the camera are left out."""
    houses: list[House] = []
    for side in (-1, 1):
        kerb = road.right if side > 0 else road.left
        kind = str(rng.choice(["city", "houses", "hedge", "wall", "open"], p=[0.38, 0.27, 0.12, 0.11, 0.12]))
        if kind == "open":
            continue
        inner = kerb + side * (road.walk + float(rng.uniform(0.1, 0.6 if kind != "houses" else 5.0)))
        houses += _row(rng, road, side, inner, kind)
    return [house for house in houses if _stays_behind(house, road, camera)]


def _row(rng: np.random.Generator, road: Road, side: int, inner: float, kind: str) -> list[House]:
    row = []
    y = float(rng.uniform(-12, -6))
    low_wall = WALLS[int(rng.integers(len(WALLS)))]
    while y < 85:
        length = float(rng.uniform(7, 16))
        height, depth = (float(rng.uniform(2, 5)) * FLOOR + 1.0, float(rng.uniform(7, 12)))
        wall, look = WALLS[int(rng.integers(len(WALLS)))], "wall"
        if kind == "houses":
            height, length = (float(rng.uniform(1, 2.4)) * FLOOR + 1.2, float(rng.uniform(7, 11)))
        elif kind in ("hedge", "wall"):
            height, depth, length = (1.3, 0.8, 12.0) if kind == "hedge" else (2.0, 0.3, 9.0)
            wall, look = ((64, 88, 44), "hedge") if kind == "hedge" else (low_wall, "bare")
        blocked = road.corner is not None and road.corner[1] == side
        gap = SIDE_STREET / 2 + road.walk + 0.3
        if (
            blocked
            and road.corner is not None
            and y < road.corner[0] + gap
            and y + length > road.corner[0] - gap
        ):
            if road.corner[0] - gap - y < 5:
                y = road.corner[0] + gap
                continue
            length = road.corner[0] - gap - y
        x = sorted((inner, inner + side * depth))
        row.append(House(np.array([x[0], y, 0.0]), np.array([x[1], y + length, height]), wall, look))
        y += length + (float(rng.uniform(0, 0.2)) if kind != "houses" else float(rng.uniform(2, 7)))
    return row


def _stays_behind(house: House, road: Road, camera: Camera) -> bool:
    """Say whether the house can never hide anything on the road from the camera."""
    return all(
        never_before_road(road, camera, x, y)
        for x in (house.low[0], house.high[0])
        for y in (house.low[1], house.high[1])
    ) and not (house.low[0] - 1 < camera.position[0] < house.high[0] + 1 and house.low[1] < 2 < house.high[1])


def never_before_road(road: Road, camera: Camera, x: float, y: float) -> bool:
    """Say whether the line from the camera over (x, y) misses the carriageway behind that point."""
    if y <= camera.position[1] + 0.5:
        return True
    behind = np.linspace(y, 70.0, 12) if y < 70 else np.array([y])
    there = camera.position[0] + (x - camera.position[0]) * (behind - camera.position[1]) / (
        y - camera.position[1]
    )
    return bool(((there <= road.left) | (there >= road.right)).all())


def paint_houses(
    rng: np.random.Generator,
    image: Image,
    glow: Image | None,
    houses: list[House],
    camera: Camera,
    light: Light,
) -> None:
    """Paint houses from far to near.

    Args:
        rng: source of everything random.
        image: surface colours, drawn into.
        glow: what shines by itself, drawn into at night.
        houses: see `draw_rows`.
        camera: of the picture.
        light: the scene's; walls in the shade are darker.
    """
    place = camera.position
    for house in sorted(
        houses, key=lambda house: -float(np.hypot(*((house.low + house.high)[:2] / 2 - place[:2])))
    ):
        for corners, normal, size in _faces(house, place):
            seen = camera.project(corners)
            if seen[:, 2].min() < NEAR or not _in_picture(seen, image):
                continue
            texture, shine = _texture(rng, house, size, glow is not None)
            factor = _wall_light(normal, light)
            wall = cv2.convertScaleAbs(texture, alpha=factor)
            paste(image, wall, seen[:, :2])
            if glow is not None:
                paste(glow, shine, seen[:, :2])
        if place[2] > house.high[2]:
            _paint_roof(image, house, camera)


def _in_picture(seen: Array, image: Image) -> bool:
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    return bool((high > 0).all() and (low < image.shape[1::-1]).all())


def _faces(house: House, place: Array) -> list[tuple[Array, Array, tuple[float, float]]]:
    """Return the walls that face the camera: corners (4, 3), top left first, normal, width and height."""
    (x0, y0, _), (x1, y1, top) = house.low, house.high
    faces = []
    if place[0] < x0 or place[0] > x1:
        x, sign = (x0, -1.0) if place[0] < x0 else (x1, 1.0)
        start = max(y0, place[1] + 1.0)  # nothing beside or behind the camera
        while start < y1:
            stop = min(start + (2.0 if start < place[1] + 3 else 6.0), y1)
            ends = (stop, start) if sign < 0 else (start, stop)
            corners = np.array([[x, ends[0], top], [x, ends[1], top], [x, ends[1], 0], [x, ends[0], 0]])
            faces.append((corners, np.array([sign, 0, 0]), (stop - start, top)))
            start = stop
    if place[1] < y0:
        corners = np.array([[x0, y0, top], [x1, y0, top], [x1, y0, 0], [x0, y0, 0]])
        faces.append((corners, np.array([0, -1.0, 0]), (x1 - x0, top)))
    return faces


def _wall_light(normal: Array, light: Light) -> float:
    """Return the factor of a wall's pixel values against those of the ground in the same light."""
    ground = light.ambient.mean() + light.direct.mean() * max(float(light.sun[2]), 0.1)
    wall = 0.75 * light.ambient.mean() + light.direct.mean() * max(float(normal @ light.sun), 0.0)
    return float((wall / ground) ** (1 / GAMMA))


def _paint_roof(image: Image, house: House, camera: Camera) -> None:
    (x0, y0, _), (x1, y1, top) = house.low, house.high
    roof = np.array([[x0, y0, top], [x1, y0, top], [x1, y1, top], [x0, y1, top]])
    seen = camera.project(roof)
    if seen[:, 2].min() > NEAR:
        colour = (74, 96, 50) if house.kind == "hedge" else (122, 112, 106)
        cv2.fillConvexPoly(image, np.round((seen[:, :2] - 0.5) * 16).astype(np.int32), colour, cv2.LINE_AA, 4)


def _texture(
    rng: np.random.Generator, house: House, size: tuple[float, float], night: bool
) -> tuple[Image, Image]:
    """Return the picture of a wall of `size` metres, and what shines of it."""
    width, height = (max(8, round(side * DETAIL)) for side in size)
    rough = noise(rng, width, height, cells=max(2, width // 16), octaves=3)[..., None] - 0.5
    strength = 90 if house.kind == "hedge" else 22
    texture = np.clip(np.array(house.wall) + strength * rough, 0, 255).astype(np.uint8)
    shine = np.zeros_like(texture)
    if house.kind == "wall":
        _windows(rng, texture, shine, size, night)
    return texture, shine


def _windows(
    rng: np.random.Generator, texture: Image, shine: Image, size: tuple[float, float], night: bool
) -> None:
    height = texture.shape[0]
    columns = max(1, round(size[0] / 2.4))
    pitch = texture.shape[1] / columns
    frame = int(rng.choice([60, 120, 225]))
    shop = rng.random() < 0.4
    for floor in range(int(size[1] // FLOOR)):
        sill = height - round((floor * FLOOR + 0.95) * DETAIL)
        head = sill - round(1.45 * DETAIL)
        left, right = 0.22, 0.78
        if floor == 0 and shop:
            sill, head, left, right = (height - round(0.4 * DETAIL), height - round(2.5 * DETAIL), 0.06, 0.94)
        for column in range(columns):
            x0, x1 = round((column + left) * pitch), round((column + right) * pitch)
            tone = float(rng.uniform(35, 95))
            glass = (tone * 0.9, tone, tone * 1.1)
            cv2.rectangle(texture, (x0 - 1, head - 1), (x1 + 1, sill + 1), (frame, frame, frame), -1)
            cv2.rectangle(texture, (x0, head), (x1, sill), glass, -1)
            middle = (head + sill) // 2
            cv2.rectangle(texture, (x0, head), (x1, middle), tuple(min(255, 1.35 * g) for g in glass), -1)
            cv2.line(texture, ((x0 + x1) // 2, head), ((x0 + x1) // 2, sill), (frame, frame, frame), 1)
            if night and rng.random() < (0.6 if floor == 0 and shop else 0.3):
                warm = float(rng.uniform(0.45, 1.0))
                cv2.rectangle(shine, (x0, head), (x1, sill), (225 * warm, 178 * warm, 105 * warm), -1)
    ledge = texture[: round(0.25 * DETAIL)]
    ledge[:] = (ledge * 0.7).astype(np.uint8)
