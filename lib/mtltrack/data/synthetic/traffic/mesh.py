"""What a vehicle's surface is made of.

Body coordinates in metres: x forward from the middle, y to the left, z up from the ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

MATERIALS = (
    "paint",
    "accent",
    "glass",
    "trim",
    "grille",
    "seam",
    "tyre",
    "rim",
    "chrome",
    "head",
    "tail",
    "lamp",
)


@dataclass(frozen=True)
class Decal:
    """A polygon painted on the body: its vertices' numbers, the way it faces, its material."""

    corners: Indices
    normal: Array
    material: int


@dataclass(frozen=True)
class Mesh:
    """A vehicle's surface.

    Attributes:
        vertices: (V, 3).
        quads: (Q, 4) numbers of vertices; the first `under` of them are wheels and mirrors, drawn first.
        normals: (Q, 3) unit vectors to the outside.
        centres: (Q, 3).
        materials: (Q,) numbers of MATERIALS.
        decals: drawn over the body, in this order, where they face the camera.
        under: how many quads belong to wheels and mirrors.
        support: (S, 3) the vertices that stand out: no view of the vehicle reaches beyond them.
        lower: how many of these, the first ones, are those of the body below the cabin.
        plates: middle of the front and of the rear plate, (3,) each, or None.
        extent: length, width, height.
    """

    vertices: Array
    quads: Indices
    normals: Array
    centres: Array
    materials: Indices
    decals: tuple[Decal, ...]
    under: int
    support: Array
    lower: int
    plates: tuple[Array | None, Array | None]
    extent: Array


def outward_normals(vertices: Array, quads: Indices) -> Array:
    """Return the quads' unit normals, pointing away from the middle of the body."""
    corners = vertices[quads]
    normal = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    middle = corners.mean(axis=1)
    inside = middle * [0.6, 0.0, 0.0] + [0, 0, 0.7 * float(vertices[:, 2].max()) * 0.6]
    outward = ((middle - inside) * normal).sum(axis=1)
    return normal * np.where(outward < 0, -1.0, 1.0)[:, None]


def standing_out(vertices: Array, directions: int = 400) -> Array:
    """Return the vertices that lie farthest out in some of many directions spread over the sphere."""
    k = np.arange(directions) + 0.5
    height, turn = 1 - 2 * k / directions, np.pi * (1 + 5**0.5) * k
    level = np.sqrt(1 - height**2)
    ways = np.stack([level * np.cos(turn), level * np.sin(turn), height], axis=1)
    return vertices[np.unique((vertices @ ways.T).argmax(axis=0))]
