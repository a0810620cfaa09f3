"""The sequences that precisions are compared on, with what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.core.rle import encode_mask
from mtltrack.data.datasets.davis import Davis
from mtltrack.data.datasets.folder import FolderSequences
from mtltrack.data.images import images_in
from mtltrack.data.sequences import SequenceInfo
from mtltrack.evaluation.benchmarks import FrameRanges, load_benchmark
from mtltrack.evaluation.benchmarks import Sequence as TestSequence
from mtltrack.evaluation.benchmarks.stored import file_in
from mtltrack.evaluation.labelled import LabelledResults, labelled_results
from mtltrack.evaluation.report import Truth
from mtltrack.evaluation.results import ResultFolder, read_tasks

RESOLUTION = "480p"  # of videos in DAVIS's layout


@dataclass
class Source:
    """One data set.

    Attributes:
        name: what tables call it.
        sequences: to track.
        infos: labels by sequence, where they don't lie beside the sequences as sidecar files.
        masks: sequence -> frame -> true mask, a COCO run-length object.
    """

    name: str
    sequences: Sequence[TestSequence]
    infos: Mapping[str, SequenceInfo] = field(default_factory=dict)
    masks: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)

    @cached_property
    def truths(self) -> list[Truth]:
        """The ground truth of the sequences."""
        return [Truth.of(item) for item in self.sequences]

    @property
    def frames(self) -> int:
        """Frames in all."""
        return sum(len(sequence) for sequence in self.sequences)

    def moved(self, pixels: float) -> list[TestSequence]:
        """Return the sequences with their first box moved to the right; the ground truth stays."""
        shift = np.array([pixels, 0.0, 0.0, 0.0])
        return [
            replace(item, boxes_xywh=np.vstack([item.boxes_xywh[:1] + shift, item.boxes_xywh[1:]]))
            for item in self.sequences
        ]

    def labelled(self, results: ResultFolder) -> list[LabelledResults]:
        """Return what the heads said beside the labels; nothing where there are no labels or no answers."""
        beside = [truth for truth in self.truths if truth.name not in self.infos]
        found = labelled_results(beside, results, None)
        for truth in self.truths:
            if truth.name in self.infos and results.tasks(truth.name).is_file():
                lines = read_tasks(results.tasks(truth.name))
                said = {line["frame"] - truth.first_frame: line for line in lines}
                boxes = results.read(truth.name) - truth.shift
                masks = self.masks.get(truth.name, {})
                found.append(LabelledResults(self.infos[truth.name], said, boxes, Path(), masks))
        return found


def read_source(dataset: str, ranges: FrameRanges, attributes: Path | None) -> Source:
    """Return the sequences of a benchmark, of a folder of sequences, or of videos in DAVIS's layout.

    Args:
        dataset: name of a benchmark, or a folder.
        ranges: sequence -> first and last frame, counted from 1; those of other data sets are left out.
        attributes: OTB's attributes of sequences, from which scene conditions follow, or None.

    Raises:
        DataError: there are no such sequences.
    """
    root = Path(dataset).expanduser()
    if (root / "JPEGImages" / RESOLUTION).is_dir():
        return _videos(root, ranges)
    benchmark = load_benchmark(dataset)
    names = {sequence.name for sequence in benchmark.sequences}
    chosen = benchmark.select(None, {name: ends for name, ends in ranges.items() if name in names})
    if any(not sequence.scorable for sequence in chosen.sequences):
        raise DataError(
            f"--dataset {dataset}: only first boxes are public, so there is nothing to compare with"
        )
    infos = {} if attributes is None else _conditions(root, chosen.sequences, attributes)
    return Source(root.name if root.is_dir() else dataset, chosen.sequences, infos)


def _conditions(root: Path, sequences: Sequence[TestSequence], attributes: Path) -> dict[str, SequenceInfo]:
    """Return the labels of scene conditions that follow from OTB's attributes."""
    ends = {item.name: (item.first_frame, item.first_frame + len(item) - 1) for item in sequences}
    data = FolderSequences(root, ranges=ends, conditions="otb", attributes=attributes)
    infos = [data.sequence(i) for i in range(data.num_sequences)]
    return {info.name: info for info in infos if info.labels}


def _videos(root: Path, ranges: FrameRanges) -> Source:
    videos = {path.name for path in (root / "JPEGImages" / RESOLUTION).iterdir()}
    own = {name: ends for name, ends in ranges.items() if name in videos}
    data = Davis(root, RESOLUTION, ranges=own or None)
    infos, masks, sequences = {}, {}, []
    for i in range(data.num_sequences):
        info = data.sequence(i)
        video = info.name if info.name in videos else info.name.rpartition("-")[0]
        images = images_in(data.store, f"JPEGImages/{RESOLUTION}/{video}")
        images = images[info.first_frame - 1 :][: info.num_frames]
        masked = np.flatnonzero(info.masked if info.masked is not None else [])
        infos[info.name] = info
        # the first frame is given
        masks[info.name] = {int(f): encode_mask(data.mask(i, int(f))) for f in masked if f > 0}
        sequences.append(
            TestSequence(
                info.name,
                tuple(file_in(data.store, image) for image in images),
                np.where(info.visible[:, None], info.boxes_xywh, 0.0),
                visible=info.visible,
                first_frame=info.first_frame,
                timestamps=info.times(),
            )
        )
    return Source(root.name, sequences, infos, masks)
