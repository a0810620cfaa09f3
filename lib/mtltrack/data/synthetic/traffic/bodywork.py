"""Vehicle bodies: cross-sections along the length, closed by a front and a tail, with parts painted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.mesh import (
    MATERIALS,
    Array,
    Decal,
    Indices,
    Mesh,
    outward_normals,
    standing_out,
)

# points across the roof, in full detail and in few polygons
ACROSS = {True: (1.0, 0.93, 0.62, 0.3, 0.0, -0.3, -0.62, -0.93, -1.0), False: (1.0, 0.92, 0.0, -0.92, -1.0)}
SIDE_ROWS = 8  # points of a side below the roof
CROWN = 0.035  # metres by which the middle of roof and bonnet is higher than their edges
STEP = {True: 0.4, False: 1.2}  # metres between cross-sections at the most
LEAN = np.array(
    [0.06, 0.03, 0.0, 0.0, 0.015, 0.03, 0.035, 0.04, 0.05]
)  # how far each row of front and tail lies back
ROUND = {True: 20, False: 10}  # corners of a wheel


class Builder:
    """Collects the vertices, quads and decals of a body.

    Args:
        body: its row of the table, see bodies.yaml.
        fine: in full detail, or in few polygons.
    """

    def __init__(self, body: Mapping[str, Any], fine: bool = True) -> None:
        self.body, self.fine = body, fine
        self.across, self.step, self.round = (np.array(ACROSS[fine]), STEP[fine], ROUND[fine])
        self.length, self.half = float(body["length"]), float(body["width"]) / 2
        self.levels = np.array(body["levels"], np.float64)
        self.top, self.belt = (np.array(body["top"], np.float64), np.array(body["belt"], np.float64))
        self.vertices: list[Array] = []
        self.count = 0
        self.quads: list[Indices] = []
        self.materials: list[Indices] = []
        self.decals: list[Decal] = []

    def build(self) -> Mesh:
        """Return the body's mesh."""
        for u in self.body["wheels"]:
            for side in (1, -1):
                self._tyre(u, side)
        self._mirrors()
        under = sum(len(quads) for quads in self.quads)
        mirrors, self.decals = self.decals, []
        u = self._stations()
        rings = np.stack([self.ring(value) for value in u])  # (S, R, 3)
        rings[0, :, 0] -= self._lean_of_ring()
        rings[-1, :, 0] += self._lean_of_ring()
        self._lattice(rings, self._shell_materials(u))
        self._end(rings[0], front=True)
        self._end(rings[-1], front=False)
        self._paint_sides()
        self._paint_end(self.body["front"], front=True)
        self._paint_end(self.body["tail"], front=False)
        self.decals.extend(mirrors)
        for wheel in self.body["wheels"]:
            for side in (1, -1):
                self._disc(wheel, side)
        return self._finish(under)

    # cross-sections

    def _stations(self) -> Array:
        """Return where the cross-sections lie: at every feature, and not too far apart."""
        front, tail = self.body["bulge"]
        marks = {front, self.length - tail, *self.top[:, 0].tolist()}
        for window in self.body["windows"]:
            marks.update(window)
        for name in ("windscreen", "rear_window"):
            marks.update(self.body[name] or ())
        inside = sorted(mark for mark in marks if front <= mark <= self.length - tail)
        apart = [inside[0]]
        for mark in inside[1:]:
            if mark - apart[-1] < 0.02:
                continue
            parts = int(np.ceil((mark - apart[-1]) / self.step))
            apart.extend(np.linspace(apart[-1], mark, parts + 1)[1:].tolist())
        return np.array(apart)

    def ring(self, u: float) -> Array:
        """Return the points (R, 3) of the cross-section at `u`, from the left to the right."""
        top, belt = np.interp(u, *self.top.T), np.interp(u, *self.belt.T)
        belt = min(belt, top - 0.03)
        l0, l1, l2, l3 = self.levels
        roof = 1 - (1 - float(self.body["roof"])) * np.clip((top - belt - 0.1) / 0.4, 0, 1)
        roof = min(roof, 0.93) if top - belt < 0.3 else roof
        y = np.array([0.90, 0.985, 1.0, 1.0, 0.99, 0.965])
        z = np.array([l0, l1, l2, min(l3, belt - 0.02), (l3 + belt) / 2, belt])
        rail = np.array([roof, top])
        foot = np.array([0.965, belt])
        low, high = foot + 0.05 * (rail - foot), foot + 0.88 * (rail - foot)
        side = np.concatenate([np.stack([y, z], axis=1), [low, high]])
        across = np.stack([roof * self.across, top + CROWN * (1 - self.across**2)], axis=1)
        half = np.concatenate([side, across, side[::-1] * [-1, 1]])
        width = self.half * self._taper(u)
        return np.column_stack([np.full(len(half), self.length / 2 - u), half[:, 0] * width, half[:, 1]])

    def _taper(self, u: float) -> float:
        front, tail = self.body["taper"]
        return float(1 - front * np.exp(-u / 0.35) - tail * np.exp(-(self.length - u) / 0.3))

    def _lean_of_ring(self) -> Array:
        return np.concatenate(
            [LEAN[:SIDE_ROWS], np.full(len(self.across), LEAN[SIDE_ROWS]), LEAN[:SIDE_ROWS][::-1]]
        )

    def _shell_materials(self, u: Array) -> Indices:
        """Return the material of each cell between two cross-sections and two rows."""
        middles = (u[:-1] + u[1:]) / 2
        rows = 2 * SIDE_ROWS + len(self.across) - 1
        cells = np.full((len(middles), rows), MATERIALS.index("paint"))
        glass = MATERIALS.index("glass")
        windows = _within(middles, self.body["windows"])
        cells[np.ix_(windows, [SIDE_ROWS - 2, rows - SIDE_ROWS + 1])] = glass
        panes = [pane for pane in (self.body["windscreen"], self.body["rear_window"]) if pane is not None]
        across = range(SIDE_ROWS + 1, rows - SIDE_ROWS - 1)
        cells[np.ix_(_within(middles, panes), across)] = glass
        for row in self.body.get("band", ()):
            cells[:, [row, rows - 1 - row]] = MATERIALS.index("accent")
        cells[:, [0, rows - 1]] = MATERIALS.index("trim")
        return cells

    def _lattice(self, grid: Array, materials: Indices) -> None:
        """Add the cells of a grid of points (S, R, 3)."""
        rows, columns = grid.shape[:2]
        numbers = self._add(grid.reshape(-1, 3)).reshape(rows, columns)
        cells = np.stack([numbers[:-1, :-1], numbers[1:, :-1], numbers[1:, 1:], numbers[:-1, 1:]], axis=-1)
        self.quads.append(cells.reshape(-1, 4))
        self.materials.append(np.asarray(materials).reshape(-1))

    def _end(self, ring: Array, front: bool) -> None:
        """Close the body in front or behind with a face that bulges outwards."""
        sign, bulge = (1.0, self.body["bulge"][0]) if front else (-1.0, self.body["bulge"][1])
        left = ring[: SIDE_ROWS + 1]
        face = np.repeat(left[:, None], len(self.across), axis=1)
        face[:, :, 1] *= self.across
        face[:, :, 0] += sign * bulge * (1 - self.across**2)
        arc = ring[SIDE_ROWS : SIDE_ROWS + len(self.across)].copy()  # the edge of the bonnet or the roof
        face = np.concatenate([face, arc[None]])
        cells = np.full((len(face) - 1, len(self.across) - 1), MATERIALS.index("paint"))
        cells[0] = MATERIALS.index("trim")
        self._lattice(face, cells)

    # parts painted on

    def side(self, u: float, z: float) -> Array:
        """Return the point of the left side at `u` and height `z`, a little outside."""
        ring = self.ring(u)[: SIDE_ROWS + 1]
        return np.array([ring[0, 0], float(np.interp(z, ring[:, 2], ring[:, 1])) + 0.006, z])

    def _paint_sides(self) -> None:
        low, high = self.levels[1], self.levels[3]
        for u in self.body["doors"] if self.fine else ():
            belt = float(np.interp(u, *self.belt.T))
            heights = np.linspace(low, belt - 0.02, 5)
            there = [self.side(u - 0.012, z) for z in heights]
            back = [self.side(u + 0.012, z) for z in heights[::-1]]
            self._both_sides(np.array(there + back), "seam")
        for u in self.body["doors"][1:] if self.fine else ():
            belt = float(np.interp(u, *self.belt.T))
            corners = [
                (u - 0.25, belt - 0.13),
                (u - 0.06, belt - 0.13),
                (u - 0.06, belt - 0.095),
                (u - 0.25, belt - 0.095),
            ]
            self._both_sides(np.array([self.side(*corner) for corner in corners]), "chrome")
        if self.body["doors"]:
            first, last = self.body["wheels"][0] + 0.5, self.body["wheels"][-1] - 0.5
            rail = [
                self.side(first, low),
                self.side(last, low),
                self.side(last, high * 0.55),
                self.side(first, high * 0.55),
            ]
            self._both_sides(np.array(rail), "trim")

    def _paint_end(self, parts: Sequence[Sequence[Any]], front: bool) -> None:
        for material, inner, outer, low, high in parts:
            if inner == 0:
                self._panel(material, -outer, outer, low, high, front)
                continue
            for sign in (1, -1):
                self._panel(material, sign * inner, sign * outer, low, high, front)
            wrap = self.body["wrap"][0 if front else 1]
            if material in ("head", "tail") and wrap > 0:
                self._wrap(material, low, high, wrap, front)

    def _panel(self, material: str, start: float, stop: float, low: float, high: float, front: bool) -> None:
        """Paint a panel on front or tail, from `start` to `stop` across, in shares of half the width."""
        across = np.linspace(start, stop, 5)
        lower = [self.end_point(t, low, front) for t in across]
        upper = [self.end_point(t, high, front) for t in across[::-1]]
        corners = self._add(np.array(lower + upper))
        self.decals.append(
            Decal(corners, np.array([1.0 if front else -1.0, 0, 0]), MATERIALS.index(material))
        )

    def end_point(self, across: float, z: float, front: bool) -> Array:
        """Return a point of front or tail: `across` in [-1, 1] of half the width there, height `z`."""
        bulge = self.body["bulge"][0 if front else 1]
        u = bulge if front else self.length - bulge
        ring = self.ring(u)[: SIDE_ROWS + 1]
        y = across * float(np.interp(z, ring[:, 2], ring[:, 1]))
        lean = float(np.interp(z, ring[:, 2], LEAN))
        x = abs(ring[0, 0]) + bulge * (1 - across**2) - lean + 0.006
        return np.array([x if front else -x, y, z])

    def _wrap(self, material: str, low: float, high: float, wrap: float, front: bool) -> None:
        bulge = self.body["bulge"][0 if front else 1]
        start, stop = (bulge, bulge + wrap) if front else (self.length - bulge, self.length - bulge - wrap)
        tip = (low + 2 * high) / 3
        corners = [(start, low), (start, high), (stop, high), (stop, tip)]
        self._both_sides(np.array([self.side(*corner) for corner in corners]), material)

    def _both_sides(self, points: Array, material: str) -> None:
        for sign in (1.0, -1.0):
            corners = self._add(points * [1, sign, 1])
            self.decals.append(Decal(corners, np.array([0, sign, 0.0]), MATERIALS.index(material)))

    def _mirrors(self) -> None:
        """Add the mirrors twice: behind the body, which hides them, and before it on the near side."""
        if self.body["mirrors"] is None:
            return
        u, z = self.body["mirrors"]
        size = 0.07 if z < 1.5 else 0.16
        outline = np.array([[0, -1, -0.8], [0, 1, -1], [0, 1, 1], [0, -1, 0.9]]) * size
        for sign in (1.0, -1.0):
            away = self.side(u, z) * [1, sign, 1] + [0, sign * (0.06 + size), 0]
            for shift in (0.06, -0.06):
                corners = self._add(away + outline * [1, sign, 1] + [shift, 0, 0])
                self.quads.append(corners[None])
                self.materials.append(np.full(1, MATERIALS.index("trim")))
                self.decals.append(Decal(corners, np.array([0.0, sign, 0.0]), MATERIALS.index("trim")))

    # wheels

    def _circle(self, u: float, side: int, radius: float, y: float) -> Array:
        angle = np.linspace(0, 2 * np.pi, self.round, endpoint=False)
        wheel = float(self.body["wheel_radius"])
        x = self.length / 2 - u + radius * np.cos(angle)
        return np.column_stack([x, np.full(self.round, side * y), wheel + radius * np.sin(angle)])

    def _tyre(self, u: float, side: int) -> None:
        radius = float(self.body["wheel_radius"])
        outer, inner = (self._circle(u, side, radius, self.half - inset) for inset in (0.03, 0.26))
        first, second = self._add(outer), self._add(inner)
        cells = np.stack([first, np.roll(first, -1), np.roll(second, -1), second], axis=-1)
        self.quads.append(cells)
        self.materials.append(np.full(self.round, MATERIALS.index("tyre")))

    def _disc(self, u: float, side: int) -> None:
        radius, normal = float(self.body["wheel_radius"]), np.array([0.0, side, 0.0])
        arch = self._circle(u, side, radius * 1.14, self.half * 0.995)
        arch[:, 2] = np.maximum(arch[:, 2], self.levels[0])
        for points, material in (
            (arch, "seam"),
            (self._circle(u, side, radius, self.half - 0.03), "tyre"),
            (self._circle(u, side, radius * 0.68, self.half - 0.03), "rim"),
        ):
            self.decals.append(Decal(self._add(points), normal, MATERIALS.index(material)))
        if not self.fine:
            return
        hub = self._circle(u, side, radius, self.half - 0.03)
        middle = np.array([hub[:, 0].mean(), hub[0, 1], radius])
        for k in range(5):
            near, far = 4 * k, 4 * k + 2
            shares = [(near, 0.6), (far, 0.6), (near + 1, 0.2)]
            points = np.array([middle + share * (hub[i % self.round] - middle) for i, share in shares])
            self.decals.append(Decal(self._add(points), normal, MATERIALS.index("seam")))

    # the result

    def _add(self, points: Array) -> Indices:
        self.vertices.append(points)
        self.count += len(points)
        return np.arange(self.count - len(points), self.count)

    def _finish(self, under: int) -> Mesh:
        vertices, quads = np.concatenate(self.vertices), np.concatenate(self.quads)
        front, rear = self.body["plates"]
        plates = (
            None if front is None else self.end_point(0.0, front, True),
            None if rear is None else self.end_point(0.0, rear, False),
        )
        height = float(vertices[:, 2].max())
        support, lower = self._support(vertices)
        return Mesh(
            vertices=vertices,
            quads=quads,
            normals=outward_normals(vertices, quads),
            centres=vertices[quads].mean(axis=1),
            materials=np.concatenate(self.materials),
            decals=tuple(self.decals),
            under=under,
            support=support,
            lower=lower,
            plates=plates,
            extent=np.array([self.length, 2 * self.half, height]),
        )

    def _support(self, vertices: Array) -> tuple[Array, int]:
        """Return the points that stand out, those of the lower body first, and how many these are.

        The upper body is the cabin, from the foot of the windscreen on; box-shaped bodies have none.
        """
        if self.body["windscreen"] is None:
            points = standing_out(vertices)
            return points, len(points)
        foot = self.body["windscreen"][0]
        back = (self.body["rear_window"] or [0, self.length])[1]
        u = self.length / 2 - vertices[:, 0]
        level = max(float(np.interp(foot, *self.top.T)), float(np.interp(back, *self.top.T)))
        low = standing_out(vertices[vertices[:, 2] <= level + 0.05])
        cabin = (u >= foot - 0.01) & (u <= back + 0.01)
        high = standing_out(vertices[cabin & (vertices[:, 2] >= np.interp(u, *self.belt.T) - 0.03)])
        return np.concatenate([low, high]), len(low)


def _within(values: Array, spans: Sequence[Sequence[float]]) -> NDArray[np.bool_]:
    inside = np.zeros(len(values), bool)
    for start, stop in spans:
        inside |= (values > start) & (values < stop)
    return inside
