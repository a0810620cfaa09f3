"""The scene-condition task: which of the ten conditions a frame shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtltrack.core.conditions import UNLABELLED, condition_names, normal_index
from mtltrack.core.errors import did_you_mean
from mtltrack.core.precision import run_in_full
from mtltrack.core.registry import HEADS, LOSSES
from mtltrack.core.types import Clip, TaskOutput, Tokens
from mtltrack.metrics.classification import ConditionMetrics, confusion_figure

LABELS = ("single", "multi")


@HEADS.register_module()
class ClsHead(nn.Module):
    """Classify a frame from its pooled search tokens: C -> hidden -> classes.

    Predictions: `logits` (B, T, K), unbounded. With `labels="single"` one of K classes; with
        `labels="multi"` K is
    one less, because Normal is the absence of every other condition.

    Args:
        channels: C of the search tokens.
        num_classes: conditions, Normal included.
        hidden_dim: width of the hidden layer; also the width of the features that other heads may read.
        dropout: share of hidden values dropped in training.
        labels: "single" or "multi".
        class_names: K names in label order; None for the ten conditions.
        loss_type: CE, FOCAL or LABEL_SMOOTH for single labels; multi labels use BCE.
        focal_alpha: factor of FOCAL.
        focal_gamma: exponent of FOCAL.
        label_smoothing: share of LABEL_SMOOTH that goes to all classes alike.
    """

    task = "cls"
    reads: tuple[str, ...] = ()
    decode_keys: tuple[str, ...] = ("logits",)

    def __init__(
        self,
        channels: int,
        num_classes: int = 10,
        hidden_dim: int = 512,
        dropout: float = 0.1,
        labels: str = "single",
        class_names: Sequence[str] | None = None,
        loss_type: str = "CE",
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.1,
    ) -> None:
        super().__init__()
        if labels not in LABELS:
            near = did_you_mean(labels, LABELS)
            raise ValueError(f"TASKS.cls.LABELS is '{labels}'; allowed: {', '.join(LABELS)}.{near}")
        names = tuple(class_names or condition_names())
        if len(names) != num_classes:
            raise ValueError(
                f"TASKS.cls.NUM_CLASSES is {num_classes}, but there are {len(names)} class names: "
                f"{', '.join(names)}. "
                "Give CLASS_NAMES in the same block."
            )
        self.multi = labels == "multi"
        self.normal = normal_index() if class_names is None else num_classes - 1
        self.all_names = names
        self.class_names = tuple(
            name for i, name in enumerate(names) if not (self.multi and i == self.normal)
        )
        self.loss, self.loss_arguments = self._choose_loss(
            loss_type, focal_alpha, focal_gamma, label_smoothing
        )
        self.term_weights = {"cls": 1.0}
        self.feature_channels = hidden_dim
        self.hidden = nn.Sequential(
            nn.Linear(channels, hidden_dim), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )
        self.classifier = nn.Linear(hidden_dim, len(self.class_names))

    def _choose_loss(
        self, loss_type: str, alpha: float, gamma: float, smoothing: float
    ) -> tuple[Any, dict[str, float]]:
        if self.multi or loss_type == "BCE":
            if not self.multi:
                raise ValueError("TRAIN.CLS_LOSS_TYPE is BCE, which needs TASKS.cls.LABELS: multi")
            return LOSSES.get("BCE"), {}
        arguments = {"FOCAL": {"alpha": alpha, "gamma": gamma}, "LABEL_SMOOTH": {"smoothing": smoothing}}
        return LOSSES.get(loss_type), arguments.get(loss_type, {})

    def forward(self, tokens: Tokens, upstream: Mapping[str, TaskOutput], clip: Clip) -> TaskOutput:
        """Classify every frame; `features` are (B, T, 1, hidden_dim)."""
        del upstream, clip
        pooled = _mean_over_kept(tokens.search, tokens.kept)  # (B, T, C)
        hidden = self.hidden(pooled)
        return TaskOutput(hidden[:, :, None], {"logits": run_in_full(self.classifier, hidden)})

    def _targets(self, labels: dict[str, Tensor]) -> Tensor:
        """Return (B, T) class numbers, or (B, T, K) flags without Normal's: 0, 1, or -100 if not known."""
        if not self.multi:
            return torch.where(labels["valid"], labels["index"], torch.full_like(labels["index"], UNLABELLED))
        flags = labels["flags"].long()
        if "known" in labels:
            flags = torch.where(labels["known"], flags, torch.full_like(flags, UNLABELLED))
        return torch.cat([flags[..., : self.normal], flags[..., self.normal + 1 :]], dim=-1)

    def loss_terms(self, output: TaskOutput, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return {"cls": (B, T)}.

        Args:
            output: the head's predictions.
            labels: `valid` (B, T), and `index` (B, T) int64 or, for multi labels, `flags` (B, T, classes)
                bool and `known` (B, T, classes) bool; a flag that isn't known counts in no loss and no
                metric. Without `known` all are.
        """
        logits, target = output.predictions["logits"], self._targets(labels)
        loss = self.loss(logits.flatten(0, 1), target.flatten(0, 1), **self.loss_arguments)
        return {"cls": loss.view(logits.shape[:2])}

    def decode(self, output: TaskOutput) -> list[list[dict[str, Any]]]:
        """Return, a clip and frame, name, index, confidence in [0, 1] and every class's probability.

        With multi labels `flags` names the conditions above 0.5; `name` is the most probable of them, or
        Normal with the confidence that none applies.
        """
        logits = output.predictions["logits"].float()
        probabilities = logits.sigmoid() if self.multi else logits.softmax(-1)
        describe = self._describe_flags if self.multi else self._describe_class
        return [[describe(frame) for frame in clip] for clip in probabilities.tolist()]

    def _describe_class(self, probabilities: list[float]) -> dict[str, Any]:
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        return {
            "name": self.class_names[best],
            "index": best,
            "confidence": probabilities[best],
            "probabilities": probabilities,
        }

    def _describe_flags(self, probabilities: list[float]) -> dict[str, Any]:
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        flagged = probabilities[best] > 0.5
        name = self.class_names[best] if flagged else self.all_names[self.normal]
        return {
            "name": name,
            "index": self.all_names.index(name),
            "confidence": probabilities[best] if flagged else 1 - probabilities[best],
            "flags": [name for name, p in zip(self.class_names, probabilities, strict=True) if p > 0.5],
            "probabilities": probabilities,
        }

    def metrics(self) -> ClsMetrics:
        return ClsMetrics(self)


class ClsMetrics:
    """`ConditionMetrics` fed with a head's output and a clip's labels."""

    def __init__(self, head: ClsHead) -> None:
        self._targets = head._targets
        self.conditions = ConditionMetrics(head.class_names, multi_label=head.multi)

    def update(self, output: TaskOutput, labels: dict[str, Tensor]) -> None:
        valid = labels["valid"]
        self.conditions.update(output.predictions["logits"].detach()[valid], self._targets(labels)[valid])

    def compute(self) -> dict[str, float]:
        return self.conditions.compute()

    def figure(self, title: str = "") -> Any:
        """Draw the confusion matrix as a matplotlib figure."""
        return confusion_figure(self.conditions.confusion(), self.conditions.class_names, title)

    def table(self) -> str:
        """Return the classes that were labelled or predicted, one line each; rates in percent."""
        columns = ("support", "predicted", "precision", "recall", "f1")
        lines = [f"{'condition':<24}" + "".join(f"{name:>11}" for name in columns)]
        for row in self.conditions.per_class():
            if row["support"] or row["predicted"]:
                rates = "".join(_percent(row[name]) for name in columns[2:])
                lines.append(f"{row['name']:<24}{row['support']:>11}{row['predicted']:>11}{rates}")
        return "\n".join(lines)

    def collected(self) -> Any:
        """Return what was counted, for another process to `merge`."""
        return self.conditions.collected()

    def merge(self, collected: Any) -> None:
        """Add what another one `collected`."""
        self.conditions.merge(collected)

    def reset(self) -> None:
        self.conditions.reset()


def _percent(rate: float) -> str:
    return f"{'-':>11}" if math.isnan(rate) else f"{100 * rate:>11.1f}"


def _mean_over_kept(search: Tensor, kept: Tensor | None) -> Tensor:
    """Mean of the tokens that hold features, (B, T, Nx, C) -> (B, T, C); eliminated ones don't count."""
    if kept is None:
        return search.mean(2)
    return search.sum(2) / kept.sum(2, keepdim=True)
