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
    """Return " Did you mean 'X'?" for the nearest candidate, or "" when none is near."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" Did you mean '{by_lower[near[0]]}'?" if near else ""
