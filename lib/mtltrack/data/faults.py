"""Bad samples: counted over an epoch, reported, and too many of them stop the training.

Draws that gave no clip though no data is at fault are counted and reported beside them; they stop nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mtltrack.core.errors import DataError

_SHOWN = 10


class FaultLog:
    """Collects what `ClipDataset` reports about the samples of an epoch.

    A sample is bad when its first draw hit data that can't be used; it was replaced by a later draw.

    Attributes:
        samples: samples counted.
        bad_samples: those that were bad.
        messages: fault -> how often it was hit.
        used: data set -> samples that came from it.
        redraws: "<data set>: <kind>" -> draws that gave no clip though no data is at fault.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.bad_samples = 0
        self.messages: Counter[str] = Counter()
        self.used: Counter[str] = Counter()
        self.redraws: Counter[str] = Counter()

    def add(self, sources: Iterable[Mapping[str, Any]]) -> None:
        """Count the samples of a batch; `sources` is `Clip.sources`."""
        for source in sources:
            self.samples += 1
            faults = source.get("bad", [])
            self.bad_samples += bool(faults)
            self.messages.update(faults)
            self.used[source.get("dataset", "")] += 1
            for name, kinds in source.get("redraws", {}).items():
                self.redraws.update({f"{name}: {kind}": count for kind, count in kinds.items()})

    def merge(self, other: FaultLog) -> None:
        """Add what another log counted, that of another process."""
        for name, counted in vars(other).items():
            setattr(self, name, getattr(self, name) + counted)

    @property
    def fraction(self) -> float:
        """Share of the counted samples that were bad, in [0, 1]."""
        return self.bad_samples / self.samples if self.samples else 0.0

    def report(self) -> str:
        """Return lines for people: bad samples with the commonest faults, then redraws; "" when there was
        neither."""
        return "\n".join(self._bad_lines() + self._redraw_lines())

    def _bad_lines(self) -> list[str]:
        if not self.bad_samples:
            return []
        lines = [
            f"{self.bad_samples} of {self.samples} samples were bad ({self.fraction:.2%}) and were replaced:"
        ]
        lines += [f"  {count} x {message}" for message, count in self.messages.most_common(_SHOWN)]
        if len(self.messages) > _SHOWN:
            lines.append(f"  and {len(self.messages) - _SHOWN} more faults")
        return lines

    def _redraw_lines(self) -> list[str]:
        if not self.redraws:
            return []
        used = ", ".join(f"{name} {count}" for name, count in sorted(self.used.items()))
        kinds = "; ".join(f"{kind} ({count})" for kind, count in self.redraws.most_common())
        return [
            f"{self.redraws.total()} draws gave no clip and were drawn again from all data sets: {kinds}. "
            f"Samples used: {used}."
        ]

    def check(self, max_fraction: float) -> None:
        """Raise DataError when more than `max_fraction` of the samples were bad."""
        if self.fraction > max_fraction:
            raise DataError(
                "\n".join(self._bad_lines())
                + f"\nMore than DATA.MAX_BAD_FRACTION ({max_fraction:.2%}) is not accepted: "
                "correct the files named above, or raise DATA.MAX_BAD_FRACTION."
            )

    def reset(self) -> None:
        """Start a new epoch."""
        self.samples = self.bad_samples = 0
        for counts in (self.messages, self.used, self.redraws):
            counts.clear()
