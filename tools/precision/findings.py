"""What was found: scores of each run, how far its boxes are from those of the reference, tables, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mtltrack.core.errors import MtltrackError
from mtltrack.evaluation.columns import TITLES, heading
from mtltrack.evaluation.report import Rules, evaluate
from mtltrack.evaluation.results import ResultFolder
from mtltrack.evaluation.task_scores import score_tasks
from mtltrack.losses.boxes import box_iou, boxes_xywh_to_xyxy
from precision.sources import Source

BOX_SCORES = ("AUC", "Precision", "NormPrecision", "mIoU", "AO", "SR50")
TASK_SCORES = {
    "cls": ("macro_f1", "mean_ap"),
    "seg": ("J_mean", "F_mean"),
    "plate": ("AP50", "presence_f1"),
    "ocr": ("exact", "cer"),
    "alert": ("event_f1", "frame_f1"),
}
Scores = dict[str, float]


class RunError(MtltrackError, RuntimeError):
    """A tracker failed on a sequence, so that there is nothing to compare."""


@dataclass(frozen=True)
class BoxDifference:
    """How far a run's boxes are from those of the reference; the first frame of a sequence isn't counted.

    Attributes:
        mean_iou: mean overlap of the two boxes of a frame.
        least_iou: the smallest.
        mean_pixels: mean distance of a side.
        largest_pixels: the largest.
        frames: compared.
    """

    mean_iou: float
    least_iou: float
    mean_pixels: float
    largest_pixels: float
    frames: int


@dataclass
class Finding:
    """What was found on one data set.

    Attributes:
        name: of the data.
        frames: tracked.
        reference: name of the run that the others are compared with.
        scores: run -> score -> value, in [0, 1] as a rule.
        boxes: run -> distance from the reference, as tracked.
        same_crop: run -> the same with each frame cut around the reference's box; not of other weights.
        starts: precision -> score -> one value of each first box, the true one first.
        seeds: score -> one value of each seed of training, the reference's among them; empty with one seed.
    """

    name: str
    frames: int
    reference: str
    scores: dict[str, Scores]
    boxes: dict[str, BoxDifference]
    same_crop: dict[str, BoxDifference] = field(default_factory=dict)
    starts: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seeds: dict[str, list[float]] = field(default_factory=dict)

    def spread(self, score: str) -> float | None:
        """Return how far the seeds lie apart, None with one seed."""
        return _spread(self.seeds.get(score, []))


def score_runs(source: Source, results: Mapping[str, ResultFolder]) -> dict[str, Scores]:
    """Return run -> score -> value; scores of a task are called "<task> <score>"."""
    reports = evaluate(source.truths, results, Rules(ao=True))
    found = {report.tracker: {name: report.mean[name] for name in BOX_SCORES} for report in reports}
    for run, folder in results.items():
        for task, scores in score_tasks(source.labelled(folder)).items():
            row = scores.rows[""]
            found[run] |= {f"{task} {name}": float(row[name]) for name in TASK_SCORES[task]}
    return found


def collected(scores: Mapping[str, Scores], runs: Sequence[str]) -> dict[str, list[float]]:
    """Return score -> its value in each of the runs."""
    return {score: [scores[run][score] for run in runs] for score in scores[runs[0]]}


def _spread(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return max(known) - min(known) if len(known) > 1 else None


def compare_boxes(source: Source, run: ResultFolder, reference: ResultFolder) -> BoxDifference:
    """Compare the boxes of two runs frame by frame."""
    ours, theirs = (
        np.concatenate([folder.read(truth.name)[1:] for truth in source.truths])
        for folder in (run, reference)
    )
    return distance(ours, theirs)


def distance(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> BoxDifference:
    """Compare boxes (N, 4) x, y, w, h in pixels with others of the same frames."""
    corners = [boxes_xywh_to_xyxy(torch.from_numpy(boxes)) for boxes in (ours, theirs)]
    overlap = box_iou(*corners)
    apart = (corners[0] - corners[1]).abs()
    if not len(ours):
        return BoxDifference(math.nan, math.nan, math.nan, math.nan, 0)
    return BoxDifference(
        float(overlap.mean()), float(overlap.min()), float(apart.mean()), float(apart.max()), len(ours)
    )


def tables(finding: Finding) -> list[Table]:
    """Return the tables of scores, of first boxes that were moved, and of boxes."""
    moved = [_start_table(finding)] if finding.starts else []
    return [_score_table(finding), *moved, _box_table(finding)]


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _score_table(finding: Finding) -> Table:
    others = [run for run in finding.scores if run != finding.reference]
    seeds = max((len(values) for values in finding.seeds.values()), default=0)
    columns = ["score", finding.reference, *others]
    columns += [f"spread of {seeds} seeds", "within"] if seeds > 1 else []
    table = _table(f"{finding.name}, {finding.frames} frames, percent (difference)", columns)
    reference = finding.scores[finding.reference]
    for score, value in reference.items():
        cells = [score_name(score), percent(value)]
        differences = [finding.scores[run].get(score, math.nan) - value for run in others]
        for run, difference in zip(others, differences, strict=True):
            cells.append(f"{percent(finding.scores[run].get(score, math.nan))} ({signed(difference)})")
        spread = finding.spread(score)
        if seeds > 1:
            cells += ["-" if spread is None else percent(spread), _within(differences, spread)]
        table.add_row(*cells)
    return table


def _start_table(finding: Finding) -> Table:
    """Return the means of the runs from several first boxes, and whether they differ more than these runs."""
    reference, *others = finding.starts
    count = len(next(iter(finding.starts[reference].values())))
    columns = ["score", reference, *others, *(f"{run}, difference" for run in others), "within"]
    table = _table(f"{finding.name}: mean of {count} first boxes (lowest to highest), percent", columns)
    for score, values in finding.starts[reference].items():
        means = {run: float(np.mean(found[score])) for run, found in finding.starts.items()}
        cells = [
            f"{percent(means[run])} ({percent(min(found[score]))} to {percent(max(found[score]))})"
            for run, found in finding.starts.items()
        ]
        differences, spread = [means[run] - means[reference] for run in others], _spread(values)
        cells += [signed(value) for value in differences]
        table.add_row(score_name(score), *cells, _within(differences, spread))
    return table


def _within(differences: Sequence[float], spread: float | None) -> str:
    """Say whether all differences are within the spread; "-" where that isn't known."""
    if spread is None or any(math.isnan(value) for value in differences):
        return "-"
    return "yes" if all(abs(value) <= spread for value in differences) else "no"


def _box_table(finding: Finding) -> Table:
    columns = ("run", "mean IoU", "least IoU", "mean distance, px", "largest, px", "frames")
    table = _table(f"{finding.name}: boxes beside those of {finding.reference}", columns)
    rows = list(finding.boxes.items())
    rows += [(f"{run}, from the same crops", found) for run, found in finding.same_crop.items()]
    for run, found in rows:
        table.add_row(
            run,
            f"{found.mean_iou:.4f}",
            f"{found.least_iou:.4f}",
            f"{found.mean_pixels:.3f}",
            f"{found.largest_pixels:.2f}",
            str(found.frames),
        )
    return table


def score_name(score: str) -> str:
    """Return a score's name for people."""
    task, _, name = score.rpartition(" ")
    return f"{TITLES[task]}: {heading(name)}" if task else heading(name)


def percent(value: float) -> str:
    """Return a share in percent; "-" for what isn't known."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def signed(value: float) -> str:
    """Return a difference of shares in percent, with its sign; "-" for what isn't known."""
    return "-" if math.isnan(value) else f"{100 * value:+.2f}"


def as_json(setting: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    """Return everything as JSON; what isn't known is null."""
    content = {"setting": dict(setting), "data": [asdict(finding) for finding in findings]}
    return json.dumps(_known(content), indent=1, ensure_ascii=False) + "\n"


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_known(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
