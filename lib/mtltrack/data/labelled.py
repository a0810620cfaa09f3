"""A data set joined with the files that label its frames (CLS_ANN_DIR, see `sidecars`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtltrack.core.conditions import conditions
from mtltrack.core.errors import DataError
from mtltrack.core.rle import decode_mask, decode_png
from mtltrack.core.zones import read_zones
from mtltrack.data.labels import condition_labels
from mtltrack.data.recent import Recent
from mtltrack.data.sequences import (
    FrameLabels,
    PlateLabel,
    SequenceDataset,
    SequenceInfo,
    encoded_image,
)
from mtltrack.data.sidecar_checks import alert_faults, check_belongs, sidecar_name, timestamp_faults
from mtltrack.data.sidecars import SidecarFile, read_usable_lines

ZONES_FILE = "zones.json"


class _Joined(NamedTuple):
    info: SequenceInfo
    masks: Mapping[int, Any]  # by frame from 0, of the frames whose line has one


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
                f"of {self.name}; wanted for example {sidecar_path(self.folder, dataset.sequence_name(0))}."
            )
        self._known: Recent[_Joined] = Recent()

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

    def encoded(self, i: int, frame: int) -> tuple[bytes, str] | None:
        """Return the file of a frame and its name, where the data set has it."""
        return encoded_image(self.dataset, i, frame)

    def sequence(self, i: int) -> SequenceInfo:
        """Return what the data set and the labels say of sequence `i`."""
        return self._known.get(i, self._join).info

    def mask(self, i: int, frame: int) -> np.ndarray:
        """Return the target's mask (H, W) uint8: that of the labels, or else the data set's own."""
        joined = self._known.get(i, self._join)
        if frame not in joined.masks:
            return self.dataset.mask(i, frame)
        path = sidecar_path(self.folder, joined.info.name)
        return read_mask(joined.masks[frame], path.parent, joined.info.mask_where[frame])

    def _join(self, i: int) -> _Joined:
        info = self.dataset.sequence(i)
        path = sidecar_path(self.folder, info.name)
        if not path.is_file():
            return _Joined(info, {})
        content = read_usable_lines(path)
        return _Joined(join_labels(info, content, path), _of_sequence(content.masks, info))


def sidecar_path(folder: Path, sequence: str) -> Path:
    """Return where the labels of a sequence are looked for."""
    name = sidecar_name(sequence)
    return folder / name / f"{name}.jsonl"


def labelled_names(dataset: SequenceDataset, folder: Path) -> set[str]:
    """Return the names of those sequences of a data set that the folder has a file for.

    Raises:
        DataError: the folder doesn't exist.
    """
    if not folder.is_dir():
        raise DataError(f"CLS_ANN_DIR: the folder {folder} doesn't exist. Correct it in the YAML.")
    files = {entry.name for entry in folder.iterdir() if sidecar_path(folder, entry.name).is_file()}
    names = (sidecar_name(dataset.sequence_name(i)) for i in range(dataset.num_sequences))
    return {name for name in names if name in files}


def read_mask(entry: str | Mapping[str, Any], folder: Path, where: str) -> np.ndarray:
    """Return the mask (H, W) uint8 that a line gives.

    Args:
        entry: a COCO run-length object, or the path of a PNG relative to the labels' file.
        folder: of the labels' file.
        where: file and line, for messages.

    Raises:
        DataError: there is no such file, or the mask is broken.
    """
    if not isinstance(entry, str):
        return decode_mask(entry, where)
    try:
        data = (folder / entry).read_bytes()
    except OSError as error:
        raise DataError(
            f"{where}: can't read the mask {folder / entry} ({error.strerror or error}). Correct the path, "
            "which is relative to the file of the labels, or restore the mask."
        ) from error
    return decode_png(data, f"{where}: {folder / entry}")


def join_labels(info: SequenceInfo, content: SidecarFile, path: Path) -> SequenceInfo:
    """Return the sequence with a file's labels; lines about frames outside of its range are left out.

    What a line says of a frame goes before what the data set says of it.

    Raises:
        DataError: the file speaks of another sequence, its time stamps don't increase or lack for some
            frames, an alert has no zone, or a zone is no polygon.
    """
    check_belongs(info, content, path)
    zones_path = path.parent / ZONES_FILE
    zones = read_zones(zones_path) if zones_path.is_file() else info.zones
    for fault in (*timestamp_faults(content, path), *alert_faults(content, zones, path)):
        raise DataError(fault)
    broken = _of_sequence(content.broken, info)
    timestamps = _timestamps(content, info, path)
    where = {frame: f"{path}:{line}" for frame, line in _of_sequence(content.lines, info).items()}
    plates = {
        frame: PlateLabel(
            None if plate["bbox"] is None else tuple(plate["bbox"]), plate["text"], where[frame]
        )
        for frame, plate in _of_sequence(content.plates, info).items()
    }
    masks = _of_sequence(content.masks, info)
    return replace(
        info,
        labels=_conditions(content, info),
        timestamps=info.timestamps if timestamps is None else timestamps,
        plates={**info.plates, **plates},
        masked=_masked(info, list(masks)),
        mask_where={**info.mask_where, **{frame: where[frame] for frame in masks}},
        alerts={**info.alerts, **{k: bool(alert) for k, alert in _of_sequence(content.alerts, info).items()}},
        zones=zones,
        stopped=info.stopped if timestamps is None else None,
        has_text=info.has_text or any(plate.text for plate in plates.values()),
        faults={**info.faults, **broken},
    )


def _of_sequence(table: Mapping[int, Any], info: SequenceInfo) -> dict[int, Any]:
    """Return a file's table for the frames of a sequence, by frame from 0."""
    shifted = ((frame - info.first_frame, value) for frame, value in table.items())
    return {frame: value for frame, value in shifted if 0 <= frame < info.num_frames}


def _conditions(content: SidecarFile, info: SequenceInfo) -> FrameLabels:
    flags, unknown = np.zeros((2, info.num_frames, len(conditions())), dtype=bool)
    valid = np.zeros(info.num_frames, dtype=bool)
    for frame, row in _of_sequence(content.flags, info).items():
        flags[frame], valid[frame] = row, True
    for frame, row in _of_sequence(content.unknown, info).items():
        unknown[frame] = row
    return {**info.labels, "cls": condition_labels(flags, valid, ~unknown)} if valid.any() else info.labels


def _masked(info: SequenceInfo, frames: list[int]) -> np.ndarray | None:
    if not frames:
        return info.masked
    masked = np.zeros(info.num_frames, dtype=bool) if info.masked is None else info.masked.copy()
    masked[frames] = True
    return masked


def _timestamps(content: SidecarFile, info: SequenceInfo, path: Path) -> np.ndarray | None:
    table = _of_sequence(content.timestamps, info)
    if not table:
        return None
    known = {*table, *_of_sequence(content.broken, info)}
    lacking = [frame for frame in range(info.num_frames) if frame not in known]
    if lacking and content.broken:  # likely the frame that a broken line was to be of
        raise DataError(next(iter(content.broken.values())))
    if lacking:
        frame = lacking[0] + info.first_frame
        line = f":{content.lines[frame]}" if frame in content.lines else ""
        raise DataError(
            f"{path}{line}: frame {frame} has no timestamp, but others have. Give every frame one, or none."
        )
    return _completed(table, info.num_frames)


def _completed(table: Mapping[int, float], frames: int) -> np.ndarray:
    """Return (F,) seconds; those of frames without one, whose lines are broken, between their neighbours'."""
    given = sorted(table)
    steps = np.diff([table[frame] for frame in given]) / np.diff(given)
    step = float(np.median(steps)) if len(steps) else 1.0
    first, last = given[0], given[-1]
    ends = {-1: table[first] - (first + 1) * step, frames: table[last] + (frames - last) * step}
    numbers = [-1, *given, frames]
    return np.interp(np.arange(frames), numbers, [ends[-1], *(table[k] for k in given), ends[frames]])
