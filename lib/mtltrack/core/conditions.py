"""The ten scene conditions: their names, numbers, side-car keys and the order that picks one of several.

The table is `conditions.csv` beside this file; it is read when first asked for, not when this module is
imported.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

UNLABELLED = -100
"""Class number of a frame without a label: the value that cross-entropy ignores."""


@dataclass(frozen=True)
class Condition:
    """One row of the table.

    Attributes:
        index: class number, the order of the classifier's outputs.
        name: what people read, and what is stored with the weights.
        group: object of the side-car line that holds the flag; "" for Normal, which is the absence of all
            flags.
        key: name of the flag within the group; "" for Normal.
        priority: 1 is looked at first when a frame with several flags must get a single label.
    """

    index: int
    name: str
    group: str
    key: str
    priority: int


@lru_cache(maxsize=1)
def conditions() -> tuple[Condition, ...]:
    """Return the ten conditions in the order of their class numbers."""
    text = resources.files("mtltrack.core").joinpath("conditions.csv").read_text(encoding="utf-8")
    rows = [
        Condition(int(row["index"]), row["name"], row["group"], row["key"], int(row["priority"]))
        for row in csv.DictReader(text.splitlines())
    ]
    return tuple(sorted(rows, key=lambda row: row.index))


def condition_names() -> tuple[str, ...]:
    """Return the ten names in the order of their class numbers."""
    return tuple(condition.name for condition in conditions())


def priority_order() -> tuple[int, ...]:
    """Return the class numbers, first the one that wins when several are flagged; Normal is last."""
    return tuple(condition.index for condition in sorted(conditions(), key=lambda row: row.priority))


def normal_index() -> int:
    """Return the class number of Normal, the condition without a flag."""
    return next(condition.index for condition in conditions() if not condition.group)


def __getattr__(name: str) -> tuple[str, ...]:
    """Give `CONDITIONS`, the ten names, without reading the table before somebody asks for it."""
    if name == "CONDITIONS":
        return condition_names()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
