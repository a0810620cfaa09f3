"""Accumulators that several processes fill and one reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class Mergeable:
    """An accumulator of numbers, lists, and dictionaries of them.

    What is merged in the order of the frames gives the figures of one process bit for bit, because sums of
    floats are taken at the end, over lists.
    """

    COUNTS: ClassVar[tuple[str, ...]]  # the attributes that grow

    def collected(self) -> dict[str, Any]:
        """Return what was counted, plain types and arrays on the CPU, for another process to `merge`."""
        return {name: getattr(self, name) for name in self.COUNTS}

    def merge(self, collected: Mapping[str, Any]) -> None:
        """Add what another one `collected`, behind the own."""
        for name in self.COUNTS:
            setattr(self, name, joined(getattr(self, name), collected[name]))


def joined(one: Any, other: Any) -> Any:
    """Return the sum of two numbers, one list behind the other, or dictionaries joined key by key."""
    if isinstance(one, Mapping):
        return {
            key: joined(one[key], other[key]) if key in one and key in other else {**one, **other}[key]
            for key in [*one, *(key for key in other if key not in one)]
        }
    return one + other
