"""The road on the ground, and the places that cameras look at it from.

The road runs along y. Lanes for both directions lie at both sides of x = 0, then parking strips, pavements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.camera import Camera

Array = NDArray[np.float64]
LANE = 3.2  # metres
STRIP = 2.3  # width of a parking strip
FAR = 90.0  # metres along the road that are drawn
SIDE_STREET = 7.0  # metres
VIEWS = ("bridge", "pole", "across", "high", "gate")


@dataclass(frozen=True)
class Road:
    """A straight road.

    Attributes:
        lanes: (x, direction) of each lane; direction is 1 along y, -1 against it.
        strips: x of the middle of each parking strip.
        left, right: x of the kerbs.
        walk: width of the pavements.
        corner: y of a side street's middle, and the side (-1 or 1) that it leaves to; None: no side street.
    """

    lanes: tuple[tuple[float, int], ...]
    strips: tuple[float, ...]
    left: float
    right: float
    walk: float
    corner: tuple[float, int] | None

    def beside(self, x: float) -> float | None:
        """Return x of the parking strip on the same half of the road as `x`, or None."""
        same = [strip for strip in self.strips if strip * x > 0]
        return same[0] if same else None

    def outer_lane(self, side: int) -> tuple[float, int]:
        """Return the lane nearest to the kerb at x < 0 (side -1) or x > 0 (side 1)."""
        return max((lane for lane in self.lanes if lane[0] * side > 0), key=lambda lane: abs(lane[0]))


def draw_road(rng: np.random.Generator) -> Road:
    """Draw a road: one or two lanes a direction, right-hand or left-hand traffic."""
    hand = 1 if rng.random() < 0.75 else -1
    lanes, strips, kerbs = [], [], []
    for side in (-1, 1):
        count = 1 + int(rng.random() < 0.4)
        lanes += [(side * LANE * (k + 0.5), side * hand) for k in range(count)]
        edge = side * LANE * count
        if rng.random() < 0.7:
            strips.append(edge + side * STRIP / 2)
            edge += side * STRIP
        kerbs.append(edge)
    corner = (float(rng.uniform(16, 34)), int(rng.choice([-1, 1]))) if rng.random() < 0.5 else None
    return Road(tuple(lanes), tuple(strips), kerbs[0], kerbs[1], float(rng.uniform(1.8, 3.5)), corner)


def draw_camera(rng: np.random.Generator, view: str, road: Road, side: int, size: tuple[int, int]) -> Camera:
    """Draw a camera.

    Args:
        rng: source of everything random.
        view: of VIEWS: over the road, at its edge, across it, high above, or low and close by.
        road: what it looks at.
        side: half of the road (-1 or 1 in x) that the target drives on.
        size: of the frames, pixels.
    """
    edge = road.right if side > 0 else road.left
    unit = max(size[0], size[1] * 16 / 9)  # pixels of 640 x 360 as a share of the width
    middle = edge * float(rng.uniform(0.25, 0.6))
    if view in ("pole", "high") and rng.random() < 0.5:  # over there the other lanes lie between
        side, edge = -side, road.left if side > 0 else road.right
    if view == "bridge":
        place = [rng.uniform(-2.5, 2.5), 0.0, rng.uniform(4.8, 7.0)]
        goal, focal = [middle, rng.uniform(14, 20), 0.4], rng.uniform(1.25, 1.9)
    elif view == "pole":
        near = float(rng.choice([edge + side * rng.uniform(0.6, 1.6), edge - side * 0.2]))
        place = [near, 0.0, rng.uniform(3.2, 5.5)]
        goal, focal = [middle, rng.uniform(11, 17), 0.5], rng.uniform(1.05, 1.6)
    elif view == "across":
        far = int(rng.choice([-1, 1]))
        kerb = road.right if far > 0 else road.left
        place = [kerb + far * rng.uniform(2.5, 6.0), 0.0, rng.uniform(2.8, 5.2)]
        goal, focal = [middle, rng.uniform(4.5, 9.0), 0.6], rng.uniform(0.85, 1.25)
    elif view == "gate":
        beside = edge + (1 if edge > 0 else -1) * rng.uniform(0.5, 1.6)
        place = [rng.uniform(-0.2, 0.2) if rng.random() < 0.4 else beside, 0.0, rng.uniform(1.9, 3.2)]
        goal, focal = [middle, rng.uniform(7, 11), 0.7], rng.uniform(0.95, 1.35)
    else:
        place = [edge + side * rng.uniform(1, 4), 0.0, rng.uniform(8.5, 12)]
        goal, focal = [middle, rng.uniform(15, 22), 0.0], rng.uniform(1.4, 2.0)
    return Camera.towards(np.array(place, np.float64), np.array(goal, np.float64), float(focal * unit), size)
