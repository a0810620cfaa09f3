"""A bounded memory of what was read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps the last `size` values that were made, by key."""

    def __init__(self, size: int = 4096) -> None:
        self.size = size
        self._values: OrderedDict[int, T] = OrderedDict()

    def get(self, key: int, make: Callable[[int], T]) -> T:
        """Return the value of `key`; made by `make(key)` unless it is remembered."""
        if key not in self._values:
            self._values[key] = make(key)
            if len(self._values) > self.size:
                self._values.popitem(last=False)
        return self._values[key]
