"""One test sequence and one benchmark: what the runner and the report need to know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.evaluation.benchmarks.stored import Frame

Array = NDArray[np.float64]
FrameRanges = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Sequence:
    """Frames of one target.

    Boxes are as written in the annotation file, and results are written in the same way. The published
    trackers hand those numbers on as they are, also where pixels count from 1; with `one_based` the tracker
    gets and gives boxes that count from 0, as it was trained with.

    Attributes:
        name: names the result file.
        frames: N images: paths, or entries of an LMDB.
        boxes_xywh: (N, 4) ground truth, or (1, 4) where only the first box is public.
        visible: (N,) bool, or None when the benchmark says nothing about it.
        cover: (N,) 0 to 8 as in GOT-10k, or None.
        first_frame: number of the first frame in the whole sequence, counted from 1.
        folder: where its side files are looked for.
        one_based: the tracker's pixels count from 0, those of the annotation file from 1.
        timestamps: (N,) seconds, increasing, or None: frames come at TEST.FPS.
        zones: name -> (V, 2) polygon in 0-based frame pixels.
        attributes: short names of what is hard about it, as the benchmark calls them ("OCC", "SV"); empty
            where the benchmark has none.
    """

    name: str
    frames: tuple[Frame, ...]
    boxes_xywh: Array
    visible: NDArray[np.bool_] | None = None
    cover: NDArray[np.int64] | None = None
    first_frame: int = 1
    folder: Path | None = None
    one_based: bool = False
    timestamps: Array | None = None
    zones: Mapping[str, Array] = field(default_factory=dict)
    attributes: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        count = len(self.frames)
        if count == 0:
            raise DataError(
                f"sequence '{self.name}' has no images{f' in {self.folder}' if self.folder else ''}"
            )
        if len(self.boxes_xywh) not in (1, count):
            raise DataError(
                f"sequence '{self.name}' has {count} images but {len(self.boxes_xywh)} ground truth boxes"
                f"{f' ({self.folder})' if self.folder else ''}; there must be one a frame, or only the first"
            )
        each = {
            "visibility flags": self.visible,
            "cover values": self.cover,
            "time stamps": self.timestamps,
        }
        for what, values in each.items():
            if values is not None and len(values) != count:
                raise DataError(f"sequence '{self.name}' has {count} frames but {len(values)} {what}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def scorable(self) -> bool:
        """Whether every frame has a ground truth box."""
        return len(self.boxes_xywh) == len(self.frames)

    @property
    def shift(self) -> Array:
        """What a box in the tracker's pixels lacks to one of the annotation file."""
        return np.array([1.0, 1.0, 0.0, 0.0]) * self.one_based

    @property
    def rate(self) -> float | None:
        """Frames a second: by the median distance of the time stamps; None without them."""
        if self.timestamps is None or len(self) < 2:
            return None
        return float(1 / np.median(np.diff(self.timestamps)))

    @property
    def init_box(self) -> list[float]:
        """The first box x, y, w, h as in the annotation file."""
        return [float(value) for value in self.boxes_xywh[0]]

    def check_init_box(self) -> None:
        """Raise `DataError` unless the first box has a size."""
        box = self.boxes_xywh[0]
        if not np.isfinite(box).all() or (box[2:] <= 0).any():
            raise DataError(
                f"sequence '{self.name}' can't be started: the box of frame {self.first_frame} is "
                f"{self.init_box}, wanted w, h > 0; choose a range with a visible target in its first frame "
                "(--frames SEQ=first:last)"
            )

    def cut(self, first: int, last: int) -> Sequence:
        """Return the frames `first` to `last`, counted from 1, both included."""
        begin, end = first - self.first_frame, last - self.first_frame + 1
        if not 0 <= begin < end <= len(self):
            raise DataError(
                f"--frames {self.name}={first}:{last} is outside of the sequence, which has the frames "
                f"{self.first_frame} to {self.first_frame + len(self) - 1}; first must not be after last"
            )
        if not self.scorable and begin > 0:
            raise DataError(f"--frames {self.name}={first}:{last}: only the box of the first frame is known")
        part = slice(begin, end)
        return replace(
            self,
            frames=self.frames[part],
            boxes_xywh=self.boxes_xywh[part] if self.scorable else self.boxes_xywh,
            visible=None if self.visible is None else self.visible[part],
            cover=None if self.cover is None else self.cover[part],
            timestamps=None if self.timestamps is None else self.timestamps[part],
            first_frame=first,
        )


@dataclass(frozen=True)
class Benchmark:
    """A named list of sequences.

    Attributes:
        name: as in `--dataset`; a folder's own name for a folder of sequences.
        sequences: in order.
        protocol: whose scoring rules hold, see `mtltrack.metrics.preparation.protocol_for`.
        notes: what the user should know, for example sequences that are missing on the disk.
    """

    name: str
    sequences: tuple[Sequence, ...]
    protocol: str = "otb"
    notes: tuple[str, ...] = field(default=())

    def select(self, wanted: str | None, ranges: FrameRanges) -> Benchmark:
        """Return the sequences cut to `ranges`; only `wanted`, a name or a number from 0, if it is given."""
        names = [sequence.name for sequence in self.sequences]
        for name in ranges:
            if name not in names:
                raise DataError(
                    f"--frames names '{name}', which is no sequence of {self.name}."
                    f"{did_you_mean(name, names)} Sequences: {_listed(names)}"
                )
        chosen = [
            sequence for sequence in self.sequences if sequence.name in _matching(names, wanted, self.name)
        ]
        cut = tuple(item.cut(*ranges[item.name]) if item.name in ranges else item for item in chosen)
        return replace(self, sequences=cut)


def _matching(names: list[str], wanted: str | None, benchmark: str) -> set[str]:
    if wanted is None:
        return set(names)
    if wanted in names:
        return {wanted}
    if wanted.isdecimal() and int(wanted) < len(names):
        return {names[int(wanted)]}
    raise DataError(
        f"{benchmark} has no sequence '{wanted}'.{did_you_mean(wanted, names)} "
        f"Give a name or a number from 0 to {len(names) - 1}. Sequences: {_listed(names)}"
    )


def _listed(names: list[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def parse_ranges(items: list[str]) -> FrameRanges:
    """Turn `SEQ=first:last` texts (frames counted from 1, both included) into a table."""
    ranges: FrameRanges = {}
    for item in items:
        match = re.fullmatch(r"(.+)=(\d+):(\d+)", item)
        if match is None:
            raise DataError(
                f"--frames {item}: wanted SEQ=first:last with frames from 1, for example Crossing=81:120"
            )
        name, first, last = match[1], int(match[2]), int(match[3])
        if name in ranges:
            raise DataError(f"--frames names '{name}' twice; a sequence can be cut to one range")
        ranges[name] = (first, last)
    return ranges
