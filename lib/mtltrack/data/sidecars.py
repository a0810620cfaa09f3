"""The JSONL files that label the frames of a data set: <CLS_ANN_DIR>/<sequence>/<sequence>.jsonl.

One JSON object a line, one line a frame, see docs/data.md. A frame without a line is unlabelled. This module
reads a file and checks each line for itself; `sidecar_checks` compares lines with each other and with the
sequence, `labelled` joins them to a data set.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mtltrack.core.conditions import conditions
from mtltrack.core.errors import DataError

GROUPS = ("cv_response", "vlm_response")
KNOWN_KEYS = (
    "sequence_name",
    "frame_id",
    "frame_file",
    "ground_truth_bbox",
    *GROUPS,
    "timestamp",
    "mask",
    "plate",
    "alert",
)
"""The keys of a line; `frame_file` is for people."""
WHOLE_FILE = 0
"""In the place of a frame's number: nobody can tell which frame is meant."""
_FRAME_ID = re.compile(r'"frame_id"\s*:\s*(\d{1,9})\s*[,}]')


@dataclass
class SidecarFile:
    """What a file says, by frame number (counted from 1).

    Attributes:
        flags: (10,) bool, for the frames with condition flags; False where a flag isn't known.
        unknown: (10,) bool, which flags aren't known; only for frames that have such.
        timestamps: seconds.
        masks: COCO run-length object or relative PNG path.
        plates: {"bbox": (x1, y1, x2, y2) or None, "text": str or None}.
        alerts: 0 or 1.
        boxes: [x1, y1, x2, y2], of the frames whose line has one with an area.
        lines: number of the frame's line, from 1.
        names: each `sequence_name` -> number of the first line that has it.
        other_keys: each key that isn't read -> number of the first line that has it.
        broken: what is wrong with the frame's line, beginning with file and line; its labels can't be used.
    """

    flags: dict[int, np.ndarray] = field(default_factory=dict)
    unknown: dict[int, np.ndarray] = field(default_factory=dict)
    timestamps: dict[int, float] = field(default_factory=dict)
    masks: dict[int, Any] = field(default_factory=dict)
    plates: dict[int, dict[str, Any]] = field(default_factory=dict)
    alerts: dict[int, int] = field(default_factory=dict)
    boxes: dict[int, list[float]] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    other_keys: dict[str, int] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)


def _number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
    except OverflowError:  # a whole number beyond what a float holds
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"wanted a finite number, found {value!r}")
    return number


def _box(value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError(f"wanted four numbers x1, y1, x2, y2, found {value!r}")
    box = [_number(item) for item in value]
    if box[2] < box[0] or box[3] < box[1]:
        raise ValueError(f"wanted x2 >= x1 and y2 >= y1, found {value!r}")
    return box


def _truth(value: Any) -> list[float]:
    """Return the box of the frame; [] where it has no area, as files write it for an absent target."""
    if isinstance(value, list) and any(isinstance(item, float) and math.isnan(item) for item in value):
        return []
    box = _box(value)
    return box if box[2] > box[0] and box[3] > box[1] else []


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"wanted a string, found {value!r}")
    return value


def _mask(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, Mapping) and {"size", "counts"} <= value.keys()):
        return value
    raise ValueError(f"wanted a PNG path or a COCO run-length object with size and counts, found {value!r}")


def _plate(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or "bbox" not in value:
        raise ValueError(f"wanted an object with bbox (or null) and text, found {value!r}")
    text = value.get("text")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"wanted a string as text, found {text!r}")
    box = None if value["bbox"] is None else _box(value["bbox"])
    if box is not None and (box[2] == box[0] or box[3] == box[1]):
        raise ValueError(f"wanted a bbox with an area, or null for no plate, found {value['bbox']!r}")
    if box is None and text is not None:
        raise ValueError(f"has the text {text!r}, but bbox null says that no plate can be seen")
    return {"bbox": None if box is None else tuple(box), "text": text}


def _alert(value: Any) -> int:
    if value not in (0, 1):
        raise ValueError(f"wanted 0 or 1, found {value!r}")
    return int(value)


def _flag(line: Mapping[str, Any], group: str, key: str) -> bool | None:
    """Return a flag; None where the file says null: not known."""
    entry = line[group].get(key) if isinstance(line[group], Mapping) else None
    if isinstance(entry, Mapping) and "flag" in entry and entry["flag"] is None:
        return None
    flag = entry.get("flag") if isinstance(entry, Mapping) else None
    if flag not in (0, 1):
        raise ValueError(f"{group}.{key}.flag: wanted true, false or null (not known), found {entry!r}")
    return bool(flag)


def _flags(line: Mapping[str, Any]) -> list[bool | None]:
    """Return the ten flags; [] when the line has no condition flags at all."""
    present = [group for group in GROUPS if line.get(group) is not None]
    if not present:
        return []
    if len(present) == 1:
        raise ValueError(f"has {present[0]} alone; the flags need both {' and '.join(GROUPS)}")
    return [_flag(line, row.group, row.key) if row.group else False for row in conditions()]


def _frame_id(line: Any) -> int:
    if not isinstance(line, Mapping):
        raise ValueError("wanted a JSON object")
    frame = line.get("frame_id")
    if isinstance(frame, bool) or not isinstance(frame, int) or frame < 1:
        raise ValueError(f"frame_id: wanted a whole number from 1 on, found {frame!r}")
    return frame


def _read_line(text: str, number: int, content: SidecarFile) -> tuple[int | None, list[str]]:
    """Add a line to the content; return its frame, if that can be read, and what is wrong with it."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        written = _FRAME_ID.search(text)  # of a line that was cut
        return (int(written[1]) or None) if written else None, [str(error)]
    try:
        frame = _frame_id(line)
    except ValueError as error:
        return None, [str(error)]
    if frame in content.lines:
        return frame, [f"frame_id {frame} has been on line {content.lines[frame]} already"]
    content.lines[frame] = number
    for key in line:
        if key not in KNOWN_KEYS:
            content.other_keys.setdefault(key, number)
    faults: list[str] = []
    for key, check, table in _tables(content):
        if line.get(key) is not None:
            try:
                table[frame] = check(line[key])
            except ValueError as error:
                faults.append(f"{key}: {error}")
    try:
        if line.get("sequence_name") is not None:
            content.names.setdefault(_name(line["sequence_name"]), number)
    except ValueError as error:
        faults.append(f"sequence_name: {error}")
    try:
        _add_flags(frame, _flags(line), content)
    except ValueError as error:
        faults.append(str(error))
    return frame, faults


def _tables(content: SidecarFile) -> list[tuple[str, Callable[[Any], Any], dict[int, Any]]]:
    """Return the keys that a line may have: name, check, and where its value goes."""
    return [
        ("timestamp", _number, content.timestamps),
        ("mask", _mask, content.masks),
        ("plate", _plate, content.plates),
        ("alert", _alert, content.alerts),
        ("ground_truth_bbox", _truth, content.boxes),
    ]


def _add_flags(frame: int, flags: list[bool | None], content: SidecarFile) -> None:
    if flags:
        content.flags[frame] = np.array([bool(flag) for flag in flags])
    if None in flags:
        content.unknown[frame] = np.array([flag is None for flag in flags])


def parse_sidecar(path: str | Path) -> tuple[SidecarFile, list[str]]:
    """Read one file, as far as it can be read.

    Returns:
        What it says, and what is wrong with it: one message a fault, beginning with file and line.
    """
    content = SidecarFile()
    try:
        # by line ends alone: splitlines() also splits at characters that a JSON string may hold
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        return content, [f"{path}: the labels can't be read ({error})."]
    faults: list[str] = []
    frames: list[int | None] = []  # of the lines that aren't empty
    astray: list[tuple[int, str]] = []  # place in `frames`, fault
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        frame, found = _read_line(text, number, content)
        messages = [f"{path}:{number}: {fault}. Correct the line (format: docs/data.md)." for fault in found]
        faults += messages
        if messages and frame is None:
            astray.append((len(frames), messages[0]))
        elif messages and frame is not None:
            content.broken.setdefault(frame, messages[0])
        frames.append(frame)
    for place, message in astray:
        content.broken.setdefault(_frame_between(frames, place), message)
    return content, faults


def _frame_between(frames: list[int | None], place: int) -> int:
    """Return the frame of a line that doesn't say it, by its neighbours; WHOLE_FILE if they leave it open."""
    before = frames[place - 1] if place else 0
    if before is None:
        return WHOLE_FILE
    if place + 1 == len(frames):
        return before + 1
    return before + 1 if frames[place + 1] == before + 2 else WHOLE_FILE


def read_sidecar(path: str | Path) -> SidecarFile:
    """Read one file.

    Raises:
        DataError: a line doesn't parse or holds something else than wanted; names file and line.
    """
    content, faults = parse_sidecar(path)
    if faults:
        raise DataError(faults[0])
    return content


def read_usable_lines(path: str | Path) -> SidecarFile:
    """Read one file for training, where a frame can be left out: lines with a fault are in its `broken`.

    Raises:
        DataError: the file can't be read, or it can't be told which frame a line with a fault is of; names
            file and line.
    """
    content, faults = parse_sidecar(path)
    if faults and (not content.broken or WHOLE_FILE in content.broken):
        raise DataError(content.broken.get(WHOLE_FILE, faults[0]))
    return content
