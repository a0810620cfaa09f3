"""Scores of a classification head: one label a frame, or several flags a frame.

Counting is torchmetrics'. Balanced accuracy is worked out from its confusion matrices, because torchmetrics'
macro accuracy counts a class without samples as a miss as soon as it is predicted once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtltrack.core.conditions import UNLABELLED
from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

ALONE: dict[str, Any] = {"sync_on_compute": False}
"""What processes saw is put together by `merge`; torchmetrics would add it up a second time."""


@METRICS.register_module()
class ConditionMetrics:
    """Accuracy, balanced accuracy, macro F1, a table of the classes and a confusion matrix.

    One label a frame: accuracy is the share of right frames; balanced accuracy the mean recall of the classes
    that have samples; macro F1 the mean F1 of the classes that have samples or were predicted.

    Several flags a frame: accuracy is the share of right flags; balanced accuracy the mean of (true positive
    rate + true negative rate) / 2 over the flags that are both set and not set somewhere; macro F1 the mean
    over the flags that are set or predicted somewhere; `mean_ap` the mean average precision of the flags that
    are set somewhere. A flag is predicted where its logit is above 0.

    Args:
        class_names: K names in the order of the head's outputs.
        multi_label: several flags a frame.
    """

    def __init__(self, class_names: Sequence[str], multi_label: bool = False) -> None:
        self.class_names = tuple(class_names)
        self.multi_label = multi_label
        if len(self.class_names) < 2:
            raise DataError(f"a classification needs at least two classes; found {list(self.class_names)}")
        self._metrics = self._build()
        self._precisions = self._build_precisions() if multi_label else []
        self._count = 0
        self._seen: list[tuple[Tensor, Tensor]] = []

    def _build(self) -> MetricCollection:
        # torchmetrics loads scipy and matplotlib, a second that tracking need not wait for
        from torchmetrics import MetricCollection
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassConfusionMatrix,
            MulticlassF1Score,
            MultilabelAccuracy,
            MultilabelConfusionMatrix,
            MultilabelF1Score,
        )

        classes = len(self.class_names)
        metrics: dict[str, Metric | MetricCollection]
        if self.multi_label:
            shared: dict[str, Any] = {"num_labels": classes, "ignore_index": UNLABELLED, **ALONE}
            metrics = {
                "accuracy": MultilabelAccuracy(**shared, average="micro"),
                "f1": MultilabelF1Score(**shared, average="none"),
                "confusion": MultilabelConfusionMatrix(**shared),
            }
        else:
            shared = {"num_classes": classes, "ignore_index": UNLABELLED, **ALONE}
            metrics = {
                "accuracy": MulticlassAccuracy(**shared, average="micro"),
                "f1": MulticlassF1Score(**shared, average="none"),
                "confusion": MulticlassConfusionMatrix(**shared),
            }
        return MetricCollection(metrics)

    def _build_precisions(self) -> list[Metric]:
        from torchmetrics.classification import BinaryAveragePrecision

        return [BinaryAveragePrecision(ignore_index=UNLABELLED, **ALONE) for _ in self.class_names]

    def reset(self) -> None:
        """Forget every sample."""
        for metric in (self._metrics, *self._precisions):
            metric.reset()
        self._count = 0
        self._seen = []

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add samples.

        Args:
            logits: (N, K).
            target: (N,) class indices, -100 where there is no label; with several flags (N, K) bool or 0/1,
                -100 where a flag is unknown.

        Raises:
            DataError: shapes don't fit, or an index is out of range.
        """
        classes = len(self.class_names)
        expected = (len(logits), classes) if self.multi_label else (len(logits),)
        if logits.ndim != 2 or logits.shape[1] != classes or tuple(target.shape) != expected:
            raise DataError(
                f"{classes} classes want logits (N, {classes}) and targets "
                f"{'(N, K)' if self.multi_label else '(N,)'}; "
                f"found {tuple(logits.shape)} and {tuple(target.shape)}"
            )
        target = target.long()
        known = target != UNLABELLED
        top = 1 if self.multi_label else classes - 1
        if bool(((target < 0) | (target > top))[known].any()):
            found = target[known].unique().tolist()
            raise DataError(f"class targets must lie in 0..{top} or be {UNLABELLED}; found {found}")
        keep = known.any(dim=1) if self.multi_label else known
        if not bool(keep.any()):
            return
        scores = logits[keep].float().sigmoid() if self.multi_label else logits[keep].float()
        self._take(scores.cpu(), target[keep].cpu())

    def collected(self) -> list[tuple[Tensor, Tensor]]:
        """Return what was seen, scores and targets on the CPU, for another process to `merge`."""
        return self._seen

    def merge(self, collected: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Add what another one `collected`, behind the own."""
        for scores, target in collected:
            self._take(scores, target)

    def _take(self, scores: Tensor, target: Tensor) -> None:
        self._seen.append((scores, target))
        self._metrics.update(scores, target)
        for k, precision in enumerate(self._precisions):
            precision.update(scores[:, k], target[:, k])
        self._count += len(target)

    @property
    def count(self) -> int:
        """Number of labelled samples seen (of this process)."""
        return self._count

    def confusion(self) -> Tensor:
        """Return counts, rows the truth, columns the prediction: (K, K), or (K, 2, 2) of each flag."""
        shape = (len(self.class_names), 2, 2) if self.multi_label else (len(self.class_names),) * 2
        if self._count == 0:
            return torch.zeros(shape, dtype=torch.int64)
        counts: Tensor = self._metrics["confusion"].compute()
        return counts.cpu()

    def compute(self) -> dict[str, float]:
        """Return the scores in [0, 1], each NaN when no labelled sample was seen."""
        names = ["accuracy", "balanced_accuracy", "macro_f1"] + ["mean_ap"] * self.multi_label
        if self._count == 0:
            return dict.fromkeys(names, math.nan)
        rows = self.per_class()
        columns = {"balanced_accuracy": "balanced_accuracy", "macro_f1": "f1", "mean_ap": "ap"}
        means = {name: _mean_known([row[columns[name]] for row in rows]) for name in names[1:]}
        return {"accuracy": float(self._metrics["accuracy"].compute()), **means}

    def per_class(self) -> list[dict[str, Any]]:
        """Return one row for each class; a rate without samples is NaN.

        Keys: `name`, `support` (labelled samples that have it), `predicted`, `precision`, `recall`, `f1`,
        `balanced_accuracy` (the recall; of a flag the mean of both rates) and, for flags, `ap`.
        """
        if self._count == 0:
            return []
        pairs = _pairs(self.confusion(), self.multi_label)
        f1 = self._metrics["f1"].compute().tolist()
        rows = []
        for index, name in enumerate(self.class_names):
            (negative, false_positive), (false_negative, positive) = pairs[index].tolist()
            recall = _ratio(positive, positive + false_negative)
            specificity = _ratio(negative, negative + false_positive)
            seen = positive + false_positive + false_negative > 0
            rows.append(
                {
                    "name": name,
                    "support": positive + false_negative,
                    "predicted": positive + false_positive,
                    "precision": _ratio(positive, positive + false_positive),
                    "recall": recall,
                    "f1": f1[index] if seen else math.nan,
                    "balanced_accuracy": (recall + specificity) / 2 if self.multi_label else recall,
                }
            )
        for row, precision in zip(rows, self._precisions, strict=False):  # none for single labels
            row["ap"] = float(precision.compute()) if row["support"] else math.nan
        return rows


def _pairs(confusion: Tensor, multi_label: bool) -> Tensor:
    """Return (K, 2, 2) one-against-the-rest counts [[TN, FP], [FN, TP]]."""
    if multi_label:
        return confusion
    hit = confusion.diagonal()
    false_positive, false_negative = confusion.sum(dim=0) - hit, confusion.sum(dim=1) - hit
    rest = confusion.sum() - hit - false_positive - false_negative
    return torch.stack([rest, false_positive, false_negative, hit], dim=1).reshape(-1, 2, 2)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def confusion_figure(matrix: Tensor, names: Sequence[str], title: str = "") -> Any:
    """Draw a confusion matrix as a matplotlib Figure without touching pyplot's state.

    Args:
        matrix: (K, K) counts, rows the truth; or (K, 2, 2) of flags.
        names: K class names.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = torch.as_tensor(matrix).double()
    if counts.shape[0] != len(names):
        raise DataError(f"a confusion matrix of {counts.shape[0]} classes, but {len(names)} names")
    if counts.ndim == 3:
        columns = ["true negative", "false positive", "false negative", "true positive"]
        counts, share = counts.flatten(1), (counts / counts.sum(dim=2, keepdim=True).clamp(min=1)).flatten(1)
    else:
        columns, share = list(names), counts / counts.sum(dim=1, keepdim=True).clamp(min=1)

    figure = Figure(figsize=(2.5 + 0.7 * len(columns), 2.5 + 0.55 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(share.numpy(), vmin=0.0, vmax=1.0, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), list(names))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    for row in range(counts.shape[0]):
        for column in range(counts.shape[1]):
            dark = bool(share[row, column] > 0.5)
            axes.text(
                column,
                row,
                f"{int(counts[row, column])}",
                ha="center",
                va="center",
                color="w" if dark else "k",
            )
    figure.colorbar(picture, ax=axes, label="share of the row")
    return figure


def plot_confusion(matrix: Tensor, names: Sequence[str], path: str | Path, title: str = "") -> Path:
    """Write `confusion_figure` to an image file and return its path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    confusion_figure(matrix, names, title).savefig(target, dpi=120)
    return target
