"""Vehicles as pixels: visible polygons from far to near, drawn finely, then averaged."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.plates import Plate
from mtltrack.data.synthetic.traffic.camera import NEAREST, Camera, placed
from mtltrack.data.synthetic.traffic.mesh import MATERIALS
from mtltrack.data.synthetic.traffic.shading import Light, displayed, linear, material_tables, shade
from mtltrack.data.synthetic.traffic.vehicles import Part, Vehicle

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
BITS = 4  # of the fraction in polygon coordinates
COARSE_BELOW = 110.0  # pixels; smaller vehicles are drawn with fewer polygons
HEAD, TAIL = MATERIALS.index("head"), MATERIALS.index("tail")
HEAD_ON = np.array([4.0, 3.8, 3.2])  # linear light of a lamp that is on
TAIL_ON, BRAKES_ON = np.array([0.55, 0.02, 0.015]), np.array([1.6, 0.10, 0.07])


@dataclass(frozen=True)
class Patch:
    """A picture of one thing: `origin` (x, y) of its upper left pixel, premultiplied RGBA (h, w, 4)."""

    origin: tuple[int, int]
    rgba: Image


@dataclass(frozen=True)
class Lamps:
    """Which lamps of a vehicle are on."""

    head: bool = False
    tail: bool = False
    brakes: bool = False


@dataclass(frozen=True)
class Air:
    """What a vehicle's light passes through: the share that gets through, the haze's pixel values."""

    clear: float = 1.0
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Scenery:
    """What a vehicle's look depends on besides itself.

    Attributes:
        light: the scene's.
        lit: share of the direct light that arrives at the vehicle.
        lamps: which of its lamps are on.
        air: between it and the camera.
    """

    light: Light
    lit: float = 1.0
    lamps: Lamps = field(default_factory=Lamps)
    air: Air = field(default_factory=Air)


class Model:
    """A vehicle ready to be drawn many times."""

    def __init__(self, vehicle: Vehicle) -> None:
        self.vehicle = vehicle
        self._parts: dict[bool, list[_ModelPart]] = {}
        self.plate_levels = plate_levels(vehicle.plate)
        self.head_places, self.tail_places = (self._places(kind) for kind in (HEAD, TAIL))

    def parts(self, fine: bool) -> list[_ModelPart]:
        """Return its parts in full detail, or in few polygons."""
        if fine not in self._parts:
            vehicle = self.vehicle
            self._parts[fine] = [_ModelPart(part, vehicle) for part in vehicle.parts(fine)]
        return self._parts[fine]

    def _places(self, material: int) -> Array:
        """Return (L, 3) the middles of the lamps of a kind."""
        places = [
            part.shifted(part.mesh.vertices[decal.corners].mean(axis=0)) * self.vehicle.stretch
            for part in self.vehicle.parts(False)
            for decal in part.mesh.decals
            if decal.material == material and decal.normal[0] != 0
        ]
        return np.array(places).reshape(-1, 3)

    def draw(
        self, camera: Camera, pose: Array, scenery: Scenery | None, bounds: tuple[int, int]
    ) -> Patch | None:
        """Return the vehicle's picture, or None when it lies outside the canvas or before the camera's plane.

        Args:
            camera: of the canvas.
            pose: (3,) of the vehicle.
            scenery: light and air; None draws only the shape, (h, w) uint8 instead of RGBA.
            bounds: width and height of the canvas in pixels.
        """
        distance = float(np.hypot(*(camera.position[:2] - pose[:2])))
        fine_parts = camera.focal * float(self.vehicle.extent.max()) / distance > COARSE_BELOW
        views = [part.look(camera, pose) for part in self._far_to_near(camera, pose, fine_parts)]
        points = np.concatenate([view.pixels[view.depths > NEAREST] for view in views])
        if not len(points):
            return None
        low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, bounds)
        if (high <= low).any():
            return None
        fine = 2 if int((high - low).max()) > 70 else 3
        extent = high - low
        shape = (int(extent[1]) * fine, int(extent[0]) * fine)
        canvas = np.zeros((*shape, 4) if scenery is not None else shape, np.uint8)
        for view in views:
            view.paint(canvas, low, fine, scenery)
        if scenery is not None:
            self._draw_plate(canvas, camera, pose, low, fine, scenery)
        small = cv2.resize(canvas, (int(extent[0]), int(extent[1])), interpolation=cv2.INTER_AREA)
        return Patch((int(low[0]), int(low[1])), small)

    def _far_to_near(self, camera: Camera, pose: Array, fine: bool) -> list[_ModelPart]:
        """Order the parts, which stand one behind the other along the vehicle."""
        ahead = (camera.position[:2] - pose[:2]) @ [np.cos(pose[2]), np.sin(pose[2])]
        return sorted(self.parts(fine), key=lambda part: part.offset, reverse=bool(ahead < 0))

    def _draw_plate(
        self, canvas: Image, camera: Camera, pose: Array, low: NDArray[np.int_], fine: int, scenery: Scenery
    ) -> None:
        for front in (True, False):
            corners = self.vehicle.plate_corners(front)
            if corners is None:
                continue
            world = placed(corners, pose)
            way = np.array([np.cos(pose[2]), np.sin(pose[2]), 0]) * (1 if front else -1)
            seen = camera.project(world)
            if way @ (camera.position - world.mean(axis=0)) > 0 and seen[:, 2].min() > 1:
                place = (seen[:, :2] - low) * fine
                paint_plate(canvas, self.plate_levels, place, _plate_gain(way, scenery), scenery.air)


class _ModelPart:
    def __init__(self, part: Part, vehicle: Vehicle) -> None:
        mesh = part.mesh
        paint = vehicle.accent if part.accent else vehicle.paint
        self.mesh, self.offset = mesh, part.offset
        self.tables = material_tables(linear(np.array(paint)), linear(np.array(vehicle.accent)))
        self.vertices = part.shifted(mesh.vertices) * vehicle.stretch
        decals = [self.vertices[decal.corners].mean(axis=0) for decal in mesh.decals]
        self.middles = np.concatenate([part.shifted(mesh.centres) * vehicle.stretch, np.array(decals)])
        self.normals = np.concatenate([mesh.normals, np.array([decal.normal for decal in mesh.decals])])
        self.materials = np.concatenate([mesh.materials, [decal.material for decal in mesh.decals]])

    def look(self, camera: Camera, pose: Array) -> _View:
        """Return how the part is seen."""
        seen = camera.project(placed(self.vertices, pose))
        middles = placed(self.middles, pose)
        cosine, sine = np.cos(pose[2]), np.sin(pose[2])
        normals = self.normals @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]])
        towards = camera.position - middles
        distances = np.sqrt((towards**2).sum(axis=1))
        towards /= distances[:, None]
        visible = (normals * towards).sum(axis=1) > 0
        under, quads = self.mesh.under, len(self.mesh.quads)
        visible[:under] = True
        if seen[:, 2].min() <= NEAREST:
            visible[:quads] &= seen[self.mesh.quads, 2].min(axis=1) > NEAREST
            near = [seen[decal.corners, 2].min() > NEAREST for decal in self.mesh.decals]
            visible[quads:] &= np.array(near, bool)
        drawn = np.flatnonzero(visible[:quads])
        drawn = drawn[np.lexsort((-distances[drawn], drawn >= under))]
        decals = np.flatnonzero(visible[quads:]) + quads
        return _View(self, seen[:, :2], seen[:, 2], drawn, decals, normals, towards, middles[:, 2])


@dataclass(frozen=True)
class _View:
    """How a part is seen: pixels of its vertices, what to draw in which order, what light needs to know."""

    part: _ModelPart
    pixels: Array
    depths: Array
    quads: NDArray[np.int64]
    decals: NDArray[np.int64]
    normals: Array
    towards: Array
    heights: Array

    def paint(self, canvas: Image, low: NDArray[np.int_], fine: int, scenery: Scenery | None) -> None:
        """Draw the part onto a canvas that is `fine` times as fine and begins at `low`."""
        fixed = np.clip((self.pixels - low) * fine - 0.5, -4000, 8000)
        fixed = np.round(fixed * 2**BITS).astype(np.int32)
        order = np.concatenate([self.quads, self.decals])
        colours = self._colours(order, scenery)
        for polygon, colour in zip(fixed[self.part.mesh.quads[self.quads]], colours, strict=False):
            cv2.fillConvexPoly(canvas, polygon, colour, cv2.LINE_8, BITS)
        first = len(self.part.mesh.quads)
        for number, colour in zip(self.decals, colours[len(self.quads) :], strict=True):
            corners = self.part.mesh.decals[number - first].corners
            cv2.fillConvexPoly(canvas, fixed[corners], colour, cv2.LINE_8, BITS)

    def _colours(self, order: NDArray[np.int64], scenery: Scenery | None) -> list[list[float]]:
        if scenery is None:
            return [[255.0]] * len(order)
        materials = self.part.materials[order]
        colour = shade(
            self.normals[order],
            self.towards[order],
            self.heights[order],
            materials,
            self.part.tables,
            scenery.light,
            scenery.lit,
        )
        lamps = scenery.lamps
        if lamps.head:
            colour[materials == HEAD] = HEAD_ON
        if lamps.tail or lamps.brakes:
            colour[materials == TAIL] = BRAKES_ON if lamps.brakes else TAIL_ON
        pixels = displayed(colour)
        if scenery.air.clear < 1:
            pixels = pixels * scenery.air.clear + np.array(scenery.air.colour) * (1 - scenery.air.clear)
        return np.column_stack([pixels, np.full(len(pixels), 255.0)]).tolist()


def plate_levels(plate: Plate) -> tuple[Image, ...]:
    """Return the plate's picture in falling sizes, so that it can be drawn small without losing strokes."""
    levels = [plate.image]
    while levels[-1].shape[0] > 10:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def paint_plate(canvas: Image, levels: tuple[Image, ...], corners: Array, gain: Array, air: Air) -> None:
    """Draw a plate into a quadrilateral of an RGBA canvas.

    Args:
        canvas: (h, w, 4) uint8.
        levels: the plate in falling sizes.
        corners: (4, 2) continuous pixels, top left first as one reads it.
        gain: (3,) factor of the pixel values.
        air: between plate and camera.
    """
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, canvas.shape[1::-1])
    if (high <= low).any():
        return
    rows = float(np.hypot(*(corners[3] - corners[0])))
    level = levels[
        int(np.clip(np.floor(np.log2(max(levels[0].shape[0] / max(rows, 1), 1))), 0, len(levels) - 1))
    ]
    height, width = level.shape[:2]
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    goal = (corners - low - 0.5).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(source, goal)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    picture = cv2.warpPerspective(
        level, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    picture = cv2.convertScaleAbs(picture * (gain * air.clear) + np.array(air.colour) * (1 - air.clear))
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillConvexPoly(mask, np.round(goal * 2**BITS).astype(np.int32), 255, cv2.LINE_8, BITS)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    cv2.copyTo(cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA), mask, region)


def _plate_gain(way: Array, scenery: Scenery) -> Array:
    """Return the factor (3,) of a plate's pixel values: the light on its surface, or the plate's lamp."""
    light = scenery.light
    level = 0.75 * light.ambient + light.direct * max(float(way @ light.sun), 0.1) * scenery.lit
    if light.night and (scenery.lamps.tail or scenery.lamps.head):
        level = np.maximum(level, [0.24, 0.23, 0.2])
    return np.clip(displayed(level) / 255, 0.12, 1.0)
