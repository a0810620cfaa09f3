"""What a sequence tells: its kind, and when its frames are taken.

The recorder takes frames at a dense, slightly irregular rate while the target moves. While it stands, there
is a frame every second or two, with gaps of several seconds and with short dense bursts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# kind: weight; see TrafficSequences
KINDS = {"pass": 0.24, "stop": 0.14, "park": 0.2, "outside": 0.12, "leave": 0.14, "approach": 0.16}
STANDING = ("stop", "park", "outside", "leave")
ALERTING = ("park", "leave")
LEAST_FRAMES = 8


@dataclass(frozen=True)
class Story:
    """The times of a sequence.

    Attributes:
        kind: of KINDS.
        times: (F,) seconds, strictly increasing from 0.
        halt: when the target comes to a stand; inf: never.
        go: when it drives off again; inf: never.
    """

    kind: str
    times: Array
    halt: float
    go: float

    def retimed(self, arrival: float, departure: float) -> Story:
        """Return the story with the times before it halts, and those after it goes, times these factors."""
        earlier = (arrival - 1) * self.halt
        before, after = self.times < self.halt, self.times > self.go
        times = self.times + earlier
        times[before] = self.times[before] * arrival
        go = self.go + earlier
        times[after] = go + (self.times[after] - self.go) * departure
        return Story(self.kind, np.round(times, 6), self.halt * arrival, go)


def draw_story(rng: np.random.Generator, kind: str, frames: int, fps: float, alert_seconds: float) -> Story:
    """Draw when the frames of a sequence are taken, and when its target halts and goes."""
    if kind not in STANDING:
        times = _start_at_zero(_dense(rng, frames, 0.75 / fps, gaps=int(rng.integers(0, 3))))
        return Story(kind, times, np.inf, np.inf)
    arrival = max(2, round(frames * rng.uniform(0.16, 0.24)))
    departs = kind in ("leave", "stop") and (kind == "leave" or rng.random() < 0.7)
    departure = max(2, round(frames * rng.uniform(0.16, 0.22))) if departs else 0
    share = rng.uniform(0.12, 0.6) if kind == "stop" else rng.uniform(1.15, 1.6)
    standing = max(alert_seconds * float(share), 1.0)
    before = _dense(rng, arrival, 1 / fps, gaps=0)
    rest = frames - arrival - departure
    during = _sparse(rng, rest, standing, 1 / fps)
    after = _dense(rng, departure, 1.6 / fps, gaps=0)
    times = _start_at_zero(np.concatenate([before, during, after]))
    halt = float(times[arrival - 1] + 0.5 * during[0])
    go = float(times[arrival + rest - 1] + 0.1 * after[0]) if departs else np.inf
    return Story(kind, times, halt, go)


def _start_at_zero(steps: Array) -> Array:
    """Return the moments after steps (F,); the first of them becomes 0."""
    moments = np.cumsum(steps)
    return np.round(moments - moments[0], 6)


def _dense(rng: np.random.Generator, frames: int, step: float, gaps: int) -> Array:
    """Return steps of about `step` seconds, of which a few are up to five times as long."""
    steps = step * rng.uniform(0.75, 1.25, frames)
    if frames > 10:
        steps[rng.integers(5, frames, gaps)] *= rng.uniform(2, 5)
    return steps


def _sparse(rng: np.random.Generator, frames: int, seconds: float, dense: float) -> Array:
    """Return steps that fill `seconds`: even ones, some gaps, some bursts as dense as where things move."""
    weights = rng.uniform(0.7, 1.3, frames)
    gaps = rng.integers(0, frames, max(1, frames // 18))
    weights[gaps] *= rng.uniform(2.5, 5, len(gaps))
    burst = np.zeros(frames, bool)
    length = frames // 10
    for start in rng.integers(0, frames, 2):
        burst[start : start + length] = True
    steps = np.where(burst, dense * rng.uniform(0.75, 1.25, frames), 0.0)
    if burst.all() or steps.sum() > seconds / 2:
        burst[:], steps[:] = False, 0.0
    steps[~burst] = weights[~burst] * (seconds - steps.sum()) / weights[~burst].sum()
    return steps
