"""Posts and people, who may stand or walk before the target; drawn flat, facing the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import NEAREST, Camera
from mtltrack.data.synthetic.traffic.motion import Path, Travel

Array = NDArray[np.float64]
Colour = tuple[float, float, float]
SKINS = ((224, 186, 160), (196, 148, 116), (140, 98, 74), (92, 64, 50))
STRIDE = 0.75  # metres


@dataclass(frozen=True)
class Figure:
    """A post or a person.

    Attributes:
        person: whether it is a person.
        height, width: metres; a person's width is measured across the shoulders.
        colours: pixel values: of a post one, of a person skin, hair, coat, trousers.
        path, travel: its way on the ground.
    """

    person: bool
    height: float
    width: float
    colours: tuple[Colour, ...]
    path: Path
    travel: Travel

    def places(self, times: Array) -> Array:
        """Return (F, 2) where it is at `times` (F,) seconds."""
        return self.path.poses(self.travel.at(times))[..., :2]

    def footprint(self, place: Array) -> Array:
        """Return the (4, 2) ground below it."""
        half = self.width / 2
        return np.array([[half, half], [-half, half], [-half, -half], [half, -half]]) + place

    def shapes(self, time: float) -> list[tuple[Array, Colour]]:
        """Return its polygons (N, 2), metres across and above the ground, and colours, in drawing order."""
        if not self.person:
            return self._post()
        skin, hair, coat, trousers = self.colours
        moves = float(self.travel.speed(np.array([time]))[0]) > 0.05
        swing = 0.22 * np.sin(np.pi * float(self.travel.at(np.array([time]))[0]) / STRIDE) if moves else 0.06
        h, half = self.height, self.width / 2
        hip, shoulder = 0.5 * h, 0.82 * h
        legs = [self._leg(side, side * swing) for side in (-1, 1)]
        arms = [self._arm(side, -side * swing) for side in (-1, 1)]
        width = half * np.array([-0.75, 0.75, 0.95, 0.4, -0.4, -0.95])
        level = [hip - 0.08, hip - 0.08, shoulder, shoulder + 0.05, shoulder + 0.05, shoulder]
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        head = np.column_stack([0.085 * np.cos(angle), 0.93 * h + 0.115 * np.sin(angle)])
        top, dark = head[:7] + np.array([0, 0.015]), _scaled(coat, 0.8)
        shapes = [(legs[0], _scaled(trousers, 0.85)), (legs[1], trousers), (arms[0], dark)]
        shapes += [(np.column_stack([width, level]), coat), (arms[1], dark), (head, skin), (top, hair)]
        return shapes

    def _leg(self, side: int, swing: float) -> Array:
        half, hip = self.width / 2, 0.5 * self.height
        x = half * (0.4 * side + np.array([-0.42, 0.42, 0.3, -0.34])) + [0, 0, swing, swing]
        return np.column_stack([x, [hip, hip, 0, 0]])

    def _arm(self, side: int, swing: float) -> Array:
        half, shoulder, hip = self.width / 2, 0.82 * self.height, 0.5 * self.height
        x = side * half * np.array([0.8, 1.05, 1.1, 0.85]) + [0, 0, swing, swing]
        return np.column_stack([x, [shoulder, shoulder - 0.02, hip - 0.02, hip - 0.02]])

    def _post(self) -> list[tuple[Array, Colour]]:
        shapes = []
        for start, stop, tone in ((-1.0, 1.0, 0.7), (-0.7, 0.5, 0.9), (-0.4, 0.1, 1.05)):
            left, right = start * self.width / 2, stop * self.width / 2
            outline = np.array([[left, 0], [right, 0], [right, self.height], [left, self.height]])
            shapes.append((outline, _scaled(self.colours[0], tone)))
        return shapes


def seen_shapes(figure: Figure, camera: Camera, time: float) -> list[tuple[Array, Colour]]:
    """Return a figure's polygons in pixels and their colours; none when it isn't before the camera."""
    x, y = figure.places(np.array([time]))[0]
    across = camera.axes[0, :2] / np.hypot(*camera.axes[0, :2])
    shapes = []
    for outline, colour in figure.shapes(time):
        world = np.column_stack([x + outline[:, 0] * across[0], y + outline[:, 0] * across[1], outline[:, 1]])
        seen = camera.project(world)
        if seen[:, 2].min() <= NEAREST:
            return []
        shapes.append((seen[:, :2], colour))
    return shapes


def figure_outlines(figure: Figure, camera: Camera, times: Array) -> Array:
    """Return (F, 8, 3) points around a figure, pixels and metres before the camera, at `times` (F,)."""
    half, h = figure.width / 2, figure.height
    levels = (0.0, 0.47, 0.82, 0.99) if figure.person else (0.0, 0.3, 0.7, 1.0)
    widths = (0.85, 1.0, 0.95, 0.3) if figure.person else (1.0, 1.0, 1.0, 1.0)
    across = camera.axes[0, :2] / np.hypot(*camera.axes[0, :2])
    sideways = np.concatenate([half * np.array(widths), -half * np.array(widths)])
    ground = figure.places(times)[:, None] + sideways[:, None] * across  # (F, 8, 2)
    heights = np.broadcast_to(h * np.array(levels * 2), ground.shape[:2])
    return camera.project(np.concatenate([ground, heights[..., None]], axis=-1))


def draw_person(rng: np.random.Generator, path: Path, travel: Travel) -> Figure:
    """Draw a person who walks along a path."""
    coat, trousers = (rng.uniform(20, 215, 3) * [1, rng.uniform(0.7, 1), 1] for _ in range(2))
    hair = float(rng.uniform(15, 120))
    skin = SKINS[int(rng.integers(len(SKINS)))]
    height, width = float(rng.uniform(1.58, 1.9)), float(rng.uniform(0.42, 0.55))
    colours = (skin, (hair, 0.8 * hair, 0.6 * hair), _triple(coat), _triple(0.6 * trousers))
    return Figure(True, height, width, colours, path, travel)


def draw_post(rng: np.random.Generator, x: float, y: float) -> Figure:
    """Draw a post that stands at (x, y)."""
    grey = float(rng.uniform(60, 130))
    path = Path.through(np.array([[x, y], [x, y + 1.0]]))
    return Figure(
        False, 7.0, float(rng.uniform(0.16, 0.3)), ((grey, grey, grey),), path, Travel.steady(0.0, 0.0)
    )


def _scaled(colour: Colour, share: float) -> Colour:
    return (colour[0] * share, colour[1] * share, colour[2] * share)


def _triple(values: Array) -> Colour:
    return (float(values[0]), float(values[1]), float(values[2]))
