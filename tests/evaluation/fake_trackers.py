"""Trackers without a network and small sequences; worker processes import this module by its name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def write_sequence(folder: Path, boxes: np.ndarray, size: tuple[int, int] = (40, 30)) -> Path:
    """Write a sequence in OTB's layout; the image of frame i is filled with the value i."""
    (folder / "img").mkdir(parents=True)
    for index in range(len(boxes)):
        image = np.full((size[1], size[0], 3), index, dtype=np.uint8)
        cv2.imwrite(str(folder / "img" / f"{index + 1:04d}.png"), image)
    lines = [",".join(f"{value:g}" for value in box) for box in boxes]
    (folder / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
    return folder


def walk(count: int, step: float = 1.0, width: float = 10.0) -> np.ndarray:
    """Boxes (count, 4) of `width` x 8 pixels that move right by `step` a frame."""
    boxes = np.tile([3.0, 4.0, width, 8.0], (count, 1))
    boxes[:, 0] += step * np.arange(count)
    return boxes


@dataclass
class StillTracker:
    """Answers the first box for ever; fails, or ends its process, for targets of certain widths."""

    fail: tuple[float, ...] = ()
    die: tuple[float, ...] = ()
    tasks: bool = True

    def initialize(
        self,
        rgb: np.ndarray,
        box_xywh: list[float],
        *,
        timestamp: float | None = None,
        zones: Mapping[str, Any] | None = None,
    ) -> None:
        self.box = list(box_xywh)

    def track(self, rgb: np.ndarray, *, timestamp: float | None = None) -> dict[str, Any]:
        width = self.box[2]
        if width in self.fail:
            raise RuntimeError(f"no target of width {width}")
        if width in self.die:
            os._exit(7)
        said = {"cls": {"name": "Normal", "index": np.int64(9), "confidence": 0.5}} if self.tasks else {}
        return {"target_bbox": self.box, "score": 0.25, "tasks": said}


@dataclass
class StillBatch(StillTracker):
    """The same for several targets at once; notes the widths of the targets of each call."""

    together: list[list[float]] = field(default_factory=list)

    def start(
        self,
        rgb: np.ndarray,
        box_xywh: list[float],
        timestamp: float | None = None,
        zones: Mapping[str, Any] | None = None,
    ) -> StillTracker:
        target = StillTracker(self.fail, self.die, self.tasks)
        target.initialize(rgb, box_xywh, timestamp=timestamp, zones=zones)
        return target

    def track_together(
        self,
        targets: Sequence[StillTracker],
        images: Sequence[np.ndarray],
        timestamps: Sequence[float | None],
    ) -> list[dict[str, Any] | Exception]:
        self.together.append([target.box[2] for target in targets])
        answers: list[dict[str, Any] | Exception] = []
        for target, rgb, timestamp in zip(targets, images, timestamps, strict=True):
            try:
                answers.append(target.track(rgb, timestamp=timestamp))
            except RuntimeError as error:
                answers.append(error)
        return answers


@dataclass(frozen=True)
class StillFactory:
    """Makes a StillTracker."""

    fail: tuple[float, ...] = ()
    die: tuple[float, ...] = ()
    tasks: bool = True

    def __call__(self, device: str | None) -> StillTracker:
        return StillTracker(self.fail, self.die, self.tasks)


def broken_factory(device: str | None) -> StillTracker:
    """Fails as a missing weights file would."""
    raise FileNotFoundError("weights.pth.tar")
