"""Bad samples: counted over an epoch, reported, and too many of them stop the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mtltrack.core.errors import DataError

_SHOWN = 10


class FaultLog:
    """Collects what `ClipDataset` reports about the samples of an epoch.

    A sample is bad when its first draw hit data that can't be used; it was replaced by a later draw.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.bad_samples = 0
        self.messages: Counter[str] = Counter()

    def add(self, sources: Iterable[Mapping[str, Any]]) -> None:
        """Count the samples of a batch; `sources` is `Clip.sources`."""
        for source in sources:
            self.samples += 1
            faults = source.get("bad", [])
            self.bad_samples += bool(faults)
            self.messages.update(faults)

    @property
    def fraction(self) -> float:
        """Share of the counted samples that were bad, in [0, 1]."""
        return self.bad_samples / self.samples if self.samples else 0.0

    def report(self) -> str:
        """Return lines for people: how many, and the commonest faults; "" when there was none."""
        if not self.bad_samples:
            return ""
        lines = [
            f"{self.bad_samples} of {self.samples} samples were bad ({self.fraction:.2%}) and were replaced:"
        ]
        lines += [f"  {count} x {message}" for message, count in self.messages.most_common(_SHOWN)]
        if len(self.messages) > _SHOWN:
            lines.append(f"  and {len(self.messages) - _SHOWN} more faults")
        return "\n".join(lines)

    def check(self, max_fraction: float) -> None:
        """Raise DataError when more than `max_fraction` of the samples were bad."""
        if self.fraction > max_fraction:
            raise DataError(
                f"{self.report()}\nMore than DATA.MAX_BAD_FRACTION ({max_fraction:.2%}) is not accepted: "
                "correct the files named above, or raise DATA.MAX_BAD_FRACTION."
            )

    def reset(self) -> None:
        """Start a new epoch."""
        self.samples = self.bad_samples = 0
        self.messages.clear()
