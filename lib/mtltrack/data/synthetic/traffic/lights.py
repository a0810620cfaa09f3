"""The light of a day, a dusk or a night."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtltrack.data.synthetic.traffic.shading import Light

Array = NDArray[np.float64]
NIGHTS = 0.3  # share of the sequences


def draw_light(rng: np.random.Generator) -> Light:
    """Draw the light of a scene: sunny, cloudy, low sun, or night under street lamps."""
    kind = rng.choice(["sunny", "cloudy", "low", "night"], p=[0.3, 0.28, 0.12, NIGHTS])
    turn = float(rng.uniform(0, 2 * np.pi))
    if kind == "sunny":
        return _day(
            _towards(turn, rng.uniform(0.55, 1.0)), (1.0, 0.92, 0.78), 0.95, (0.26, 0.31, 0.40), 0.55, 0.12
        )
    if kind == "low":
        return _day(
            _towards(turn, rng.uniform(0.3, 0.5)), (1.0, 0.72, 0.45), 0.95, (0.27, 0.28, 0.36), 0.5, 0.15
        )
    if kind == "cloudy":
        return _day(_towards(turn, 1.1), (0.9, 0.95, 1.0), 0.22, (0.46, 0.49, 0.53), 0.22, 0.6)
    lamp = float(rng.uniform(0.28, 0.55))
    warm = rng.random() < 0.5
    colour = np.array([1.0, 0.70, 0.38] if warm else [0.85, 0.93, 1.0])
    return Light(
        night=True,
        sun=_towards(turn, 1.25),
        direct=colour * lamp,
        ambient=np.array([0.030, 0.036, 0.055]) * float(rng.uniform(0.7, 1.8)),
        zenith=np.array([0.006, 0.009, 0.02]),
        horizon=np.array([0.03, 0.028, 0.03]),
        ground=np.array([0.012, 0.011, 0.010]),
        shadow=0.4,
        softness=0.5,
    )


def _towards(turn: float, height: float) -> Array:
    """Return the unit vector of a direction: `turn` on the ground and `height` above it, radians."""
    return np.array([np.cos(turn) * np.cos(height), np.sin(turn) * np.cos(height), np.sin(height)])


def _day(
    sun: Array,
    colour: tuple[float, float, float],
    power: float,
    sky: tuple[float, float, float],
    shadow: float,
    softness: float,
) -> Light:
    ambient = np.array(sky)
    direct = np.array(colour) * power
    sunny = power > 0.5
    return Light(
        night=False,
        sun=sun,
        direct=direct,
        ambient=ambient,
        zenith=np.array([0.22, 0.36, 0.66]) if sunny else np.array([0.62, 0.66, 0.70]),
        horizon=np.array([0.62, 0.68, 0.74]) if sunny else np.array([0.70, 0.72, 0.74]),
        ground=0.14 * (ambient + direct * sun[2]),
        shadow=shadow,
        softness=softness,
    )
