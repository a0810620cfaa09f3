"""How light falls on vehicles: sun and sky, reflections of the surroundings.

Colours are linear RGB in [0, 1] until `displayed` makes pixels of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.mesh import MATERIALS

Array = NDArray[np.float64]
GAMMA = 2.2

ALBEDO = {
    "paint": (0.5, 0.5, 0.5),  # replaced by the vehicle's own
    "accent": (0.5, 0.5, 0.5),
    "glass": (0.012, 0.016, 0.018),
    "trim": (0.022, 0.022, 0.024),
    "grille": (0.012, 0.012, 0.013),
    "seam": (0.008, 0.008, 0.008),
    "tyre": (0.014, 0.014, 0.015),
    "rim": (0.32, 0.33, 0.35),
    "chrome": (0.45, 0.46, 0.48),
    "head": (0.55, 0.57, 0.60),
    "tail": (0.34, 0.012, 0.012),
    "lamp": (0.02, 0.02, 0.02),
}
GLOSS = {"paint": 0.05, "accent": 0.05, "glass": 0.09, "chrome": 0.35, "head": 0.2, "tail": 0.06, "rim": 0.1}
GRAZING = {"paint": 0.45, "accent": 0.45, "glass": 0.85, "chrome": 0.5, "head": 0.6, "tail": 0.3, "rim": 0.1}


@dataclass(frozen=True)
class Light:
    """The light of a scene; colours are linear RGB.

    Attributes:
        night: whether lamps are on.
        sun: (3,) unit vector towards the sun, or towards the street lamps.
        direct: (3,) its light; falls only where the scene is lit.
        ambient: (3,) light from everywhere.
        zenith, horizon, ground: (3,) what smooth surfaces reflect, from above to below.
        shadow: how dark shadows are, in [0, 1].
        softness: width of the shadows' edge in metres.
    """

    night: bool
    sun: Array
    direct: Array
    ambient: Array
    zenith: Array
    horizon: Array
    ground: Array
    shadow: float
    softness: float


def displayed(colour: Array) -> Array:
    """Map linear light (..., 3) to pixel values [0, 255], bright parts compressed."""
    level = np.clip(colour, 0, None)
    level = np.where(level > 0.7, 0.7 + 0.3 * np.tanh((level - 0.7) / 0.3), level)
    return 255 * level ** (1 / GAMMA)


def linear(pixels: Array) -> Array:
    """Map pixel values [0, 255] to linear light."""
    return (np.asarray(pixels, np.float64) / 255) ** GAMMA


def material_tables(paint: Array, accent: Array) -> tuple[Array, Array, Array]:
    """Return albedo (M, 3), gloss (M,) and grazing gloss (M,) of MATERIALS for a vehicle's colours."""
    albedo = np.array([ALBEDO[name] for name in MATERIALS])
    albedo[MATERIALS.index("paint")] = paint
    albedo[MATERIALS.index("accent")] = accent
    gloss = np.array([GLOSS.get(name, 0.02) for name in MATERIALS])
    grazing = np.array([GRAZING.get(name, 0.05) for name in MATERIALS])
    return albedo, gloss, grazing


def shade(
    normals: Array,
    towards_camera: Array,
    heights: Array,
    materials: NDArray[np.int64],
    tables: tuple[Array, Array, Array],
    light: Light,
    lit: float,
) -> Array:
    """Return the linear colours (N, 3) of surfaces.

    Args:
        normals: (N, 3) unit vectors in the world.
        towards_camera: (N, 3) unit vectors.
        heights: (N,) metres above the ground; low parts get less light from the sky.
        materials: (N,) numbers of MATERIALS.
        tables: see `material_tables`.
        light: the scene's.
        lit: share of the direct light that arrives here.
    """
    albedo, gloss, grazing = (table[materials] for table in tables)
    up = normals[:, 2]
    facing = np.clip((normals * towards_camera).sum(axis=1), 0, 1)
    sunny = np.clip(normals @ light.sun, 0, 1) * lit
    open_sky = (0.62 + 0.38 * up) * np.clip(0.45 + 0.9 * heights, 0.45, 1.0)
    colour = albedo * (light.ambient * open_sky[:, None] + light.direct * sunny[:, None])
    mirrored = 2 * facing[:, None] * normals - towards_camera
    share = gloss + grazing * (1 - facing) ** 3
    colour += share[:, None] * surroundings(mirrored[:, 2], light)
    glint = np.clip(mirrored @ light.sun, 0, 1) ** 60 * gloss * 14 * lit
    return colour + glint[:, None] * light.direct


def surroundings(height: Array, light: Light) -> Array:
    """Return (N, 3) what is seen in a direction whose unit vector has this z (N,): sky, houses, ground."""
    sky = np.sqrt(np.clip((height - 0.12) / 0.88, 0, 1))[:, None]
    above = light.horizon + (light.zenith - light.horizon) * sky
    houses = np.clip((0.2 - height) / 0.1, 0, 1)[:, None]
    below = np.clip(-height / 0.08, 0, 1)[:, None]
    dim = 0.45 * light.ground + 0.25 * light.horizon
    return (above * (1 - houses) + dim * houses) * (1 - below) + light.ground * below
