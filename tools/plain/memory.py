"""The prompt memory as a list of entries that are joined at each frame, and read by its affinity matrix."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mtltrack.models.tracker import Tracker
from plain.attention import replaced


def read_by_matrix(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Read a memory through the whole affinity matrix: STCN (Cheng et al., NeurIPS 2021, section 3.2).

    softmax over the entries of (2 q.k - |k|^2) / sqrt(Ck), then the weighted sum of the values.

    Args:
        query: (B, M, Ck).
        keys: (B, N, Ck).
        values: (B, N, Cv).

    Returns:
        (B, M, Cv).
    """
    lengths = keys.pow(2).sum(-1)[:, None]  # (B, 1, N)
    affinity = (2 * (query @ keys.transpose(1, 2)) - lengths) / math.sqrt(keys.shape[-1])  # (B, M, N)
    return affinity.softmax(dim=-1) @ values


class PlainMemory:
    """Stands in for `PromptMemory`: keeps each entry as it came and joins all of them at every read.

    Args:
        capacity: entries at most; the oldest goes first.
    """

    def __init__(self, capacity: int) -> None:
        self._entries: deque[tuple[Tensor, Tensor]] = deque(maxlen=capacity)

    @property
    def count(self) -> int:
        """Entries held."""
        return len(self._entries)

    def write(self, keys: Tensor, values: Tensor) -> None:
        """Store one frame's entry: keys (B, N, Ck), values (B, N, Cv)."""
        self._entries.append((keys, values))

    def read(self, query: Tensor) -> Tensor:
        """Read all entries, (B, M, Ck) -> (B, M, Cv)."""
        keys, values = (torch.cat(parts, dim=1) for parts in zip(*self._entries, strict=True))
        return read_by_matrix(query, keys, values)

    def last(self) -> tuple[Tensor, Tensor]:
        """Return the newest entry."""
        return self._entries[-1]


@contextmanager
def plain_memory(net: Tracker) -> Iterator[None]:
    """Let a tracker's history read by the matrix, and new memories be lists, while the context lasts."""
    if net.history is None:
        yield
        return
    capacity = net.history_settings.max_memory
    with (
        replaced(net, "new_memory", lambda: PlainMemory(capacity)),
        replaced(net.history, "read", read_by_matrix),
    ):
        yield
