"""Bad samples: counted over an epoch, reported, and too many of them stop the training.

Draws that gave no clip though no data is at fault are counted and reported beside them; they stop nothing.

A message about bad data begins with its place and a colon: a file, `file:line`, `file, line N`, or `key '...'
of the LMDB ...`. That is what lists of bad data are made from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mtltrack.core.errors import DataError

_SHOWN = 100
_KEY = re.compile(r"key '(.*)' of the LMDB (.*)")
_LINE = re.compile(r"(.*?)(?::|, line )(\d+)")


class Fault(NamedTuple):
    """Data that can't be used.

    Attributes:
        file: the file, or the LMDB, at fault; what the message names first where that is no file.
        line: of the file, from 1; None where it isn't a line's fault.
        key: of the LMDB; None for files.
        reason: what is wrong and what to do about it.
    """

    file: str
    line: int | None
    key: str | None
    reason: str

    @classmethod
    def of(cls, message: str) -> Fault:
        """Take a message apart."""
        place, _, reason = message.partition(": ")
        line = _LINE.fullmatch(place)
        place = line[1] if line else place
        key = _KEY.fullmatch(place)
        return cls(
            key[2] if key else place,
            int(line[2]) if line else None,
            key[1] if key else None,
            reason or message,
        )


class FaultLog:
    """Collects what `ClipDataset` reports about the samples of an epoch.

    A sample is bad when one of its draws hit data that can't be used; it was replaced by a later draw.

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

    def records(self) -> list[dict[str, Any]]:
        """Return every fault once, by file, line and key: `file`, `line`, `key`, `reason`, `count`."""
        found = [(Fault.of(message), count) for message, count in self.messages.items()]
        found.sort(key=lambda item: (item[0].file, item[0].line or 0, item[0].key or "", item[0].reason))
        return [{**fault._asdict(), "count": count} for fault, count in found]

    def _bad_lines(self) -> list[str]:
        if not self.bad_samples:
            return []
        lines = [
            f"{self.bad_samples} of {self.samples} samples were bad ({self.fraction:.2%}) and were replaced:"
        ]
        lines += [f"  {count} x {message}" for message, count in self.messages.most_common(_SHOWN)]
        if len(self.messages) > _SHOWN:
            lines.append(f"  and {len(self.messages) - _SHOWN} more faults; bad_samples.jsonl holds all")
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
        """Raise DataError when more than `max_fraction` of the samples were bad, and more than one of them.

        A single one passes, whatever its share of a small epoch or validation; with 0, none does.
        """
        if self._too_many(max_fraction, self.samples):
            raise DataError(
                "\n".join(self._bad_lines())
                + f"\nMore than DATA.MAX_BAD_FRACTION ({max_fraction:.2%}) is not accepted: "
                "correct the files named above, or raise DATA.MAX_BAD_FRACTION."
            )

    def _too_many(self, max_fraction: float, samples: int) -> bool:
        return self.bad_samples > (max(1.0, max_fraction * samples) if max_fraction > 0 else 0)

    def check_early(self, max_fraction: float, samples: int) -> None:
        """Raise what `check` will raise at the end of an epoch, as soon as it is certain.

        Args:
            max_fraction: share of the samples that may be bad.
            samples: of the whole epoch, over all processes.
        """
        if self._too_many(max_fraction, samples):
            self.check(max_fraction)

    def reset(self) -> None:
        """Start a new epoch."""
        self.samples = self.bad_samples = 0
        for counts in (self.messages, self.used, self.redraws):
            counts.clear()
