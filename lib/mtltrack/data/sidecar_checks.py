"""Do the lines of a side-car file agree with each other, and with the sequence of the file's name?

By the name, the frames and the boxes that a file holds it is told whether it belongs to the sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.data.sequences import SequenceInfo

if TYPE_CHECKING:
    from mtltrack.data.sidecars import SidecarFile

COMPARED = 7
"""Frames on which a file's boxes are compared with the data set's."""
LEAST_IOU = 0.5


def sidecar_name(sequence: str) -> str:
    """Return the name of a sequence's folder and file: slashes, as in ImageNet VID, become underscores."""
    return sequence.replace("/", "_")


def timestamp_faults(content: SidecarFile, path: Path) -> list[str]:
    """Return a message for each time stamp that isn't later than the one before, by frame number."""
    times = content.timestamps
    return [
        f"{path}:{content.lines[frame]}: timestamp {times[frame]:g} of frame {frame} isn't later than "
        f"{times[before]:g} of frame {before}. Time stamps are seconds that increase: correct the line."
        for before, frame in pairwise(sorted(times))
        if times[frame] <= times[before]
    ]


def alert_faults(content: SidecarFile, zones: Mapping[str, Any], path: Path) -> list[str]:
    """Return a message for the first alert of a sequence without zones: there is nothing to stand in."""
    alerts = [frame for frame, alert in sorted(content.alerts.items()) if alert]
    if zones or not alerts:
        return []
    return [
        f"{path}:{content.lines[alerts[0]]}: alert is 1, but the sequence has no zone to stand in. Write "
        f"{path.parent / 'zones.json'} (docs/data.md), or take the alerts out."
    ]


def check_belongs(info: SequenceInfo, content: SidecarFile, path: Path) -> None:
    """Raise DataError when a file speaks of another sequence: by name, by frames or by boxes."""
    for name, line in content.names.items():
        if sidecar_name(name) != sidecar_name(info.name):
            raise DataError(
                f"{path}:{line}: sequence_name is '{name}', but the file stands for the sequence "
                f"'{info.name}'. Put the file where its own sequence is looked for, or correct the name."
            )
    last = max(content.lines, default=0)
    if info.whole_length is not None and last > info.whole_length:
        raise DataError(
            f"{path}:{content.lines[last]}: frame_id {last} is beyond the sequence '{info.name}', which has "
            f"{info.whole_length} frames. Correct the line, or CLS_ANN_DIR if these are another sequence's "
            "labels."
        )
    _check_boxes(info, content, path)


def _check_boxes(info: SequenceInfo, content: SidecarFile, path: Path) -> None:
    frames = sorted(frame for frame, box in content.boxes.items() if box and _has_box(info, frame))
    places = {round(place) for place in np.linspace(0, len(frames) - 1, COMPARED)} if frames else set()
    apart: list[int] = []
    for frame in (frames[place] for place in sorted(places)):
        if _tolerant_iou(content.boxes[frame], info.boxes_xywh[frame - info.first_frame]) <= LEAST_IOU:
            apart.append(frame)
    if not apart or 2 * len(apart) < len(places):
        return
    frame = apart[0]
    x, y, w, h = (float(value) for value in info.boxes_xywh[frame - info.first_frame])
    target = [round(value, 2) for value in (x, y, x + w, y + h)]
    raise DataError(
        f"{path}:{content.lines[frame]}: ground_truth_bbox {content.boxes[frame]} of frame {frame} isn't the "
        f"target of '{info.name}' at {target}: so on {len(apart)} of {len(places)} frames compared. Wanted "
        "x1, y1, x2, y2 in pixels. If these are labels of another sequence of that name, correct CLS_ANN_DIR."
    )


def _has_box(info: SequenceInfo, frame: int) -> bool:
    k = frame - info.first_frame
    return 0 <= k < info.num_frames and bool(info.visible[k]) and k not in info.faults


def _tolerant_iou(box_xyxy: list[float], other_xywh: np.ndarray) -> float:
    """Return the best IoU that counting pixels from 0 or 1, to the last or beyond it, can explain."""
    import torch  # the other checks need neither: who reads time stamps alone doesn't wait for them
    from torchvision.ops import box_convert, box_iou

    shifts = np.array([[s, s, s + d, s + d] for s in (-1, 0, 1) for d in (-1, 0, 1)], dtype=np.float64)
    boxes = torch.from_numpy(np.array(box_xyxy) + shifts)  # (9, 4)
    other = torch.from_numpy(other_xywh.copy())[None]
    return float(box_iou(boxes, box_convert(other, "xywh", "xyxy")).nan_to_num(0).max())
