"""How often a tracker loses its target, and whether it finds it again.

Of one sequence only the frames with a visible target count; the others neither prolong nor interrupt
anything. A failure is a run of at least `patience` such frames with overlaps at or below `lost_at`. It begins
with the first of them and ends at the re-detection: the first later visible frame whose overlap is above
`found_above`. Without one it lasts to the end. The defaults, 0.1 and 10 frames, are those by which the VOT
challenges since 2020 call a target lost (Kristan et al., The Eighth Visual Object Tracking VOT2020 Challenge
Results); there a run ends at the failure, here the tracker goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtltrack.core.errors import DataError

Indices = NDArray[np.int64]

LOST_AT = 0.1
PATIENCE = 10
NEVER = -1


@dataclass(frozen=True)
class Failures:
    """The failures of one sequence.

    Attributes:
        starts: (F,) frames, counted from 0, with which they begin.
        redetections: (F,) frames with which the target is found again; -1 where it never is.
        lost: number of visible frames within the failures.
        visible: number of visible frames.
        frames: number of frames.
    """

    starts: Indices
    redetections: Indices
    lost: int
    visible: int
    frames: int

    def __len__(self) -> int:
        """Return the number of failures."""
        return len(self.starts)

    @property
    def frames_to_redetect(self) -> Indices:
        """(R,) frames of the video from the start of each failure to its re-detection, where there is one."""
        found = self.redetections != NEVER
        return self.redetections[found] - self.starts[found]


def find_failures(
    overlap: ArrayLike,
    visible: ArrayLike | None = None,
    *,
    lost_at: float = LOST_AT,
    found_above: float | None = None,
    patience: int = PATIENCE,
) -> Failures:
    """Return where a tracker loses its target and where it finds it again.

    Args:
        overlap: (N,) in [0, 1], of every frame; what stands in a frame without a visible target is ignored.
        visible: (N,) flags, not 0 where there is a target to be found, such as `SequenceErrors.valid`; None:
            everywhere.
        lost_at: overlaps at or below it are lost.
        found_above: overlaps above it end a failure; at least `lost_at`, which None stands for.
        patience: visible frames in a row that make a failure.

    Raises:
        DataError: lengths differ, a visible frame has no overlap (NaN), or thresholds that make no sense.
    """
    values = np.asarray(overlap, dtype=np.float64)
    flags = np.ones(values.shape, dtype=bool) if visible is None else np.asarray(visible) != 0
    found_at = lost_at if found_above is None else found_above
    if values.ndim != 1 or flags.shape != values.shape:
        raise DataError(f"overlaps {values.shape} and visibility {flags.shape} must both be (N,)")
    if not lost_at <= found_at or patience < 1:
        raise DataError(
            f"a failure needs lost_at <= found_above and patience >= 1; found {lost_at}, {found_at} and "
            f"{patience}"
        )
    shown = np.flatnonzero(flags)
    seen = values[shown]
    if np.isnan(seen).any():
        raise DataError(f"frame {int(shown[np.argmax(np.isnan(seen))])} is visible but its overlap is NaN")
    begins, ends = long_runs(seen <= lost_at, patience)
    found = np.flatnonzero(seen > found_at)
    # the first frame above the threshold behind each run; len(seen) where there is none
    again = np.append(found, len(seen))[np.searchsorted(found, ends)]
    # runs before the target was found again belong to the failure that they follow
    first = np.diff(again, prepend=NEVER) != 0
    begins, again = begins[first], again[first]
    redetections = np.append(shown, NEVER)[again]
    return Failures(shown[begins], redetections, int((again - begins).sum()), len(seen), len(values))


def long_runs(flags: NDArray[np.bool_], least: int) -> tuple[Indices, Indices]:
    """Return begin and end (exclusive) of the runs of at least `least` set flags."""
    edges = np.diff(flags.astype(np.int8), prepend=0, append=0)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    long = ends - begins >= least
    return begins[long], ends[long]


def summarise_failures(items: Sequence[Failures]) -> dict[str, float]:
    """Return what is said of many sequences at once.

    Keys:
        failures: their number.
        failures_per_1000: for every 1,000 visible frames; NaN without such frames.
        sequences_failed: share of sequences with at least one.
        redetected: share of failures after which the target was found again; NaN without failures.
        frames_to_redetect: median number of frames that this took; NaN without re-detections.
        lost: share of visible frames within failures; NaN without such frames.

    Raises:
        DataError: no sequence.
    """
    if not items:
        raise DataError("no sequence to average over")
    number = sum(len(item) for item in items)
    visible = sum(item.visible for item in items)
    delays = np.concatenate([item.frames_to_redetect for item in items])
    unknown = float("nan")
    return {
        "failures": float(number),
        "failures_per_1000": 1000.0 * number / visible if visible else unknown,
        "sequences_failed": sum(len(item) > 0 for item in items) / len(items),
        "redetected": len(delays) / number if number else unknown,
        "frames_to_redetect": float(np.median(delays)) if len(delays) else unknown,
        "lost": sum(item.lost for item in items) / visible if visible else unknown,
    }
