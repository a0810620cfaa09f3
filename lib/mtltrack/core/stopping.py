"""The hard rule of the alert: how long a target has been standing still, and whether it does so in a zone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.zones import Zones, box_polygon_area, polygon_area

MEASURES = ("ioa", "iou", "footprint")
FOOTPRINT_SHARE = 1 / 3
"""Share of a box's height, from below, that counts as the vehicle's footprint."""
LEAST_SIDE = 1.0  # pixels; a thinner box is measured as if it were this wide
Box = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class StopRule:
    """RED if the target has stood still for over `seconds` and overlaps a zone by over `overlap`.

    Attributes:
        seconds: tau_t, how long a target may stand still.
        overlap: tau_o in [0, 1), how much of it may lie in a zone.
        measure: what the overlap is: "ioa" intersection over the box's area, "iou" over the union of box
            and zone, "footprint" like ioa for the lower third of the box, where a vehicle meets the ground.
        speed: e0, in box sizes a second (the size is sqrt(w h)): a target slower than this stands still.
        gap: seconds that a target may be out of sight without losing the time it has stood.
        step: shortest time in seconds over which a speed is measured; frames nearer than that to the last
            one that counted are passed over. At 30 frames a second a box that trembles by a hundredth of its
            size seems to move by 0.3 sizes a second; over half a second by 0.02.
    """

    seconds: float = 120.0
    overlap: float = 0.3
    measure: str = "ioa"
    speed: float = 0.15
    gap: float = 10.0
    step: float = 0.5

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ConfigError(
                f"the stop rule's measure is '{self.measure}'; allowed: {', '.join(MEASURES)}. Edit MEASURE."
            )
        limits = {
            "seconds": self.seconds >= 0,
            "overlap": 0 <= self.overlap < 1,
            "speed": self.speed > 0,
            "gap": self.gap >= 0,
            "step": self.step >= 0,
        }
        for name, fits in limits.items():
            value = getattr(self, name)
            if not fits or not math.isfinite(value):
                wanted = {"overlap": "in [0, 1)", "speed": "above 0"}.get(name, "0 or more")
                raise ConfigError(
                    f"the stop rule's {name} is {value}; it must be {wanted} and finite. Edit {name.upper()}."
                )

    def is_red(self, stopped: float, overlap: float) -> bool:
        """Say whether `stopped` seconds with `overlap` in [0, 1] is an alert."""
        return stopped > self.seconds and overlap > self.overlap


class StopClock:
    """Measures from time stamps how long a target has been standing still.

    From one sighting to the next, `dt` seconds later and at least `rule.step`, the target's speed is
    e = |dc| / (sqrt(w h) dt) sizes a second, c the centre, w and h of the later box. Below `rule.speed` its
    time grows by dt, else it is 0 again. Without the target the time is held; when the target comes back
    within `rule.gap` seconds the whole gap is judged as one step, and after that the time is 0.

    Attributes:
        seconds: the time stood still so far.
        speed: e of the last step in sizes a second; NaN before the second sighting.
    """

    def __init__(self, rule: StopRule, seconds: float = 0.0) -> None:
        self.rule = rule
        self.seconds = float(seconds)
        self.speed = math.nan
        self._last: tuple[float, float, float] | None = None  # x, y of the centre, time: where a step begins
        self._seen = 0.0  # when the target was last seen
        self._missed = False  # whether the frame before was without the target

    def update(self, box_xyxy: Box | None, time: float) -> float:
        """Take the next frame and return the seconds stood still.

        Args:
            box_xyxy: (4,) frame pixels; None when the target isn't seen.
            time: seconds, not before the last frame's.
        """
        away = box_xyxy is None or self._missed
        if self._last is not None and away and time - self._seen > self.rule.gap:
            self.seconds, self.speed, self._last = 0.0, math.nan, None
        self._missed = box_xyxy is None
        if box_xyxy is None:
            return self.seconds
        self._seen = time
        left, top, right, bottom = (float(value) for value in box_xyxy)
        x, y = (left + right) / 2, (top + bottom) / 2
        if self._last is None:
            self._last = (x, y, time)
            return self.seconds
        passed = time - self._last[2]
        if passed <= 0 or passed < self.rule.step:  # the same moment again says nothing about speed
            return self.seconds
        size = math.sqrt(max(right - left, LEAST_SIDE) * max(bottom - top, LEAST_SIDE))
        self.speed = math.hypot(x - self._last[0], y - self._last[1]) / (size * passed)
        self.seconds = self.seconds + passed if self.speed < self.rule.speed else 0.0
        self._last = (x, y, time)
        return self.seconds


def stopped_seconds(
    boxes_xyxy: NDArray[np.float64],
    visible: NDArray[np.bool_],
    times: NDArray[np.float64],
    rule: StopRule | None = None,
) -> NDArray[np.float64]:
    """Return how long a target had been standing still in each frame, by `StopClock`.

    Args:
        boxes_xyxy: (F, 4) frame pixels; any value where `visible` is False.
        visible: (F,) bool.
        times: (F,) seconds, never going back.
        rule: speed and gap; None for the rule's defaults.

    Returns:
        (F,) float64 seconds.

    Raises:
        DataError: lengths differ, a time goes back or isn't finite, or a visible box isn't finite.
    """
    boxes, seen, stamps = (
        np.asarray(value, dtype) for value, dtype in ((boxes_xyxy, float), (visible, bool), (times, float))
    )
    frames = len(stamps)
    if boxes.shape != (frames, 4) or seen.shape != (frames,) or stamps.ndim != 1:
        raise DataError(
            "a stop clock needs boxes (F, 4), visible (F,) and times (F,); found "
            f"{boxes.shape}, {seen.shape} and {stamps.shape}"
        )
    bad = ~np.isfinite(stamps) | np.append(False, np.diff(stamps) < 0)
    if bad.any():
        i = int(bad.argmax())
        raise DataError(
            f"time stamps must be finite and never go back: frame {i} (from 0) is at {stamps[i]:g} s, "
            f"the one before at {stamps[max(i - 1, 0)]:g} s. Correct the time stamps."
        )
    lost = seen & ~np.isfinite(boxes).all(axis=1)
    if lost.any():
        i = int(lost.argmax())
        raise DataError(
            f"frame {i} (from 0) is marked visible, but its box is {boxes[i].tolist()}. "
            "Correct the box, or mark the frame as without the target."
        )
    clock = StopClock(rule or StopRule())
    return np.array(
        [
            clock.update(box if here else None, time)
            for box, here, time in zip(boxes.tolist(), seen.tolist(), stamps.tolist(), strict=True)
        ],
        dtype=np.float64,
    )


def footprint(box_xyxy: Box) -> NDArray[np.float64]:
    """Return the lower `FOOTPRINT_SHARE` of a box, (4,) xyxy."""
    left, top, right, bottom = (float(value) for value in box_xyxy)
    return np.array([left, bottom - FOOTPRINT_SHARE * (bottom - top), right, bottom])


def overlap_with_zone(box_xyxy: Box, polygon: NDArray[np.float64], measure: str = "ioa") -> float:
    """Return the overlap of a box with a simple polygon, in [0, 1]; 0 for a box without area.

    Args:
        box_xyxy: (4,) frame pixels.
        polygon: (V, 2) frame pixels.
        measure: "ioa", "iou" or "footprint", see `StopRule`.
    """
    box = footprint(box_xyxy) if measure == "footprint" else np.asarray(box_xyxy, np.float64)
    area = max(float(box[2] - box[0]), 0.0) * max(float(box[3] - box[1]), 0.0)
    if area == 0:
        return 0.0
    common = box_polygon_area(box, polygon)
    whole = area + polygon_area(polygon) - common if measure == "iou" else area
    return min(common / whole, 1.0)


def largest_overlap(box_xyxy: Box, zones: Zones, measure: str = "ioa") -> tuple[float, str | None]:
    """Return the largest overlap of a box with one of the zones, and that zone's name; 0, None for none."""
    best, name = 0.0, None
    for zone, polygon in zones.items():
        overlap = overlap_with_zone(box_xyxy, polygon, measure)
        if overlap > best:
            best, name = overlap, zone
    return best, name


def unreachable_zones(zones: Zones, vehicle_area: float, rule: StopRule) -> list[str]:
    """Return a warning for each zone in which this vehicle can't alert by `iou`.

    A vehicle wholly inside a zone has IoU = vehicle's area / zone's area, and never more: with the usual
    threshold of 0.3 a zone of more than 3.33 vehicles can't turn red.

    Args:
        zones: name -> (V, 2) frame pixels.
        vehicle_area: area of the vehicle's box in pixels^2.
        rule: the rule; other measures than `iou` always have an empty answer.
    """
    if rule.measure != "iou":
        return []
    warnings = []
    for name, polygon in zones.items():
        ratio = polygon_area(polygon) / max(vehicle_area, LEAST_SIDE)
        best = min(ratio, 1 / ratio)
        if best <= rule.overlap:
            warnings.append(
                f"zone '{name}' can't turn red: it is {ratio:.3g} times as large as the vehicle, so that IoU "
                f"is at most {best:.3f}, and OVERLAP wants more than {rule.overlap:g}. "
                "Use MEASURE ioa or footprint, or lower OVERLAP."
            )
    return warnings
