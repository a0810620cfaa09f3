"""Scores of trackers on a benchmark, from result files."""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.results import ResultFolder, parse_numbers, read_boxes
from mtltrack.metrics.got10k import GOT10kMetric
from mtltrack.metrics.success import OnePassEvaluation, Validity

Array = NDArray[np.float64]
Scores = dict[str, float]

COLUMNS = ("AUC", "OP50", "OP75", "Precision", "NormPrecision", "mIoU")
BASELINE = "first box held still"


@dataclass(frozen=True)
class Truth:
    """The ground truth of one sequence.

    Attributes:
        name: names the result file.
        boxes_xywh: (N, 4) pixels.
        visible: (N,) bool or None.
        cover: (N,) 0 to 8 or None.
        image: a frame, to know the image's size where the benchmark clips boxes; or None.
        first_frame: number of the first frame in the whole sequence, counted from 1.
        shift: (4,) what a box in 0-based pixels lacks to one of `boxes_xywh`.
        folder: of the sequence, where its labels are looked for; or None.
    """

    name: str
    boxes_xywh: Array
    visible: NDArray[np.bool_] | None = None
    cover: NDArray[np.int64] | None = None
    image: Path | None = None
    first_frame: int = 1
    shift: Array = field(default_factory=lambda: np.zeros(4))
    folder: Path | None = None

    def image_size(self) -> tuple[float, float] | None:
        """Return (width, height) in pixels, None without an image."""
        if self.image is None:
            return None
        from mtltrack.evaluation.runner import read_rgb

        height, width = read_rgb(self.image).shape[:2]
        return float(width), float(height)


@dataclass(frozen=True)
class Rules:
    """How to score; the defaults are those of the published analysis.

    Attributes:
        protocol: the benchmark whose rules hold.
        validity: see `mtltrack.metrics.success.sequence_errors`.
        exclude_invalid: divide by the valid frames only.
        invalid_counts_as_hit: False corrects the published treatment of frames without a target.
        allow_partial: score what there is: sequences that every tracker has, lengths made equal as published.
        ao: also score as GOT-10k does.
    """

    protocol: str = "otb"
    validity: Validity = "size"
    exclude_invalid: bool = False
    invalid_counts_as_hit: bool = True
    allow_partial: bool = False
    ao: bool = False

    def metric(self) -> OnePassEvaluation:
        """Return an empty accumulator."""
        return OnePassEvaluation(
            self.protocol, self.validity, self.exclude_invalid, self.invalid_counts_as_hit
        )


@dataclass
class TrackerReport:
    """One tracker's scores, fractions in [0, 1].

    Attributes:
        tracker: its name.
        mean: over sequences, each with the same weight (AO, SR50 and SR75: over frames).
        sequences: of each sequence.
        notes: what was left out.
    """

    tracker: str
    mean: Scores
    sequences: dict[str, Scores]
    notes: list[str] = field(default_factory=list)


def truths_of(benchmark: Benchmark) -> list[Truth]:
    """Return the ground truth of a benchmark.

    Raises:
        DataError: only the first boxes are public.
    """
    hidden = [sequence.name for sequence in benchmark.sequences if not sequence.scorable]
    if hidden:
        raise DataError(
            f"{benchmark.name} can't be scored here: only the first box of its sequences is public "
            f"({hidden[0]}, ...). Send the result files to its server"
        )
    return [
        Truth(
            item.name,
            item.boxes_xywh,
            item.visible,
            item.cover,
            item.frames[0],
            item.first_frame,
            item.shift,
            item.folder,
        )
        for item in benchmark.sequences
    ]


def truths_in(folder: Path) -> list[Truth]:
    """Return the ground truth of a folder of `<seq>.txt`, or of `<seq>/groundtruth*.txt`, without images."""
    from mtltrack.evaluation.benchmarks.reading import annotation_files

    if not folder.is_dir():
        raise DataError(f"--ground-truth '{folder}' is no folder")
    files = {path.stem: path for path in sorted(folder.glob("*.txt"))}
    if not files:
        for place in sorted(path for path in folder.iterdir() if path.is_dir()):
            found = annotation_files(place)
            files.update({place.name: found[0]} if len(found) == 1 else {})
    if not files:
        raise DataError(f"'{folder}' holds neither <seq>.txt nor <seq>/groundtruth.txt")
    return [Truth(name, read_boxes(path)) for name, path in files.items()]


def evaluate(
    truths: Items[Truth], trackers: dict[str, ResultFolder], rules: Rules, *, baseline: bool = False
) -> list[TrackerReport]:
    """Score trackers.

    Args:
        truths: the ground truth of the sequences.
        trackers: name -> folder of its result files.
        rules: how to score.
        baseline: also score a tracker that never moves the first box.

    Raises:
        DataError: results are missing or of another length than the ground truth and `rules.allow_partial` is
            off.
    """
    chosen, notes = _complete(truths, trackers, rules.allow_partial)
    reports = []
    for name, folder in trackers.items():
        predictions = {truth.name: _read(folder, truth, rules.allow_partial) for truth in chosen}
        report = _score(name, chosen, predictions, rules)
        report.notes.extend(notes)
        speeds = [_speed(folder, truth.name) for truth in chosen]
        report.mean["FPS"] = _mean([speed for speed in speeds if speed is not None])
        reports.append(report)
    if baseline:
        still = {
            truth.name: np.repeat(truth.boxes_xywh[:1], len(truth.boxes_xywh), axis=0) for truth in chosen
        }
        reports.append(_score(BASELINE, chosen, still, rules))
    return reports


def _complete(
    truths: Items[Truth], trackers: dict[str, ResultFolder], allow_partial: bool
) -> tuple[list[Truth], list[str]]:
    """Return the sequences that every tracker has results of, and notes about the others."""
    notes, lacking = [], set()
    for tracker, folder in trackers.items():
        missing = [truth.name for truth in truths if not folder.boxes(truth.name).is_file()]
        if missing:
            listed = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            share = f"{len(missing)} of {len(truths)} sequences"
            text = f"{tracker} has no results for {share} ({listed}) in {folder.path}"
            if not allow_partial:
                raise DataError(f"{text}; --allow-partial scores the sequences that every tracker has")
            notes.append(f"{text}: left out for every tracker")
            lacking.update(missing)
    chosen = [truth for truth in truths if truth.name not in lacking]
    if not chosen:
        raise DataError(f"no sequence has results of every tracker ({', '.join(trackers)})")
    return chosen, notes


def _read(folder: ResultFolder, truth: Truth, allow_partial: bool) -> Array:
    path = folder.boxes(truth.name)
    boxes = read_boxes(path)
    if len(boxes) != len(truth.boxes_xywh) and not allow_partial:
        raise DataError(
            f"'{path}' holds {len(boxes)} boxes, the ground truth of '{truth.name}' {len(truth.boxes_xywh)}. "
            "Was another range of frames tested (--frames)? --allow-partial cuts a longer result and pads "
            "a shorter one"
        )
    return boxes


def _speed(folder: ResultFolder, sequence: str) -> float | None:
    path = folder.times(sequence)
    if not path.is_file():
        return None
    seconds = parse_numbers(path, 1)[1:, 0]  # the first frame only starts the tracker
    return float(len(seconds) / seconds.sum()) if seconds.sum() > 0 else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _score(name: str, truths: list[Truth], predictions: dict[str, Array], rules: Rules) -> TrackerReport:
    metric, overlap = rules.metric(), GOT10kMetric()
    rows: dict[str, Scores] = {}
    for truth in truths:
        boxes = predictions[truth.name]
        try:
            rows[truth.name] = metric.update(boxes, truth.boxes_xywh, truth.visible)
            if rules.ao:
                scores = overlap.update(boxes, truth.boxes_xywh, truth.cover, truth.image_size())
                rows[truth.name] |= _renamed(scores)
        except DataError as error:
            raise DataError(f"{name}, sequence '{truth.name}': {error}") from error
    mean = metric.compute() | (_renamed(overlap.compute()) if rules.ao else {})
    return TrackerReport(name, mean, rows)


def _renamed(scores: Scores) -> Scores:
    return {"AO": scores["ao"], "SR50": scores["sr"], "SR75": scores["sr75"]}
