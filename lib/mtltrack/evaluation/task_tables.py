"""Scores of what other heads said, as tables hold them; `task_scores` computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # brings torch, which tables don't need
    from mtltrack.metrics.classification import ConditionMetrics

Scores = dict[str, float]


@dataclass
class TaskScores:
    """One task's scores of one tracker.

    Attributes:
        rows: "" for the tracker itself, or the name of a constant answer or another way to read the tracker's
            -> scores; `frames` counts the frames that were scored.
        sequences: the tracker's scores of each sequence.
        detail: the filled accumulator, where it has more to tell (conditions).
    """

    rows: dict[str, Scores]
    sequences: dict[str, Scores] = field(default_factory=dict)
    detail: ConditionMetrics | None = None


def row_name(tracker: str, row: str) -> str:
    """Return what a row of a task's table is called."""
    return f"{tracker}: {row}" if row else tracker


TaskTables = Mapping[str, Mapping[str, TaskScores]]
"""task -> tracker -> scores of what its head said."""
