"""Draws what a tracker says of its frames and writes them as a video."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.core.rle import decode_mask
from mtltrack.evaluation.benchmarks.sequence import Sequence
from mtltrack.evaluation.canvas import WHITE, Canvas, Colour, Image
from mtltrack.evaluation.results import ResultFolder, read_boxes, read_tasks
from mtltrack.evaluation.slots import read_rgb

TRUTH_RGB: Colour = (0, 220, 0)
PREDICTION_RGB: Colour = (0, 190, 255)
PLATE_RGB: Colour = (255, 208, 0)
ZONE_RGB: Colour = (255, 150, 40)
ALERT_RGB: Colour = (235, 25, 35)
SLOWEST, FASTEST = 1.0, 120.0  # frames a second of a video file
_OPACITY = {"mask": 0.4, "zone": 0.12, "alerted zone": 0.3}


class VideoWriter:
    """An mp4 file that takes RGB frames of one size.

    Args:
        path: where to write.
        size: (width, height); odd numbers lose their last row or column, because the codec wants even ones.
        fps: frames a second; a video of a picture every few minutes shows one a second.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float = 30.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.size = (size[0] // 2 * 2, size[1] // 2 * 2)
        rate = min(max(fps, SLOWEST), FASTEST)
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, self.size)
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
    said: Mapping[str, Any] | None = None,
    zones: Mapping[str, NDArray[Any]] | None = None,
    title: str = "",
) -> Image:
    """Return a copy of a frame with everything that is known of it drawn in.

    The target is blue: box, mask, score; its plate yellow, with what was read; zones orange; the true box
    green. An alert turns target and zone red, frames the picture and says so.

    Args:
        rgb: (H, W, 3) uint8.
        prediction_xywh: 0-based pixels, or None.
        truth_xywh: 0-based pixels, or None; a box that isn't a number or has no size isn't drawn.
        said: the frame's line of `.tasks.jsonl`: score and the tasks' results.
        zones: name -> (V, 2) polygon in 0-based pixels.
        title: first row of the text in the corner.
    """
    said = said or {}
    alert = said.get("alert") or {}
    alerted = bool(alert.get("alert"))
    colour = ALERT_RGB if alerted else PREDICTION_RGB
    canvas = Canvas(rgb)
    corners = None if prediction_xywh is None else _corners(prediction_xywh)
    canvas.panel([*([("", title)] if title else []), *describe(said)], corners)
    _draw_zones(canvas, zones or {}, alert.get("zone") if alerted else None, corners)
    if (mask := (said.get("seg") or {}).get("mask")) is not None:
        canvas.shade(decode_mask(mask, "the result's mask"), colour, _OPACITY["mask"])
    if truth_xywh is not None:
        canvas.box(_corners(truth_xywh), TRUTH_RGB)
    if corners is not None:
        canvas.box(corners, colour)
        if stopped := alert.get("stopped"):
            canvas.tag(clock(stopped), corners, colour, clock=True)
        elif isinstance(said.get("score"), float):
            canvas.tag(f"{said['score']:.2f}", corners, colour)
    _draw_plate(canvas, said)
    if alerted:
        canvas.alarm(_alarm_text(alert), ALERT_RGB)
    return canvas.image


def _corners(box_xywh: Iterable[float]) -> list[float]:
    x, y, w, h = (float(value) for value in box_xywh)
    return [x, y, x + w, y + h]


def _draw_zones(
    canvas: Canvas, zones: Mapping[str, NDArray[Any]], alerted: str | None, target: list[float] | None
) -> None:
    for name, points in zones.items():
        red = name == alerted
        points = np.asarray(points, dtype=np.float64)
        colour, opacity = (ALERT_RGB, "alerted zone") if red else (ZONE_RGB, "zone")
        canvas.polygon(points, colour, _OPACITY[opacity])
        canvas.name_area(name, points, WHITE if red else ZONE_RGB, target)


def _draw_plate(canvas: Canvas, said: Mapping[str, Any]) -> None:
    plate, reading = said.get("plate") or {}, reading_of(said)
    if plate.get("present") and plate.get("bbox"):
        canvas.box(plate["bbox"], PLATE_RGB)
        if reading is not None and reading["text"]:
            canvas.tag(reading["text"], plate["bbox"], PLATE_RGB, below=True)


def reading_of(said: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the plate says: the reading fused over the frames so far, else this frame's; or None."""
    ocr = said.get("ocr")
    if not isinstance(ocr, dict):
        return None
    fused = ocr.get("fused")
    return fused if isinstance(fused, dict) and fused.get("text") else ocr


def clock(seconds: float) -> str:
    """Return seconds as 1:05, or 2:03:00 beyond an hour."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _alarm_text(alert: Mapping[str, Any]) -> str:
    where = f" in {alert['zone']}" if alert.get("zone") else ""
    return f"ALERT  stopped {clock(alert.get('stopped') or 0.0)}{where}"


def describe(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a frame's line of `.tasks.jsonl` says as rows of a name and words.

    Heads that are unknown here are told by the `name` of their answer.
    """
    known = {
        "cls": ("scene", _condition),
        "seg": ("mask", _mask),
        "plate": ("plate", _plate),
        "ocr": ("text", _text),
        "alert": ("stop", _stop),
    }
    rows = []
    for task in [*known, *(task for task in said if task not in known)]:
        title, words = known.get(task, (task, _condition))
        answer = said.get(task)
        if isinstance(answer, dict) and (text := words(answer)):
            rows.append((title, text))
    return rows


def _sure(answer: Mapping[str, Any]) -> str:
    confidence = answer.get("confidence")
    return f"  {confidence:.2f}" if isinstance(confidence, float) else ""


def _condition(answer: Mapping[str, Any]) -> str:
    if "name" not in answer:
        return ""
    return (", ".join(answer.get("flags") or ()) or str(answer["name"])) + _sure(answer)


def _plate(answer: Mapping[str, Any]) -> str:
    return ("seen" if answer.get("present") else "none") + _sure(answer)


def _text(answer: Mapping[str, Any]) -> str:
    reading = reading_of({"ocr": answer}) or {}
    if not reading.get("text"):
        return "none"
    frames = reading.get("frames")
    return f"{reading['text']}{_sure(reading)}" + (f"  of {frames} frames" if frames else "")


def _stop(answer: Mapping[str, Any]) -> str:
    where = f"  {answer['zone']} {answer.get('overlap') or 0.0:.2f}" if answer.get("zone") else ""
    return clock(answer.get("stopped") or 0.0) + where


def _mask(answer: Mapping[str, Any]) -> str:
    return f"{answer.get('area', 0):.0f} px{_sure(answer)}"


def write_overlay(sequence: Sequence, folder: ResultFolder, path: Path, fps: float = 30.0) -> Path:
    """Write a video of one sequence with its results and, where known, the true boxes and the zones.

    Args:
        sequence: the frames; their time stamps give the video's rate.
        folder: where its results are.
        path: the video.
        fps: frames a second of a sequence without time stamps.

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
    with VideoWriter(path, (width, height), sequence.rate or fps) as video:
        for index, frame in enumerate(sequence.frames):
            number = sequence.first_frame + index
            truth = sequence.boxes_xywh[index] - sequence.shift if sequence.scorable else None
            title = f"{sequence.name}  {number}" + time_text(sequence.timestamps, index)
            box = boxes[index] - sequence.shift
            video.write(draw(read_rgb(frame), box, truth, said.get(number), sequence.zones, title))
    return path


def time_text(timestamps: NDArray[Any] | None, index: int) -> str:
    """Return a frame's time for the picture, "" where there is none."""
    return "" if timestamps is None else f"  {timestamps[index]:.2f} s"
