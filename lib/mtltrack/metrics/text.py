"""Scores of texts that were read: exact ones, edit distance, length."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from mtltrack.core.errors import DataError
from mtltrack.core.registry import METRICS


def edit_distance(first: str, second: str) -> int:
    """Return the fewest insertions, deletions and replacements of characters between two texts."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        above_left, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            above_left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above_left + (a != b))
    return row[-1]


@METRICS.register_module()
class TextMetrics:
    """Counts texts that were read against what stood there.

    `exact` share of texts without any error, in [0, 1]; `cer` character error rate: edit distances summed,
    over the true texts' characters summed (0 is perfect; above 1 when far too much was read); `length` share
    of texts whose number of characters is right. With kinds, `exact/<kind>` and `cer/<kind>` as well. NaN
    before the first text.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every text."""
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])

    def collected(self) -> dict[str, list[int]]:
        """Return the counts, for another process to `merge`."""
        return dict(self._counts)

    def merge(self, collected: Mapping[str, Sequence[int]]) -> None:
        """Add what another one `collected`."""
        for group, values in collected.items():
            self._counts[group] = [a + b for a, b in zip(self._counts[group], values, strict=True)]

    def update(self, read: Sequence[str], truth: Sequence[str], kinds: Sequence[str] | None = None) -> None:
        """Add texts.

        Args:
            read: what was read.
            truth: what stands there; at least one character each.
            kinds: a name a text, to score groups apart; the empty name stands for no group.

        Raises:
            DataError: different numbers of texts, or a true text without a character.
        """
        names = [""] * len(truth) if kinds is None else list(kinds)
        if not len(read) == len(truth) == len(names):
            raise DataError(
                f"as many readings, texts and kinds are wanted; found {len(read)}, {len(truth)}, {len(names)}"
            )
        for answer, text, name in zip(read, truth, names, strict=True):
            if not text:
                raise DataError(f"the true text beside the reading '{answer}' has no character")
            distance = edit_distance(answer, text)
            values = (1, int(distance == 0), distance, len(text), int(len(answer) == len(text)))
            for group in {"", name}:
                self._counts[group] = [a + b for a, b in zip(self._counts[group], values, strict=True)]

    def compute(self) -> dict[str, float]:
        """Return the scores of all texts so far."""
        texts, exact, edits, characters, lengths = self._counts[""]
        scores = {
            "exact": _ratio(exact, texts),
            "cer": _ratio(edits, characters),
            "length": _ratio(lengths, texts),
        }
        for name in sorted(name for name in self._counts if name):
            texts, exact, edits, characters, _ = self._counts[name]
            scores[f"exact/{name}"] = _ratio(exact, texts)
            scores[f"cer/{name}"] = _ratio(edits, characters)
        return scores


def _ratio(count: int, total: int) -> float:
    return count / total if total else math.nan
