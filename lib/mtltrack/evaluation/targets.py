"""What is kept of a target from frame to frame of its video, and a frame as the network gets it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtltrack.evaluation.sessions import TaskSessions
from mtltrack.models.layers.memory import PromptMemory


@dataclass
class Target:
    """A target that is followed through one video.

    Attributes:
        template: (1, 3, Hz, Wz) normalised crop of the first frame.
        template_box: (1, 4) xywh in [0, 1] of the template.
        memory: of the history, None without one.
        sessions: of the task heads.
        box_xywh: the box of the frame before, in 0-based frame pixels.
        start: time of the first frame, seconds.
        last_timestamp: of the frame before, seconds.
        frame_index: of the frame before, 0 for the first one.
    """

    template: Tensor
    template_box: Tensor
    memory: PromptMemory | None
    sessions: TaskSessions
    box_xywh: list[float]
    start: float
    last_timestamp: float
    frame_index: int = 0

    def advance(self, timestamp: float) -> None:
        """Go on to the next frame.

        Raises:
            ValueError: it isn't later than the one before.
        """
        index = self.frame_index + 1
        if timestamp <= self.last_timestamp:
            raise ValueError(
                f"time stamps must increase: frame {index} is at {timestamp} s, the one before at "
                f"{self.last_timestamp} s"
            )
        self.frame_index, self.last_timestamp = index, timestamp


@dataclass(frozen=True)
class View:
    """A frame cut around the box of the one before.

    Attributes:
        crop: (H, W, 3) uint8 search region.
        affine: (2, 3) float64, pixel (x, y, 1) of the crop -> pixel of the frame.
        factor: pixels of the crop a pixel of the frame.
        size: width and height of the frame in pixels.
        detail: (Hd, Wd, 3) uint8 and its affine where a head needs the detail view, or None.
    """

    crop: NDArray[np.uint8]
    affine: NDArray[np.float64]
    factor: float
    size: tuple[int, int]
    detail: tuple[NDArray[np.uint8], NDArray[np.float64]] | None = None


def check_frame(rgb: Any) -> None:
    """Raise ValueError unless it is a uint8 RGB array (H, W, 3)."""
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        found = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise ValueError(f"a frame must be a uint8 RGB array (H, W, 3), found {found}")


def check_first_box(box_xywh: Sequence[float]) -> list[float]:
    """Return the box as plain numbers; raise ValueError unless they are four finite ones, with a size."""
    box = [float(value) for value in box_xywh]
    if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] <= 0 or box[3] <= 0:
        raise ValueError(f"the first box must be [x, y, w, h] with w > 0 and h > 0, found {list(box_xywh)}")
    return box
