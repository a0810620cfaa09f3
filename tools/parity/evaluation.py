"""Compare box metrics with reference evaluations: <reference>/eval.

The folder holds `gt`, `visible`, `cover` and predictions (`pred_*`), one text file a sequence, and up to
three files of reference figures, each checked when it is there. Percentages are compared as fractions: the
published analysis sums in single precision, so that a percentage itself is known to about 4e-6 only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mtltrack.core.errors import DataError
from mtltrack.metrics import got10k
from mtltrack.metrics.boxes import centre_error, rect_iou, toolkit_centre_error
from mtltrack.metrics.success import (
    Curves,
    SequenceErrors,
    average_curves,
    curves,
    sequence_errors,
)

TOLERANCE = 1e-6
SCORES = ("AUC", "OP50", "OP75", "Precision", "NormPrecision")
IMAGE_SIZE = (1280.0, 720.0)  # of the rendered sequences that the references are about


class ReportLike(Protocol):
    """What this module needs of the caller's report."""

    def value(
        self, name: str, ours: Any, reference: Any, kind: str, tolerance: float | None = None
    ) -> Any: ...

    def decision(self, name: str, same: bool) -> Any: ...


class Inputs:
    """The box files of one folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trackers = sorted(path.name for path in folder.glob("pred_*") if path.is_dir())
        self._read: dict[tuple[str, str], np.ndarray] = {}

    @property
    def read_so_far(self) -> list[tuple[str, str]]:
        """Folder and sequence of the files that were read."""
        return list(self._read)

    def get(self, kind: str, name: str) -> np.ndarray:
        """Return the numbers of `<kind>/<name>.txt`, boxes as (N, 4), flags as (N,)."""
        key = (kind, name)
        if key not in self._read:
            text = (self.folder / kind / f"{name}.txt").read_text().replace(",", " ")
            values = np.array([float(word) for word in text.split()])
            self._read[key] = values if kind in ("visible", "cover") else values.reshape(-1, 4)
        return self._read[key]


def compare(folder: Path, report: ReportLike) -> set[Path]:
    """Compare every file of reference figures in `folder`.

    Args:
        folder: the references' `eval` folder.
        report: takes the comparisons.

    Returns:
        The files that were read, inputs included, so that the caller can list what was not understood.
    """
    inputs = Inputs(folder)
    used: set[Path] = set()
    for path in sorted(folder.glob("*.json")):
        reference = json.loads(path.read_text())
        function = form_of(reference)
        report.decision(f"{path.name} is of a known form", function is not None)
        if function is not None:
            function(reference, inputs, report)
            used.add(path)
    report.decision("the folder holds reference figures", bool(used))
    used.update(folder / kind / f"{name}.txt" for kind, name in inputs.read_so_far)
    return used


def form_of(reference: Any) -> Callable[[dict[str, Any], Inputs, ReportLike], None] | None:
    """Return what compares a file of reference figures, by its content; None when its form is unknown."""
    if not isinstance(reference, dict):
        return None
    if "results" in reference:
        return compare_per_sequence
    if "sequences" in reference and ("got10k" in reference or "functions" in reference):
        return compare_got10k
    if reference and all(isinstance(case, dict) and "success_curve" in case for case in reference.values()):
        return compare_aggregate
    return None


def compare_numbers(report: ReportLike, name: str, ours: Any, reference: Any) -> None:
    """Compare numbers of any nesting; None is NaN, "inf" infinity; those must stand in the same places."""
    mine = np.asarray(ours, dtype=np.float64).reshape(-1)
    theirs = np.array([_number(item) for item in _flat(reference)])
    if mine.shape != theirs.shape:
        report.decision(f"{name} length", False)
        return
    finite = np.isfinite(theirs)
    special = np.array_equal(mine[~finite], theirs[~finite], equal_nan=True) and bool(
        np.isfinite(mine[finite]).all()
    )
    report.decision(f"{name} nan and inf", special)
    if special and finite.any():
        report.value(
            name, torch.from_numpy(mine[finite]), torch.from_numpy(theirs[finite]), "exact", TOLERANCE
        )


def _flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, list) else [value]


def _number(item: Any) -> float:
    return math.nan if item is None else float(item)


def _errors(inputs: Inputs, protocol: str, tracker: str, flags: str, name: str) -> SequenceErrors:
    visible = inputs.get("visible", name) if flags == "visible" else None
    return sequence_errors(inputs.get(tracker, name), inputs.get("gt", name), visible, protocol=protocol)


def compare_per_sequence(reference: dict[str, Any], inputs: Inputs, report: ReportLike) -> None:
    """Compare per-frame errors, validity and mean overlap, and which inputs are refused."""
    results = reference["results"]
    for name, cases in results.items():
        for case, stored in cases.items():
            expected = stored
            while "same_as" in expected:
                other_name, other_case = expected["same_as"].split("|")
                expected = results[other_name][other_case]
            protocol, tracker, flags = case.split("/")
            label = f"{name} {case}"
            try:
                ours = _errors(inputs, protocol, tracker, flags, name)
            except DataError:
                report.decision(f"{label} refused", "error" in expected)
                continue
            report.decision(f"{label} accepted", "error" not in expected)
            if "error" in expected:
                continue
            compare_numbers(report, f"{label} overlap", ours.overlap, expected["overlap"])
            compare_numbers(report, f"{label} centre", ours.centre, expected["center"])
            compare_numbers(report, f"{label} normalised centre", ours.centre_norm, expected["center_norm"])
            compare_numbers(report, f"{label} mean overlap", ours.average_overlap, expected["avg_overlap"])
            report.decision(
                f"{label} valid", [bool(flag) for flag in expected["valid"]] == ours.valid.tolist()
            )


def compare_aggregate(reference: dict[str, Any], inputs: Inputs, report: ReportLike) -> None:
    """Compare curves and scores over many sequences."""
    for case, expected in reference.items():
        protocol, flags = case.split("/")[:2]
        exclude = case.endswith("/exclude_invalid")
        for index, tracker in enumerate(inputs.trackers):
            errors = [_errors(inputs, protocol, tracker, flags, name) for name in expected["sequences"]]
            each = [curves(item, exclude_invalid=exclude) for item in errors]
            _compare_case(report, f"{case} {tracker}", index, expected, errors, each)


def _compare_case(
    report: ReportLike,
    label: str,
    index: int,
    expected: dict[str, Any],
    errors: list[SequenceErrors],
    each: list[Curves],
) -> None:
    def percent(key: str) -> list[float]:
        return [_number(item) / 100.0 for item in _flat(expected[key][index])]

    mean = average_curves(each)
    scores = mean.scores()
    for key in SCORES:
        compare_numbers(report, f"{label} {key}", scores[key], percent(key))
    compare_numbers(report, f"{label} success curve", mean.success, percent("success_curve"))
    compare_numbers(report, f"{label} precision curve", mean.precision, percent("precision_curve"))
    compare_numbers(report, f"{label} normalised curve", mean.norm_precision, percent("norm_precision_curve"))
    areas = [_number(row[index]) / 100.0 for row in expected["per_sequence_AUC"]]
    compare_numbers(report, f"{label} AUC a sequence", [item.scores()["AUC"] for item in each], areas)
    overlaps = [row[index] for row in expected["avg_overlap"]]
    compare_numbers(report, f"{label} mean overlap", [item.average_overlap for item in errors], overlaps)


_TOOLKIT_KEYS = {
    "success_curve": "success",
    "precision_curve": "precision",
    "normalized_precision_curve": "norm_precision",
}
_TOOLKIT_SCORES = {"normalized_precision_score": "normalised_precision_score"}


def compare_got10k(reference: dict[str, Any], inputs: Inputs, report: ReportLike) -> None:
    """Compare AO and SR, the toolkit's curves and its raw functions."""
    for tracker, expected in reference.get("got10k", {}).items():
        metric = got10k.GOT10kMetric()
        for name in reference["sequences"]:
            ours = metric.update(*_boxes(inputs, tracker, name), inputs.get("cover", name), IMAGE_SIZE)
            _compare_keys(report, f"got10k {tracker} {name}", ours, expected["seq_wise"][name], ("ao", "sr"))
            length = (
                len(inputs.get("gt", name)) - 1
            )  # the toolkit counts hidden frames here, though it drops them
            report.decision(f"got10k {tracker} {name} length", length == expected["seq_wise"][name]["length"])
        _compare_keys(report, f"got10k {tracker}", metric.compute(), expected["overall"], ("ao", "sr"))
    for benchmark in ("otb", "lasot", "uav123"):
        for tracker, expected in reference.get(benchmark, {}).items():
            each = {
                name: got10k.toolkit_curves(*_boxes(inputs, tracker, name)) for name in reference["sequences"]
            }
            for name, item in each.items():
                _compare_toolkit(report, f"{benchmark} {tracker} {name}", item, expected["seq_wise"][name])
            overall = got10k.average_toolkit_curves(list(each.values()))
            _compare_toolkit(report, f"{benchmark} {tracker}", overall, expected["overall"])
    for name, expected in reference.get("functions", {}).items():
        pred, truth = _boxes(inputs, inputs.trackers[0], name)
        _compare_functions(report, f"functions {name}", pred, truth, expected)


def _boxes(inputs: Inputs, tracker: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    return inputs.get(tracker, name), inputs.get("gt", name)


def _compare_keys(
    report: ReportLike, label: str, ours: dict[str, float], expected: dict[str, Any], keys: tuple[str, ...]
) -> None:
    for key in keys:
        compare_numbers(report, f"{label} {key}", ours[key], expected[key])


def _compare_toolkit(report: ReportLike, label: str, item: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare curves and scores; speed has nothing to do with boxes."""
    scores = got10k.toolkit_scores(item)
    for key, value in expected.items():
        if key in _TOOLKIT_KEYS:
            compare_numbers(report, f"{label} {key}", item[_TOOLKIT_KEYS[key]], value)
        elif key != "speed_fps":
            compare_numbers(report, f"{label} {key}", scores[_TOOLKIT_SCORES.get(key, key)], value)


def _compare_functions(
    report: ReportLike, label: str, pred: np.ndarray, truth: np.ndarray, expected: dict[str, Any]
) -> None:
    compare_numbers(report, f"{label} iou", rect_iou(pred, truth), expected["iou"])
    compare_numbers(report, f"{label} bounded iou", rect_iou(pred, truth, IMAGE_SIZE), expected["iou_bound"])
    compare_numbers(report, f"{label} centre", centre_error(pred, truth), expected["center"])
    compare_numbers(
        report, f"{label} normalised centre", toolkit_centre_error(pred, truth), expected["norm_center"]
    )
