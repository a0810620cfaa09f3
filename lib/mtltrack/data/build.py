"""From an entry of DATASETS_NAME to a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtltrack.core.errors import ConfigError, did_you_mean
from mtltrack.core.registry import DATASETS

NAMED: dict[str, dict[str, Any]] = {
    "SYNTHETIC": {"type": "SyntheticSequences"},
}
"""Training names -> class, root keys of local.yaml, arguments."""


def build_dataset(entry: str | Mapping[str, Any], use_lmdb: bool = False) -> Any:
    """Return the data set of a DATASETS_NAME entry."""
    if isinstance(entry, Mapping):
        arguments = {key.lower(): value for key, value in entry.items()}
        kind = arguments.pop("type", None)
        if kind is None:
            raise ConfigError(f"an entry of DATASETS_NAME needs TYPE; found {dict(entry)}")
        return DATASETS.create(kind, **arguments)
    if entry not in NAMED:
        raise ConfigError(f"unknown {entry}.{did_you_mean(entry, NAMED)}")
    return DATASETS.create(NAMED[entry]["type"])
