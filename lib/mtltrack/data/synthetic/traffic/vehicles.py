"""The vehicles of the traffic world: bodies by name, colours, plates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mtltrack.data.synthetic.plates import Plate
from mtltrack.data.synthetic.traffic.bodywork import Builder
from mtltrack.data.synthetic.traffic.mesh import Mesh

Array = NDArray[np.float64]

# name: (parts as (body, metres from the vehicle's middle to the part's, painted with the accent), weight)
BODIES: dict[str, tuple[tuple[tuple[str, float, bool], ...], float]] = {
    "sedan": ((("sedan", 0.0, False),), 0.27),
    "hatchback": ((("hatchback", 0.0, False),), 0.21),
    "suv": ((("suv", 0.0, False),), 0.19),
    "pickup": ((("pickup", 0.0, False),), 0.07),
    "van": ((("van", 0.0, False),), 0.10),
    "minibus": ((("minibus", 0.0, False),), 0.06),
    "truck": ((("cab", 2.4, False), ("box", -1.05, True)), 0.05),
    "bus": ((("bus", 0.0, False),), 0.05),
}
TALL = ("van", "minibus", "truck", "bus")

# colour of the paint, pixel values, and how common it is
PAINTS = (
    ((236, 236, 234), 0.22),
    ((172, 176, 180), 0.16),
    ((108, 112, 116), 0.12),
    ((28, 28, 31), 0.15),
    ((150, 22, 26), 0.09),
    ((24, 52, 118), 0.09),
    ((70, 110, 160), 0.04),
    ((30, 74, 50), 0.03),
    ((190, 172, 140), 0.04),
    ((226, 176, 28), 0.03),
    ((96, 60, 40), 0.02),
    ((200, 88, 30), 0.01),
)


@dataclass(frozen=True)
class Part:
    """One closed body of a vehicle, its middle `offset` metres before the vehicle's."""

    mesh: Mesh
    offset: float
    accent: bool

    def shifted(self, points: Array) -> Array:
        """Map points (..., 3) of the part to the vehicle's coordinates."""
        return points + np.array([self.offset, 0.0, 0.0])


@dataclass(frozen=True)
class Vehicle:
    """One vehicle.

    Attributes:
        body: name of its body, of BODIES.
        stretch: (3,) factors of its length, width and height.
        paint, accent: (3,) pixel values of its two colours.
        plate: what it carries in front and behind.
    """

    body: str
    stretch: tuple[float, float, float]
    paint: tuple[float, float, float]
    accent: tuple[float, float, float]
    plate: Plate

    def parts(self, fine: bool = True) -> tuple[Part, ...]:
        """Return its bodies, in full detail or in few polygons."""
        return _parts(self.body, fine)

    @property
    def extent(self) -> Array:
        """Length, width and height in metres."""
        return _extent(self.body) * self.stretch

    def support(self) -> Array:
        """Return (S, 3) the points of the vehicle that stand out, in its own coordinates."""
        points = [part.shifted(part.mesh.support) for part in self.parts()]
        return np.concatenate(points) * self.stretch

    def groups(self) -> list[slice]:
        """Return which of the points of `support` belong together: the outline of each group is convex."""
        groups, start = [], 0
        for part in self.parts():
            split, stop = start + part.mesh.lower, start + len(part.mesh.support)
            groups += [slice(start, split), slice(split, stop)] if split < stop else [slice(start, stop)]
            start = stop
        return groups

    def footprint(self) -> Array:
        """Return (4, 2) the corners of the ground below it, in its own coordinates."""
        length, width = self.extent[:2] / 2
        return np.array([[length, width], [-length, width], [-length, -width], [length, -width]])

    def plate_corners(self, front: bool) -> Array | None:
        """Return (4, 3) the plate's corners, top left first as one reads it; None where there is none."""
        end = self.parts()[0 if front else -1]
        middle = end.mesh.plates[0 if front else 1]
        if middle is None:
            return None
        width, height = (side / 2 for side in self.plate.size_m)
        sign = 1.0 if front else -1.0
        y = sign * np.array([-width, width, width, -width])
        z = np.array([height, height, -height, -height])
        centre = end.shifted(middle) * self.stretch
        return np.column_stack([np.full(4, centre[0] + sign * 0.02), y, centre[2] + z])

    def looks_like(self, other: Vehicle) -> bool:
        """Say whether the two have the same body and nearly the same colour."""
        difference = np.abs(np.subtract(self.paint, other.paint)).max()
        return self.body == other.body and float(difference) < 30


@cache
def _table() -> dict[str, dict[str, Any]]:
    file = resources.files("mtltrack.data.synthetic.traffic").joinpath("bodies.yaml")
    table: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return table


@cache
def _parts(body: str, fine: bool) -> tuple[Part, ...]:
    table = _table()
    return tuple(Part(Builder(table[name], fine).build(), x, accent) for name, x, accent in BODIES[body][0])


@cache
def _extent(body: str) -> Array:
    parts = _parts(body, True)
    ends = [part.offset + sign * part.mesh.extent[0] / 2 for part in parts for sign in (-1, 1)]
    width, height = np.max([part.mesh.extent[1:] for part in parts], axis=0)
    return np.array([max(ends) - min(ends), width, height])


def draw_vehicle(rng: np.random.Generator, plate: Plate, bodies: tuple[str, ...] = tuple(BODIES)) -> Vehicle:
    """Draw a vehicle with one of the `bodies`."""
    weights = np.array([BODIES[name][1] for name in bodies])
    body = bodies[int(rng.choice(len(bodies), p=weights / weights.sum()))]
    shares = np.array([share for _, share in PAINTS])
    first, second = rng.choice(len(PAINTS), size=2, p=shares / shares.sum())
    if body == "truck" and rng.random() < 0.5:
        second = 0  # most boxes are white
    paint, accent = (np.clip(np.add(PAINTS[k][0], rng.uniform(-10, 10, 3)), 5, 250) for k in (first, second))
    stretch = (float(rng.uniform(0.97, 1.03)), float(rng.uniform(0.97, 1.02)), float(rng.uniform(0.97, 1.03)))
    return Vehicle(body, stretch, _triple(paint), _triple(accent), plate)


def double(rng: np.random.Generator, vehicle: Vehicle, plate: Plate) -> Vehicle:
    """Return a vehicle that looks like another and has its own plate."""
    paint = np.clip(np.add(vehicle.paint, rng.uniform(-8, 8, 3)), 5, 250)
    return replace(vehicle, paint=_triple(paint), plate=plate)


def _triple(values: Array) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))
