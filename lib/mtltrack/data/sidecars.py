"""The JSONL files beside a data set that label its frames: <CLS_ANN_DIR>/<sequence>/<sequence>.jsonl.

One JSON object a line, one line a frame, see docs/data.md. A frame without a line is unlabelled. That a file
belongs to the sequence of its name is checked by what else it says: the name, the frames and their boxes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtltrack.core.conditions import conditions
from mtltrack.core.errors import DataError
from mtltrack.data.labels import condition_labels
from mtltrack.data.recent import Recent
from mtltrack.data.sequences import SequenceDataset, SequenceInfo
from mtltrack.data.sidecar_checks import check_belongs, sidecar_name

GROUPS = ("cv_response", "vlm_response")


@dataclass
class SidecarFile:
    """What a file says, by frame number (counted from 1).

    Attributes:
        flags: (10,) bool, for the frames with condition flags.
        timestamps: seconds.
        masks: COCO run-length object or relative PNG path.
        plates: {"bbox": [x1, y1, x2, y2] or None, "text": str or None}.
        alerts: 0 or 1.
        boxes: [x1, y1, x2, y2], of the frames whose line has one with an area.
        lines: number of the frame's line, from 1.
        names: each `sequence_name` -> number of the first line that has it.
    """

    flags: dict[int, np.ndarray] = field(default_factory=dict)
    timestamps: dict[int, float] = field(default_factory=dict)
    masks: dict[int, Any] = field(default_factory=dict)
    plates: dict[int, dict[str, Any]] = field(default_factory=dict)
    alerts: dict[int, int] = field(default_factory=dict)
    boxes: dict[int, list[float]] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"wanted a finite number, found {value!r}")
    return float(value)


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
    return {"bbox": None if value["bbox"] is None else _box(value["bbox"]), "text": text}


def _alert(value: Any) -> int:
    if value not in (0, 1):
        raise ValueError(f"wanted 0 or 1, found {value!r}")
    return int(value)


def _flag(line: Mapping[str, Any], group: str, key: str) -> bool:
    entry = line[group].get(key) if isinstance(line[group], Mapping) else None
    flag = entry.get("flag") if isinstance(entry, Mapping) else None
    if flag not in (0, 1):
        raise ValueError(f"{group}.{key}.flag: wanted true or false, found {entry!r}")
    return bool(flag)


def _flags(line: Mapping[str, Any]) -> np.ndarray | None:
    """Return (10,) flags; None when the line has no condition flags at all."""
    present = [group for group in GROUPS if line.get(group) is not None]
    if not present:
        return None
    if len(present) == 1:
        raise ValueError(f"has {present[0]} alone; the flags need both {' and '.join(GROUPS)}")
    return np.array([bool(row.group) and _flag(line, row.group, row.key) for row in conditions()])


def _frame_id(line: Any) -> int:
    if not isinstance(line, Mapping):
        raise ValueError("wanted a JSON object")
    frame = line.get("frame_id")
    if isinstance(frame, bool) or not isinstance(frame, int) or frame < 1:
        raise ValueError(f"frame_id: wanted a whole number from 1 on, found {frame!r}")
    return frame


def _read_line(line: Any, number: int, content: SidecarFile) -> None:
    frame = _frame_id(line)
    if frame in content.lines:
        raise ValueError(f"frame_id {frame} has been on line {content.lines[frame]} already")
    content.lines[frame] = number
    optional: list[tuple[str, Callable[[Any], Any], dict[int, Any]]] = [
        ("timestamp", _number, content.timestamps),
        ("mask", _mask, content.masks),
        ("plate", _plate, content.plates),
        ("alert", _alert, content.alerts),
        ("ground_truth_bbox", _truth, content.boxes),
    ]
    for key, check, table in optional:
        if line.get(key) is not None:
            table[frame] = _checked(line, key, check)
    if line.get("sequence_name") is not None:
        content.names.setdefault(_checked(line, "sequence_name", _name), number)
    flags = _flags(line)
    if flags is not None:
        content.flags[frame] = flags


def _checked(line: Mapping[str, Any], key: str, check: Callable[[Any], Any]) -> Any:
    try:
        return check(line[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def read_sidecar(path: str | Path) -> SidecarFile:
    """Read one file.

    Raises:
        DataError: a line doesn't parse or holds something else than wanted; names file and line.
    """
    content = SidecarFile()
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't read the labels {path} ({error}).") from error
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            _read_line(json.loads(text), number, content)
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}. Correct the line (format: docs/data.md).") from error
    return content


class LabelledSequences:
    """A data set joined with side-car labels; sequences without a file stay as they are.

    Args:
        dataset: where boxes and images come from.
        folder: CLS_ANN_DIR.

    Raises:
        DataError: the folder doesn't exist or has no file for any sequence.
    """

    def __init__(self, dataset: SequenceDataset, folder: str | Path) -> None:
        self.dataset = dataset
        self.name = dataset.name
        self.folder = Path(folder)
        self.num_labelled = len(labelled_names(dataset, self.folder))
        if self.num_labelled == 0:
            raise DataError(
                f"CLS_ANN_DIR: {self.folder} has no labels for any of the {self.num_sequences} sequences "
                f"of {self.name}; wanted for example {_file(self.folder, dataset.sequence_name(0))}."
            )
        self._known: Recent[SequenceInfo] = Recent()

    @property
    def num_sequences(self) -> int:
        """How many sequences there are."""
        return self.dataset.num_sequences

    def sequence_name(self, i: int) -> str:
        """Return the name of sequence `i`."""
        return self.dataset.sequence_name(i)

    def image(self, i: int, frame: int) -> np.ndarray:
        """Return frame `frame` (from 0) of sequence `i` as (H, W, 3) uint8 RGB."""
        return self.dataset.image(i, frame)

    def sequence(self, i: int) -> SequenceInfo:
        """Return what the data set and the labels say of sequence `i`."""
        return self._known.get(i, self._join)

    def _join(self, i: int) -> SequenceInfo:
        info = self.dataset.sequence(i)
        path = _file(self.folder, info.name)
        return join_labels(info, read_sidecar(path), path) if path.is_file() else info


def _file(folder: Path, sequence: str) -> Path:
    name = sidecar_name(sequence)
    return folder / name / f"{name}.jsonl"


def labelled_names(dataset: SequenceDataset, folder: Path) -> set[str]:
    """Return the names of those sequences of a data set that the folder has a file for.

    Raises:
        DataError: the folder doesn't exist.
    """
    if not folder.is_dir():
        raise DataError(f"CLS_ANN_DIR: the folder {folder} doesn't exist. Correct it in the YAML.")
    files = {entry.name for entry in folder.iterdir() if _file(folder, entry.name).is_file()}
    names = (sidecar_name(dataset.sequence_name(i)) for i in range(dataset.num_sequences))
    return {name for name in names if name in files}


def join_labels(info: SequenceInfo, content: SidecarFile, path: Path) -> SequenceInfo:
    """Return the sequence with a file's labels; lines about frames outside of its range are left out.

    Raises:
        DataError: the file speaks of another sequence, or some frames have time stamps and some have none.
    """
    check_belongs(info, content, path)
    frames = range(info.first_frame, info.first_frame + info.num_frames)
    flags = np.zeros((info.num_frames, len(conditions())), dtype=bool)
    valid = np.zeros(info.num_frames, dtype=bool)
    for k, frame in enumerate(frames):
        if frame in content.flags:
            flags[k], valid[k] = content.flags[frame], True
    labels = {**info.labels, "cls": condition_labels(flags, valid)} if valid.any() else info.labels
    kept: dict[str, dict[int, Any]] = {
        name: {frame - info.first_frame: value for frame, value in table.items() if frame in frames}
        for name, table in (("mask", content.masks), ("plate", content.plates), ("alert", content.alerts))
    }
    return replace(
        info,
        labels=labels,
        timestamps=_timestamps(content.timestamps, frames, path, info.timestamps),
        annotations={**info.annotations, **{name: table for name, table in kept.items() if table}},
        has_text=info.has_text or any(plate["text"] for plate in kept["plate"].values()),
    )


def _timestamps(
    table: Mapping[int, float], frames: range, path: Path, present: np.ndarray | None
) -> np.ndarray | None:
    lacking = [frame for frame in frames if frame not in table]
    if len(lacking) == len(frames):
        return present
    if lacking:
        raise DataError(
            f"{path}: frame {lacking[0]} has no timestamp, but others have. Give every frame one, or none."
        )
    return np.array([table[frame] for frame in frames])
