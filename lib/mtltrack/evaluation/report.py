"""Scores of trackers on a benchmark, from result files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks.sequence import Benchmark, Sequence
from mtltrack.evaluation.benchmarks.stored import Frame
from mtltrack.metrics.batch import score_all
from mtltrack.metrics.got10k import Size, score_all_got10k
from mtltrack.metrics.preparation import Validity, check_predictions, match_length, protocol_for
from mtltrack.metrics.robustness import Failures, find_failures
from mtltrack.metrics.success import Curves, SequenceErrors, sequence_errors
from mtltrack.metrics.trackingnet import score_all_trackingnet

Array = NDArray[np.float64]
Scores = dict[str, float]

BASELINE = "first box held still"
MOST_LISTED = 20  # results of another length in an error; where they are allowed all are noted
FRAME_WEIGHTED = ("AO", "SR50", "SR75")
"""Scores in whose mean a frame weighs the same, not a sequence."""


class Results(Protocol):
    """One tracker's results of sequences; `ResultFolder` and `FoundResults` are such."""

    @property
    def path(self) -> Path:
        """Folder or file, for messages."""

    def has(self, sequence: str) -> bool:
        """Whether there are boxes of a sequence."""

    def read(self, sequence: str) -> Array:
        """Return the boxes (N, 4) x, y, w, h."""

    def where(self, sequence: str) -> Path:
        """File of the boxes, for messages."""

    def fps(self, sequence: str) -> float | None:
        """Return frames a second, None where nobody noted it."""

    def tasks(self, sequence: str) -> Path:
        """File of what other heads said; it need not be there."""


@dataclass(frozen=True)
class Truth:
    """The ground truth of one sequence.

    Attributes:
        name: names the result file.
        boxes_xywh: (N, 4) pixels.
        visible: (N,) bool or None.
        cover: (N,) 0 to 8 or None.
        frames: N images, or none: to show, and to know their size where the benchmark clips boxes.
        first_frame: number of the first frame in the whole sequence, counted from 1.
        shift: (4,) what a box in 0-based pixels lacks to one of `boxes_xywh`.
        folder: of the sequence, where its labels are looked for; or None.
        attributes: what is hard about it, as the benchmark calls it.
    """

    name: str
    boxes_xywh: Array
    visible: NDArray[np.bool_] | None = None
    cover: NDArray[np.int64] | None = None
    frames: tuple[Frame, ...] = ()
    first_frame: int = 1
    shift: Array = field(default_factory=lambda: np.zeros(4))
    folder: Path | None = None
    attributes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, sequence: Sequence) -> Truth:
        """Return the ground truth of a benchmark's sequence."""
        return cls(
            sequence.name,
            sequence.boxes_xywh,
            sequence.visible,
            sequence.cover,
            sequence.frames,
            sequence.first_frame,
            sequence.shift,
            sequence.folder,
            sequence.attributes,
        )

    def image_size(self) -> tuple[float, float] | None:
        """Return (width, height) in pixels, None without an image."""
        if not self.frames:
            return None
        from mtltrack.evaluation.slots import read_rgb

        height, width = read_rgb(self.frames[0]).shape[:2]
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

    def errors(self, pred_xywh: Array, true_xywh: Array, visible: object) -> SequenceErrors:
        """Compare the boxes of one sequence frame by frame, to show where the target is lost: a frame in
        which it is known to be hidden isn't valid, whatever the protocol makes of it in the scores.
        """
        return sequence_errors(
            pred_xywh,
            true_xywh,
            visible,
            protocol=replace(protocol_for(self.protocol), uses_visibility=True),
            validity=self.validity,
            invalid_counts_as_hit=self.invalid_counts_as_hit,
        )


@dataclass
class TrackerReport:
    """One tracker's scores, fractions in [0, 1].

    Attributes:
        tracker: its name.
        mean: over sequences, each with the same weight (AO, SR50 and SR75: over frames).
        sequences: of each sequence.
        curves: means over sequences, each with the same weight.
        notes: what was left out.
        frames: of each sequence, their number.
        failures: of each sequence, where the target was lost and found again.
        weights: of each sequence, the number of its frames in AO, SR50 and SR75; empty without these.
    """

    tracker: str
    mean: Scores
    sequences: dict[str, Scores]
    curves: Curves
    notes: list[str] = field(default_factory=list)
    frames: dict[str, int] = field(default_factory=dict)
    failures: dict[str, Failures] = field(default_factory=dict, repr=False)
    weights: dict[str, int] = field(default_factory=dict)


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
    return [Truth.of(item) for item in benchmark.sequences]


def evaluate(
    truths: Items[Truth], trackers: Mapping[str, Results], rules: Rules, *, baseline: bool = False
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
    sizes: list[Size | None] = [None] * len(chosen)
    if rules.ao:
        notes += _what_ao_lacks(chosen)
        sizes = _image_sizes(chosen)  # once, not for every tracker
    reports = []
    for name, results in trackers.items():
        predictions = {truth.name: results.read(truth.name) for truth in chosen}
        _check_boxes(name, results, predictions)
        lengths = _other_lengths(name, results, chosen, predictions, rules.allow_partial)
        report = _score(name, chosen, predictions, rules, sizes)
        report.notes.extend([*notes, *lengths])
        speeds = [results.fps(truth.name) for truth in chosen]
        report.mean["FPS"] = _mean([speed for speed in speeds if speed is not None])
        reports.append(report)
    if baseline:
        still = {
            truth.name: np.repeat(truth.boxes_xywh[:1], len(truth.boxes_xywh), axis=0) for truth in chosen
        }
        reports.append(_score(BASELINE, chosen, still, rules, sizes))
    return reports


def _complete(
    truths: Items[Truth], trackers: Mapping[str, Results], allow_partial: bool
) -> tuple[list[Truth], list[str]]:
    """Return the sequences that every tracker has results of, and notes about the others."""
    notes, lacking = [], set()
    for tracker, results in trackers.items():
        missing = [truth.name for truth in truths if not results.has(truth.name)]
        if missing:
            listed = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            share = f"{len(missing)} of {len(truths)} sequences"
            text = f"'{tracker}' has no results for {share} ({listed}) in {results.path}"
            if not allow_partial:
                raise DataError(f"{text}; --allow-partial scores the sequences that every tracker has")
            notes.append(f"{text}: left out for every tracker")
            lacking.update(missing)
    chosen = [truth for truth in truths if truth.name not in lacking]
    if not chosen:
        raise DataError(f"no sequence has results of every tracker ({', '.join(map(repr, trackers))})")
    return chosen, notes


def _check_boxes(tracker: str, results: Results, predictions: Mapping[str, Array]) -> None:
    """Raise `DataError` that names the file of boxes that aren't numbers or have a negative size."""
    boxes = {name: found for name, found in predictions.items() if len(found)}
    if boxes:
        prefixes = [f"'{tracker}', sequence '{name}', '{results.where(name)}': " for name in boxes]
        check_predictions(list(boxes.values()), prefixes)


def _other_lengths(
    tracker: str,
    results: Results,
    truths: list[Truth],
    predictions: Mapping[str, Array],
    allow_partial: bool,
) -> list[str]:
    """Say which results have another length than the ground truth, where the rules allow it."""
    short, long = [], []
    for truth in truths:
        found, wanted = len(predictions[truth.name]), len(truth.boxes_xywh)
        if found != wanted:
            text = f"'{truth.name}' {found} of {wanted} ('{results.where(truth.name)}')"
            (short if found < wanted else long).append(text)
    if (short or long) and not allow_partial:
        all_of_them = [*short, *long]
        listed = ", ".join(all_of_them[:MOST_LISTED]) + ", ..." * (len(all_of_them) > MOST_LISTED)
        raise DataError(
            f"'{tracker}': {len(all_of_them)} of {len(truths)} results have another number of boxes than the "
            f"ground truth: {listed}. Was another range of frames tested (--frames)? "
            "--without SEQUENCE leaves sequences out; --allow-partial cuts longer results and counts the "
            "frames that shorter ones lack as misses"
        )
    parts = ((short, "the frames that lack count as misses"), (long, "cut to the ground truth"))
    return [f"'{tracker}': boxes of {', '.join(texts)}: {what}" for texts, what in parts if texts]


def _image_sizes(truths: list[Truth]) -> list[Size | None]:
    """Return the images' sizes; where some are unknown none is used: all sequences are scored alike."""
    known = all(truth.frames for truth in truths)
    return [truth.image_size() if known else None for truth in truths]


def _what_ao_lacks(truths: list[Truth]) -> list[str]:
    """Say which of GOT-10k's rules can't be followed."""
    notes = []
    if without := [truth.name for truth in truths if not truth.frames]:
        notes.append(
            f"AO, SR: boxes aren't clipped to the image, because the images of {len(without)} of "
            f"{len(truths)} sequences aren't there ({without[0]}, ...)"
        )
    if without := [truth.name for truth in truths if truth.cover is None]:
        notes.append(
            f"AO, SR: hidden frames of {len(without)} of {len(truths)} sequences count, because there is no "
            f"cover.label ({without[0]}, ...)"
        )
    return notes


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _score(
    name: str,
    truths: list[Truth],
    predictions: dict[str, Array],
    rules: Rules,
    sizes: list[Size | None],
) -> TrackerReport:
    names, true = [truth.name for truth in truths], [truth.boxes_xywh for truth in truths]
    boxes = [predictions[item] for item in names]
    try:
        batch = score_all(
            boxes,
            true,
            [truth.visible for truth in truths],
            protocol=rules.protocol,
            validity=rules.validity,
            exclude_invalid=rules.exclude_invalid,
            invalid_counts_as_hit=rules.invalid_counts_as_hit,
            names=names,
        )
        columns, mean = batch.of_each(), batch.mean()
        report = TrackerReport(name, mean, {}, batch.mean_curves())
        if rules.ao:
            fitted = [match_length(one, len(other), pad=True) for one, other in zip(boxes, true, strict=True)]
            covers = [truth.cover for truth in truths]
            overlap = score_all_got10k(fitted, true, covers, sizes, names=names)
            columns |= _renamed(vars(overlap))
            mean |= _renamed(overlap.mean())
            report.weights = dict(zip(names, overlap.frames.tolist(), strict=True))
        if rules.protocol == "trackingnet":
            areas = score_all_trackingnet(boxes, true, names=names)
            columns |= {f"TN{key}": values for key, values in areas.of_each().items()}
            mean |= {f"TN{key}": value for key, value in areas.mean().items()}
    except DataError as error:
        raise DataError(f"'{name}', {error}") from error
    report.frames = dict(zip(names, batch.frames.tolist(), strict=True))
    for truth in truths:
        errors = rules.errors(predictions[truth.name], truth.boxes_xywh, truth.visible)
        report.failures[truth.name] = find_failures(errors.overlap, errors.valid)
    for index, item in enumerate(names):
        report.sequences[item] = {score: float(values[index]) for score, values in columns.items()}
    return report


def _renamed(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {"AO": scores["ao"], "SR50": scores["sr"], "SR75": scores["sr75"]}
