"""Scores of the scene conditions in `.tasks.jsonl` files against labels of the frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtltrack.core.conditions import condition_names
from mtltrack.core.errors import DataError
from mtltrack.data.labels import condition_labels
from mtltrack.data.sidecars import read_sidecar
from mtltrack.evaluation.results import ResultFolder, read_tasks
from mtltrack.metrics.classification import ConditionMetrics

TASK = "cls"


def score_conditions(sequences: Iterable[str], folder: ResultFolder, labels: Path) -> ConditionMetrics | None:
    """Compare what a tracker said of each frame with `<labels>/<seq>/<seq>.jsonl`.

    Args:
        sequences: their names.
        folder: holds the `.tasks.jsonl` files.
        labels: the folder of labels, as DATA.TRAIN.CLS_ANN_DIR.

    Returns:
        The filled accumulator (one label, or flags, as the tracker was trained); None when the tracker said
        nothing of conditions or no frame is labelled.

    Raises:
        DataError: a file can't be read, or the tracker has other classes.
    """
    metric: ConditionMetrics | None = None
    for name in sequences:
        path = labels / name / f"{name}.jsonl"
        if not folder.tasks(name).is_file() or not path.is_file():
            continue
        said = {entry["frame"]: entry[TASK] for entry in read_tasks(folder.tasks(name)) if TASK in entry}
        flags = read_sidecar(path).flags
        frames = sorted(set(said) & set(flags))
        if frames:
            metric = metric or _metric_for(said[frames[0]], folder)
            _add(metric, [said[frame] for frame in frames], np.stack([flags[frame] for frame in frames]))
    return metric


def _metric_for(answer: dict[str, Any], folder: ResultFolder) -> ConditionMetrics:
    names, multi = condition_names(), "flags" in answer
    names = names[:-1] if multi else names  # Normal is the absence of every flag
    if len(answer["probabilities"]) != len(names):
        raise DataError(
            f"the results in '{folder.path}' have {len(answer['probabilities'])} classes, "
            f"the labels {len(names)}: {', '.join(names)}"
        )
    return ConditionMetrics(names, multi_label=multi)


def _add(metric: ConditionMetrics, answers: list[dict[str, Any]], flags: np.ndarray) -> None:
    """Add frames: probabilities go in as the logits that have them."""
    chances = torch.tensor([answer["probabilities"] for answer in answers], dtype=torch.float64).clamp(
        1e-9, 1 - 1e-9
    )
    if metric.multi_label:
        metric.update(chances.logit(), torch.from_numpy(flags[:, : len(metric.class_names)]))
        return
    index = condition_labels(flags, np.ones(len(flags), dtype=bool))["index"]
    metric.update(chances.log(), torch.from_numpy(index))
