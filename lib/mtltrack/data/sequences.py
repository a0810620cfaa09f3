"""What a data set says about one of its sequences, and the protocol that every data set follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mtltrack.core.errors import DataError

FrameLabels = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class PlateLabel:
    """What is known of the target's licence plate in one frame.

    Attributes:
        box_xyxy: 0-based frame pixels; None when no plate can be seen.
        text: what it says; None when that isn't known or can't be read.
        where: file and line that say so, for messages.
    """

    box_xyxy: tuple[float, float, float, float] | None
    text: str | None = None
    where: str = ""


@dataclass
class SequenceInfo:
    """Everything known about a sequence but its pixels. F frames.

    Attributes:
        name: name within the data set.
        boxes_xywh: (F, 4) float64 target box in 0-based frame pixels; any value where `visible` is False.
        visible: (F,) bool, whether the frame may be shown to the model as one that holds the target.
        is_video: False for a still image; a clip then repeats it.
        fps: frames a second, for time stamps that the source doesn't give.
        timestamps: (F,) float64 seconds, or None to count frames.
        labels: one entry a task, its arrays with leading F: `valid` (F,) bool and the task's own;
            cls: `index` (F,) int64 (-100 absent) and `flags` (F, 10) bool.
        first_frame: number of the first frame in the whole sequence, counted from 1 (for messages).
        whole_length: frames of the whole sequence, of which these may be a part; None when that isn't known.
        faults: frame -> message for frames whose annotation can't be used: drawing one makes a bad sample.
        plates: frame -> the plate; a frame without an entry is unlabelled.
        masked: (F,) bool, which frames have a mask (`SequenceDataset.mask` hands it out), or None: none.
        mask_where: frame -> file and line (or file) of its mask, for messages; may be left empty.
        alerts: frame -> whether the target has stood too long in a zone; without an entry: unlabelled.
        zones: name -> (V, 2) polygon in 0-based frame pixels.
        stopped: (F,) seconds that the target has been standing still, or None: worked out from boxes and
            times.
        box_labelled: False where `boxes_xywh` only says where to cut (a plate without its vehicle).
        has_text: True when a flip would make the sample's text unreadable.
        boxes_file: file with a line for the box of each frame of the whole sequence, for messages.
    """

    name: str
    boxes_xywh: np.ndarray
    visible: np.ndarray
    is_video: bool = True
    fps: float = 30.0
    timestamps: np.ndarray | None = None
    labels: FrameLabels = field(default_factory=dict)
    first_frame: int = 1
    whole_length: int | None = None
    faults: dict[int, str] = field(default_factory=dict)
    plates: dict[int, PlateLabel] = field(default_factory=dict)
    masked: np.ndarray | None = None
    mask_where: dict[int, str] = field(default_factory=dict)
    alerts: dict[int, bool] = field(default_factory=dict)
    zones: dict[str, np.ndarray] = field(default_factory=dict)
    stopped: np.ndarray | None = None
    box_labelled: bool = True
    has_text: bool = False
    boxes_file: str = ""

    def __post_init__(self) -> None:
        self.boxes_xywh = np.asarray(self.boxes_xywh, dtype=np.float64)
        self.visible = np.asarray(self.visible, dtype=bool)
        frames = len(self.boxes_xywh)
        if self.boxes_xywh.ndim != 2 or self.boxes_xywh.shape[1] != 4 or self.visible.shape != (frames,):
            raise DataError(
                f"sequence '{self.name}' needs boxes (F, 4) and visible (F,); found "
                f"{self.boxes_xywh.shape} and {self.visible.shape}"
            )
        if self.timestamps is not None:
            self.timestamps = np.asarray(self.timestamps, dtype=np.float64)
            self._check_times(self.timestamps)

    def _check_times(self, times: np.ndarray) -> None:
        if times.shape != (self.num_frames,):
            raise DataError(
                f"sequence '{self.name}' needs one time stamp a frame ({self.num_frames}); found "
                f"{times.shape[0]}"
            )
        wrong = np.flatnonzero(~(np.diff(times) > 0) | ~np.isfinite(times[1:])) + 1  # NaN isn't later either
        if len(times) and not np.isfinite(times[0]):
            wrong = np.array([0])
        if len(wrong):
            k = int(wrong[0])
            raise DataError(
                f"sequence '{self.name}', frame {k + self.first_frame}: the time stamp {times[k]:g} isn't "
                f"later than {times[max(k - 1, 0)]:g} before it. Time stamps are seconds that increase."
            )

    def where(self, frame: int) -> str:
        """Name frame `frame` (from 0) in a message: the line of its box, or the sequence and its number."""
        number = frame + self.first_frame
        return f"{self.boxes_file}, line {number}" if self.boxes_file else f"{self.name}, frame {number}"

    @property
    def num_frames(self) -> int:
        return len(self.boxes_xywh)

    def times(self) -> np.ndarray:
        """Return (F,) float64 seconds: the source's time stamps, else frame number over `fps`."""
        if self.timestamps is not None:
            return self.timestamps
        return (np.arange(self.num_frames, dtype=np.float64) + (self.first_frame - 1)) / self.fps


class SequenceDataset(Protocol):
    """What the sampler needs of a data set. Objects must be cheap to pickle: workers get a copy."""

    name: str

    @property
    def num_sequences(self) -> int:
        """How many sequences there are."""
        ...

    def sequence_name(self, i: int) -> str:
        """Return the name of sequence `i`, without reading its annotation."""
        ...

    def sequence(self, i: int) -> SequenceInfo:
        """Return what is known of sequence `i`; raises DataError naming file and line at fault."""
        ...

    def image(self, i: int, frame: int) -> np.ndarray:
        """Return frame `frame` (from 0) of sequence `i` as (H, W, 3) uint8 RGB."""
        ...

    def mask(self, i: int, frame: int) -> np.ndarray:
        """Return the target's mask (H, W) uint8, 1 on the target; asked only where `masked` says so."""
        ...


def encoded_image(source: SequenceDataset, i: int, frame: int) -> tuple[bytes, str] | None:
    """Return the file of a frame and how to name it in a message; None where a data set has no such files.

    Raises:
        DataError: the file can't be read.
    """
    read = getattr(source, "encoded", None)  # a data set may do without it
    found: tuple[bytes, str] | None = None if read is None else read(i, frame)
    return found
