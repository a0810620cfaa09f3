"""Where a vehicle is at a given moment: a path on the ground, and how far along it the vehicle has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SPACING = 0.25  # metres between the points of a path


@dataclass(frozen=True)
class Path:
    """A smooth line on the ground: `points` (N, 2), `along` (N,) metres from its start, `heading` (N,)."""

    points: Array
    along: Array
    heading: Array

    @classmethod
    def through(cls, points: Array) -> Path:
        """Return the path through (N, 2) points that lie close together."""
        steps = np.diff(points, axis=0)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])
        slope = np.gradient(points, along, axis=0)
        return cls(points, along, np.unwrap(np.arctan2(slope[:, 1], slope[:, 0])))

    @property
    def length(self) -> float:
        return float(self.along[-1])

    def poses(self, s: Array) -> Array:
        """Return (..., 3) x, y and heading at `s` metres along the path; beyond its ends straight on."""
        x, y = (np.interp(s, self.along, self.points[:, k]) for k in (0, 1))
        heading = np.interp(s, self.along, self.heading)
        beyond = s - np.clip(s, 0, self.length)
        return np.stack([x + beyond * np.cos(heading), y + beyond * np.sin(heading), heading], axis=-1)

    def nearest(self, x: float, y: float) -> float:
        """Return how far along the path the point nearest to (x, y) lies."""
        return float(self.along[np.hypot(*(self.points - [x, y]).T).argmin()])


def lane_path(x: float, direction: float, start: float, stop: float) -> Path:
    """Return a straight path along the road at `x`; `start` and `stop` are the lowest and highest y."""
    y = np.arange(start, stop + SPACING, SPACING)
    points = np.column_stack([np.full(len(y), x), y])
    return Path.through(points if direction > 0 else points[::-1])


def parking_path(
    lane: float, place: float, direction: float, at: float, start: float, stop: float, sway: float
) -> Path:
    """Return a path that leaves the lane, halts beside it at y = `at` and goes back to the lane.

    Args:
        lane: x of the lane.
        place: x of the parking place.
        direction: 1 along y, -1 against it.
        at: y of the parking place.
        start, stop: lowest and highest y.
        sway: metres along the road that changing over takes.
    """
    y = np.arange(start, stop + SPACING, SPACING)
    ahead = direction * (y - at)  # negative before the place
    share = np.where(ahead < 0, (ahead + sway + 0.8) / sway, (sway + 1.2 - ahead) / sway)
    x = lane + (place - lane) * _smooth(share)
    points = np.column_stack([x, y])
    return Path.through(points if direction > 0 else points[::-1])


def turning_path(
    lane: float, direction: float, corner: float, side: float, radius: float, start: float
) -> Path:
    """Return a path along the road that turns off at y = `corner` towards a side (-1 or 1 in x)."""
    before = np.arange(start, corner, SPACING) if direction > 0 else np.arange(start, corner, -SPACING)
    angle = np.arange(0, np.pi / 2, SPACING / radius)
    arc = np.column_stack(
        [lane + side * radius * (1 - np.cos(angle)), corner + direction * radius * np.sin(angle)]
    )
    away = np.arange(SPACING, 30, SPACING)
    after = np.column_stack([arc[-1, 0] + side * away, np.full(len(away), arc[-1, 1])])
    straight = np.column_stack([np.full(len(before), lane), before])
    return Path.through(np.concatenate([straight, arc, after]))


def _smooth(share: Array) -> Array:
    clipped = np.clip(share, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


@dataclass(frozen=True)
class Travel:
    """How far a vehicle has come, in stretches of constant acceleration.

    Attributes:
        starts: (K,) seconds at which the stretches begin; the first also holds before its start.
        s, v, a: (K,) metres along the path, m/s and m/s^2 at their beginnings.
        cycle: metres after which the vehicle begins again, or 0.
    """

    starts: Array
    s: Array
    v: Array
    a: Array
    cycle: float = 0.0

    @classmethod
    def through(
        cls, first: float, stretches: Sequence[tuple[float, float, float]], start: float = 0.0
    ) -> Travel:
        """Return the travel from `first` metres on through stretches (seconds, speed at start, speed at end).

        The last stretch goes on with its last speed for ever.
        """
        starts, s, v, a = [start], [first], [], []
        for seconds, before, after in stretches:
            rate = (after - before) / seconds if seconds > 0 else 0.0
            v.append(before)
            a.append(rate)
            starts.append(starts[-1] + seconds)
            s.append(s[-1] + seconds * (before + after) / 2)
        v.append(stretches[-1][2])
        a.append(0.0)
        return cls(np.array(starts), np.array(s), np.array(v), np.array(a))

    @classmethod
    def steady(cls, first: float, speed: float, cycle: float = 0.0) -> Travel:
        """Return the travel at one speed, `first` metres along at time 0."""
        zero = np.zeros(1)
        return cls(zero, np.array([first]), np.array([speed]), zero, cycle)

    def at(self, times: Array) -> Array:
        """Return metres along the path at `times` (F,) seconds."""
        k, passed = self._stretch(times)
        s = self.s[k] + self.v[k] * passed + self.a[k] * passed**2 / 2
        return s % self.cycle if self.cycle else s

    def speed(self, times: Array) -> Array:
        """Return m/s at `times` (F,) seconds."""
        k, passed = self._stretch(times)
        return self.v[k] + self.a[k] * passed

    def standing(self, times: Array) -> Array:
        """Return (F,) seconds that the vehicle has been standing at `times`, 0 while it moves."""
        still = (self.v == 0) & (self.a == 0)
        begun = np.where(still, self.starts, np.inf)
        for k in range(1, len(begun)):
            if still[k] and still[k - 1]:
                begun[k] = begun[k - 1]
        k, _ = self._stretch(times)
        return np.where(still[k], np.maximum(times - begun[k], 0), 0.0)

    def _stretch(self, times: Array) -> tuple[NDArray[np.int64], Array]:
        k = np.clip(np.searchsorted(self.starts, times, side="right") - 1, 0, None)
        return k, times - self.starts[k]
