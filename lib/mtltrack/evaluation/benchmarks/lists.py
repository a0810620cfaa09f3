"""Lists that come with the package: sequences of a benchmark, their first and last images, attributes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Listed:
    """What the benchmark says of one sequence.

    Attributes:
        name: as in the benchmark's own list.
        first: number, in its file name, of the image that belongs to the first ground truth line.
        last: number of the last image; None where the list doesn't say it.
        attributes: short names.
    """

    name: str
    first: int = 1
    last: int | None = None
    attributes: frozenset[str] = frozenset()

    @property
    def frames(self) -> int | None:
        """How many frames there are; None where the list doesn't say it."""
        return None if self.last is None else self.last - self.first + 1


@cache
def listed(benchmark: str) -> dict[str, Listed]:
    """Return name -> what `<benchmark>.csv` beside this module says of the sequence, in its order."""
    text = resources.files(__package__).joinpath(f"{benchmark}.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["name"]: _entry(row) for row in rows}


def _entry(row: dict[str, str]) -> Listed:
    last = row.get("last")
    return Listed(
        row["name"],
        int(row.get("first") or 1),
        int(last) if last else None,
        frozenset(row.get("attributes", "").split()),
    )
