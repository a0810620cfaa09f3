"""What a check of the drill found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A line of the drill's table.

    Attributes:
        check: what was broken, and how often.
        wanted: what must come of it.
        found: what came of it, with its figures.
        passed: whether the two agree.
    """

    check: str
    wanted: str
    found: str
    passed: bool
