"""Errors that users see, and the spelling help that goes into their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MtltrackError(Exception):
    """Base of every error that bad input, a bad file or a bad setting can cause."""


class ConfigError(MtltrackError, ValueError):
    """A setting is unknown, has the wrong type or contradicts another one."""


class DataError(MtltrackError, ValueError):
    """A data set, an image, an annotation or a label can't be used."""


class CheckpointError(MtltrackError, ValueError):
    """A weights file can't be read or doesn't belong to the model."""


class TrainingError(MtltrackError, RuntimeError):
    """Training can't start or can't go on."""


class UnknownNameError(MtltrackError, KeyError):
    """A name isn't registered; the message lists the candidates."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would print the repr


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return " Did you mean 'X'?" for the nearest candidate, or "" when none is near.

    Few edits go before a large share of equal letters: RL is LR with two letters exchanged, though only half
    of it agrees. Two that are as near as each other are both named.
    """
    near = nearest(name, candidates)
    return f" Did you mean {' or '.join(repr(candidate) for candidate in near)}?" if near else ""


def nearest(name: str, candidates: Iterable[str]) -> list[str]:
    """Return the candidates that `name` may be a misspelling of, at most two; the case doesn't matter."""
    by_lower = {candidate.lower(): candidate for candidate in sorted(candidates)}
    wrong = name.lower()
    edits = {known: edit_distance(wrong, known) for known in by_lower}
    least = min(edits.values(), default=0)
    if least <= max(1, len(wrong) // 4) and least < len(wrong):
        alike = {known: difflib.SequenceMatcher(None, wrong, known).ratio() for known in edits}
        found = sorted((known for known in edits if edits[known] == least), key=lambda known: -alike[known])
        found = found[:2]
    else:
        found = difflib.get_close_matches(wrong, list(by_lower), n=1, cutoff=0.6)
    return [by_lower[known] for known in found]


def edit_distance(a: str, b: str) -> int:
    """Return how many characters must be inserted, left out, replaced or exchanged with their neighbours.

    No part of the text is edited twice (optimal string alignment).
    """
    rows = [list(range(len(b) + 1))]
    for i, letter in enumerate(a, start=1):
        row = [i]
        for j, other in enumerate(b, start=1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
