"""Wording that several messages share."""

from __future__ import annotations

from collections.abc import Sequence

LABEL_ADVICE = (
    "set DATA.TRAIN.CLS_ANN_DIR to the folder of the labels, train on data that carry them (docs/data.md), "
    "or take the task out of TASKS"
)


def listed(texts: Sequence[str], separator: str = ", ", most: int = 10) -> str:
    """Return the first texts joined, and how many more there are."""
    rest = len(texts) - most
    return separator.join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")
