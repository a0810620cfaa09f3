"""What a tracker said of sequences beside what their labels say: the material of the tasks' scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.data.labelled import join_labels, read_mask, sidecar_path
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.sidecars import read_sidecar
from mtltrack.evaluation.report import Results, Truth
from mtltrack.evaluation.results import read_tasks


@dataclass(frozen=True)
class LabelledResults:
    """One sequence: answers and labels by frame, counted from 0 in the part that was scored.

    Attributes:
        info: the labels.
        said: frame -> the line of `.tasks.jsonl`, for the frames that have one.
        boxes_xywh: (F, 4) the tracker's boxes in 0-based pixels; NaN where a result is too short.
        folder: of the labels' file.
        masks: frame -> true mask as the file has it.
    """

    info: SequenceInfo
    said: Mapping[int, Mapping[str, Any]]
    boxes_xywh: NDArray[np.float64]
    folder: Path
    masks: Mapping[int, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.info.name

    def answers(self, task: str, labelled: Iterable[int]) -> dict[int, Mapping[str, Any]]:
        """Return frame -> answer of a task, for the labelled frames that have one, in order of time."""
        return {
            frame: self.said[frame][task]
            for frame in sorted(labelled)
            if isinstance(self.said.get(frame, {}).get(task), dict)
        }

    def mask(self, frame: int) -> NDArray[np.uint8]:
        """Return the true mask (H, W) of a frame of `masks`."""
        mask: NDArray[np.uint8] = read_mask(self.masks[frame], self.folder, self.info.mask_where[frame])
        return mask


def labelled_results(truths: Iterable[Truth], results: Results, labels: Path | None) -> list[LabelledResults]:
    """Return the sequences that have labels and answers of heads.

    Args:
        truths: the ground truth.
        results: the tracker's files.
        labels: holds `<seq>/<seq>.jsonl`; None for the sequences' own folders.

    Raises:
        DataError: a file can't be read, or the labels belong to another sequence.
    """
    found = []
    for truth in truths:
        path = labels_file(truth, labels)
        if path is not None and results.tasks(truth.name).is_file():
            found.append(_join(truth, results, path))
    return found


def labels_file(truth: Truth, labels: Path | None) -> Path | None:
    """Return the file of a sequence's labels, None where there is none."""
    if labels is not None:
        path = sidecar_path(labels, truth.name)
    elif truth.folder is not None:
        path = truth.folder / f"{truth.name}.jsonl"
    else:
        return None
    return path if path.is_file() else None


def _join(truth: Truth, results: Results, path: Path) -> LabelledResults:
    content = read_sidecar(path)
    first, frames = truth.first_frame, len(truth.boxes_xywh)
    boxes = truth.boxes_xywh - truth.shift
    present = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    visible = present if truth.visible is None else present & np.asarray(truth.visible, dtype=bool)
    info = SequenceInfo(truth.name, np.nan_to_num(boxes), visible, first_frame=first)
    info = join_labels(info, content, path)
    own = {frame - first: mask for frame, mask in content.masks.items() if 0 <= frame - first < frames}
    said = {}
    for line in read_tasks(results.tasks(truth.name)):
        if 0 <= line["frame"] - first < frames:
            said[line["frame"] - first] = line
    found = np.full((frames, 4), np.nan)
    predicted = results.read(truth.name)[:frames] - truth.shift
    found[: len(predicted)] = predicted
    return LabelledResults(info, said, found, path.parent, own)


def check_folder(labels: Path, option: str) -> Path:
    """Return the folder of labels; `DataError` names the option when there is none."""
    if not labels.is_dir():
        raise DataError(f"{option} '{labels}' is no folder; wanted <folder>/<sequence>/<sequence>.jsonl")
    return labels
