"""Trees and street lamps beside the road."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import Camera
from mtltrack.data.synthetic.traffic.houses import never_before_road
from mtltrack.data.synthetic.traffic.road import SIDE_STREET, Road
from mtltrack.data.synthetic.traffic.shading import Light

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
MOST_LEAVES = 900  # blobs of a crown
LAMP_HEIGHT = 6.5  # metres
LAMP_SPACING = 22.0


@dataclass(frozen=True)
class Tree:
    """A tree: its place, the height of its trunk and the radius of its crown in metres, its colour."""

    x: float
    y: float
    trunk: float
    radius: float
    colour: tuple[float, float, float]


def draw_trees(rng: np.random.Generator, road: Road, camera: Camera) -> list[Tree]:
    """Draw the trees of both pavements; those before the camera are left out."""
    trees = []
    for side in (-1, 1):
        if rng.random() < 0.45:
            continue
        kerb = road.right if side > 0 else road.left
        x = kerb + side * min(road.walk - 0.4, 1.0)
        green = np.array([66, 98, 44]) * rng.uniform(0.75, 1.25) + [rng.uniform(-12, 40), 0, 0]
        spacing, y = float(rng.uniform(7, 16)), float(rng.uniform(3, 12))
        while y < 60:
            at_corner = (
                road.corner is not None and road.corner[1] == side and abs(road.corner[0] - y) < SIDE_STREET
            )
            if not at_corner and never_before_road(road, camera, x - side * 0.3, y):
                colour = np.clip(green * rng.uniform(0.85, 1.15), 10, 230)
                trunk, radius = (float(rng.uniform(2.6, 3.6)), float(rng.uniform(1.3, 2.1)))
                trees.append(
                    Tree(x, y, trunk, radius, (float(colour[0]), float(colour[1]), float(colour[2])))
                )
            y += spacing * float(rng.uniform(0.8, 1.2))
    return trees


def paint_trees(
    rng: np.random.Generator, image: Image, trees: list[Tree], camera: Camera, light: Light
) -> None:
    """Paint trees from far to near."""
    for tree in sorted(trees, key=lambda tree: -tree.y):
        foot, fork, middle = camera.project(
            np.array(
                [
                    [tree.x, tree.y, 0],
                    [tree.x, tree.y, tree.trunk],
                    [tree.x, tree.y, tree.trunk + tree.radius],
                ]
            )
        )
        if foot[2] < 8:
            continue
        scale = camera.focal / float(middle[2])
        width = max(1, round(0.22 * scale))
        _line(image, foot[:2], fork[:2] - [0, tree.radius * 0.5 * scale], (78, 66, 54), width)
        _paint_crown(rng, image, middle[:2], tree.radius * scale, tree.colour, light, camera)


def _paint_crown(
    rng: np.random.Generator,
    image: Image,
    middle: Array,
    radius: float,
    colour: tuple[float, float, float],
    light: Light,
    camera: Camera,
) -> None:
    """Paint a ball of leaves, brighter towards the sun and above."""
    if middle[1] + radius * 1.2 < 0:
        return
    leaves = int(np.clip(radius**2 / 8, 40, MOST_LEAVES))
    points = rng.normal(0, 0.6, (leaves, 3)) * [1.0, 0.9, 1.0]
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1.0)
    points = points[points[:, 2].argsort()[::-1]]  # z here: away from the camera
    sun = camera.axes @ light.sun
    facing = points @ (sun * [1, 1, -1] if light.direct.mean() > 0.5 else np.array([0, -0.6, 0]))
    tone = np.clip(0.78 + 0.42 * facing + 0.16 * rng.standard_normal(leaves), 0.3, 1.4)
    sizes = np.clip(radius * rng.uniform(0.08, 0.2, leaves), 0.8, 9.0)
    fixed = np.round((middle + points[:, :2] * radius - 0.5) * 16).astype(int).tolist()
    for centre, size, share in zip(fixed, sizes.tolist(), tone.tolist(), strict=True):
        leaf = tuple(min(255.0, share * value) for value in colour)
        cv2.circle(image, centre, round(size * 16), leaf, -1, cv2.LINE_AA, 4)


def draw_lamps(rng: np.random.Generator, road: Road) -> list[tuple[float, float, int]]:
    """Draw the street lamps: x, y and the side (-1 or 1) that each stands on."""
    side = int(rng.choice([-1, 1]))
    both = rng.random() < 0.4
    start, lamps = float(rng.uniform(0, LAMP_SPACING)), []
    for k, y in enumerate(np.arange(start, 80, LAMP_SPACING)):
        here = side if not both or k % 2 == 0 else -side
        lamps.append(((road.right if here > 0 else road.left) + here * 0.5, float(y), here))
    return lamps


def paint_lamps(
    image: Image,
    glow: Image | None,
    lamps: list[tuple[float, float, int]],
    road: Road,
    camera: Camera,
    light: Light,
) -> None:
    """Paint the posts of street lamps, and at night the lamps' light."""
    for x, y, side in reversed(lamps):
        reach = x - side * 1.6
        posts = np.array([[x, y, 0], [x, y, LAMP_HEIGHT], [reach, y, LAMP_HEIGHT + 0.25]])
        seen = camera.project(posts)
        if seen[:, 2].min() < 3 or not never_before_road(road, camera, x, y):
            continue
        width = max(1, round(0.13 * camera.focal / float(seen[0, 2])))
        _line(image, seen[0, :2], seen[1, :2], (96, 98, 100), width)
        _line(image, seen[1, :2], seen[2, :2], (96, 98, 100), max(1, width - 1))
        if glow is not None:
            size = 0.22 * camera.focal / float(seen[2, 2])
            shine = 255 * (light.direct / light.direct.max()) ** 0.45
            centre = np.round((seen[2, :2] - 0.5) * 16).astype(int).tolist()
            for share, power in ((3.2, 0.25), (1.8, 0.5), (1.0, 1.0)):
                cv2.circle(
                    glow, centre, round(size * share * 16), (shine * power).tolist(), -1, cv2.LINE_AA, 4
                )


def _line(image: Image, start: Array, stop: Array, colour: tuple[float, float, float], width: int) -> None:
    ends = [
        np.round((np.clip(point, -4000, 4000) - 0.5) * 16).astype(int).tolist() for point in (start, stop)
    ]
    cv2.line(image, ends[0], ends[1], colour, width, cv2.LINE_AA, 4)
