"""Draws boxes and conditions into frames and writes them as a video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks.sequence import Sequence
from mtltrack.evaluation.results import ResultFolder, read_boxes, read_tasks
from mtltrack.evaluation.runner import read_rgb

Image = NDArray[np.uint8]

TRUTH_RGB = (0, 220, 0)
PREDICTION_RGB = (230, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class VideoWriter:
    """An mp4 file that takes RGB frames of one size.

    Args:
        path: where to write.
        size: (width, height); odd numbers lose their last row or column, because the codec wants even ones.
        fps: frames a second.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float = 30.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.size = (size[0] // 2 * 2, size[1] // 2 * 2)
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, self.size)
        if not self._writer.isOpened():
            raise DataError(
                f"OpenCV can't write the video '{path}' (codec mp4v, {self.size[0]}x{self.size[1]})"
            )

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.release()

    def write(self, rgb: Image) -> None:
        """Add a frame (H, W, 3); one of another size is scaled."""
        if rgb.shape[1] // 2 * 2 != self.size[0] or rgb.shape[0] // 2 * 2 != self.size[1]:
            rgb = np.asarray(cv2.resize(rgb, self.size), dtype=np.uint8)
        self._writer.write(cv2.cvtColor(rgb[: self.size[1], : self.size[0]], cv2.COLOR_RGB2BGR))


def draw(
    rgb: Image,
    prediction_xywh: Iterable[float] | None = None,
    truth_xywh: Iterable[float] | None = None,
    lines: Iterable[str] = (),
) -> Image:
    """Return a copy of a frame with the true box in green, the predicted one in red and lines of text.

    Args:
        rgb: (H, W, 3) uint8.
        prediction_xywh: pixels, or None.
        truth_xywh: pixels, or None; a box that isn't a number or has no size isn't drawn.
        lines: texts, from the top left corner down.
    """
    image = np.ascontiguousarray(rgb).copy()
    thickness = max(1, round(max(image.shape[:2]) / 500))
    for box, colour in ((truth_xywh, TRUTH_RGB), (prediction_xywh, PREDICTION_RGB)):
        if box is None:
            continue
        x, y, w, h = (float(value) for value in box)
        if np.isfinite([x, y, w, h]).all() and w > 0 and h > 0:
            corners = (round(x), round(y)), (round(x + w) - 1, round(y + h) - 1)
            cv2.rectangle(image, *corners, colour, thickness)
    scale = max(0.4, max(image.shape[:2]) / 1600)
    for number, text in enumerate(lines):
        place = (6, round((number + 1) * 34 * scale))
        _darken_behind(image, text, place, scale, thickness)
        cv2.putText(image, text, place, _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return image


def _darken_behind(
    image: np.ndarray, text: str, place: tuple[int, int], scale: float, thickness: int
) -> None:
    """Darken the pixels that a line of text will stand on, so that it can be read on any picture."""
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    rows = slice(max(place[1] - height - 3, 0), place[1] + below + 1)
    columns = slice(max(place[0] - 3, 0), place[0] + width + 3)
    image[rows, columns] = (image[rows, columns] * 0.4).astype(np.uint8)


def describe(entry: dict[str, Any]) -> list[str]:
    """Return what a frame's line of `.tasks.jsonl` says, in words for the picture."""
    lines = []
    for task, answer in entry.items():
        if task in ("frame", "score") or not isinstance(answer, dict) or "name" not in answer:
            continue
        confidence = answer.get("confidence")
        lines.append(
            f"{task}: {answer['name']}" + (f" {confidence:.2f}" if isinstance(confidence, float) else "")
        )
    return lines


def write_overlay(sequence: Sequence, folder: ResultFolder, path: Path, fps: float = 30.0) -> Path:
    """Write a video of one sequence with the boxes of its result file and, where known, of its ground truth.

    Raises:
        DataError: no results, or of another length than the sequence.
    """
    boxes = read_boxes(folder.boxes(sequence.name))
    if len(boxes) != len(sequence):
        raise DataError(
            f"'{folder.boxes(sequence.name)}' holds {len(boxes)} boxes, but '{sequence.name}' has "
            f"{len(sequence)} frames"
        )
    tasks = folder.tasks(sequence.name)
    said = {entry["frame"]: entry for entry in read_tasks(tasks)} if tasks.is_file() else {}
    height, width = read_rgb(sequence.frames[0]).shape[:2]
    with VideoWriter(path, (width, height), fps) as video:
        for index, frame in enumerate(sequence.frames):
            number = sequence.first_frame + index
            truth = sequence.boxes_xywh[index] - sequence.shift if sequence.scorable else None
            lines = [f"{sequence.name} {number}", *describe(said.get(number, {}))]
            video.write(draw(read_rgb(frame), boxes[index] - sequence.shift, truth, lines))
    return path
