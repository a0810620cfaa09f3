"""The scene conditions that a sequence brings in, one episode after the other.

A sequence starts with a few plain frames; then episodes of EPISODE frames follow, each of which brings in one
condition, sometimes two, and lets it go again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAD = 6  # plain frames at the start
EPISODE = 24  # frames of an episode
RAMP = 0.25  # share of an episode in which its condition grows, and in which it fades
SECOND = 0.25  # chance that an episode has a second condition

# what an episode can bring in; the others come from the target's own way
BROUGHT_IN = (
    "Occlusion",
    "Illumination Change",
    "Motion Blur",
    "Low Resolution",
    "Background Clutter",
    "Low Contrast Object",
    "Normal",
)


@dataclass(frozen=True)
class Episode:
    """One stretch of a sequence: its conditions and the random choices of their form.

    Attributes:
        first, last: its frames, the last not included.
        conditions: names.
        sign: -1 darker, 1 brighter.
        amount: strength of the condition at its height, [0.8, 1].
        whole: blur of the whole frame instead of the target alone.
        angle: direction of that blur, radians.
    """

    first: int
    last: int
    conditions: frozenset[str]
    sign: float
    amount: float
    whole: bool
    angle: float

    @property
    def middle(self) -> int:
        return (self.first + self.last) // 2

    def strength(self, frame: int) -> float:
        """Return how far the conditions have grown: 0 at both ends, 1 in the middle, smooth between."""
        length = max(self.last - self.first - 1, 1)
        progress = (frame - self.first) / length
        ramp = min(max(min(progress, 1 - progress) / RAMP, 0.0), 1.0)
        return ramp * ramp * (3 - 2 * ramp)


def draw_episodes(rng: np.random.Generator, order: tuple[str, ...], frames: int) -> tuple[Episode, ...]:
    """Draw the episodes of a sequence; `order` names the conditions to bring in, one after the other."""
    if not order:
        return ()
    episodes = []
    length = min(EPISODE, max(frames - LEAD, 1))
    for number, first in enumerate(range(LEAD, frames, length)):
        names = {order[number % len(order)]}
        if rng.random() < SECOND:
            names.add(order[int(rng.integers(len(order)))])
        names.discard("Normal")
        episodes.append(
            Episode(
                first=first,
                last=first + length,
                conditions=frozenset(names),
                sign=float(rng.choice([-1.0, 1.0])),
                amount=float(rng.uniform(0.8, 1.0)),
                whole=bool(rng.random() < 0.4),
                angle=float(rng.uniform(0, np.pi)),
            )
        )
    return tuple(episodes)


def episode_at(episodes: tuple[Episode, ...], frame: int) -> Episode | None:
    """Return the episode of a frame; None for the plain frames at the start."""
    for episode in episodes:
        if episode.first <= frame < episode.last:
            return episode
    return None
