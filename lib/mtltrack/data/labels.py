"""Scene-condition labels: flags to class numbers, OTB attributes, and their join to a data set.

Two forms of the same label travel together. `flags` (F, 10) says for each condition whether it is there,
Normal exactly when no other is. `index` (F,) is the single label: of the flagged conditions the first in the
order of `conditions.csv`: occlusion, motion blur, illumination change, partial visibility, variance in
appearance, background clutter (the published order), then scale variation, low resolution, low contrast
(published: one of them at random; here always in this order). `known` (F, 10) says which of the flags the
source can tell; the single label doesn't heed it.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from mtltrack.core.conditions import UNLABELLED, condition_names, normal_index, priority_order
from mtltrack.core.errors import DataError, did_you_mean

_FRAME_RANGE = re.compile(r"_\d+-\d+$")


def single_labels(flags: np.ndarray) -> np.ndarray:
    """Return (F,) int64 class numbers of (F, 10) flags; a frame without any flag is Normal."""
    order = np.array(priority_order())
    flags = with_normal(flags)
    return order[flags[:, order].argmax(axis=1)].astype(np.int64)


def with_normal(flags: np.ndarray) -> np.ndarray:
    """Return (F, 10) bool flags with Normal set exactly where no other is."""
    flags = np.array(flags, dtype=bool)
    others = np.arange(flags.shape[1]) != normal_index()
    flags[:, normal_index()] = ~flags[:, others].any(axis=1)
    return flags


def condition_labels(
    flags: np.ndarray, valid: np.ndarray, known: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return the `cls` entry of a sequence.

    Args:
        flags: (F, 10) bool; Normal is worked out here.
        valid: (F,) bool, which frames are labelled.
        known: (F, 10) or (10,) bool, which flags the source can tell; None: all. Normal's is worked out here:
            it is known where some flag is set or all flags are known.
    """
    flags, valid = with_normal(flags), np.asarray(valid, dtype=bool)
    told = np.ones(flags.shape, dtype=bool)
    if known is not None:
        told[:] = known
        told |= flags
        others = np.arange(flags.shape[1]) != normal_index()
        told[:, normal_index()] = told[:, others].all(axis=1) | ~flags[:, normal_index()]
    return {
        "valid": valid,
        "index": np.where(valid, single_labels(flags), UNLABELLED),
        "flags": flags & valid[:, None],
        "known": told & valid[:, None],
    }


@lru_cache(maxsize=1)
def otb_mapping() -> dict[str, str]:
    """Return OTB attribute (code, and full name in lower case) -> condition; "" when it tells of none."""
    text = resources.files("mtltrack.data").joinpath("otb_attributes.csv").read_text(encoding="utf-8")
    mapping: dict[str, str] = {}
    for row in csv.DictReader(text.splitlines()):
        mapping[row["code"].lower()] = mapping[row["attribute"].lower()] = row["condition"]
    return mapping


def otb_known() -> np.ndarray:
    """Return (10,) bool: the conditions that some OTB attribute tells of."""
    told = set(otb_mapping().values())
    return np.array([name in told for name in condition_names()])


def otb_flags(attributes: Iterable[str], where: str) -> np.ndarray:
    """Return (10,) bool flags of a sequence from its OTB attributes (codes or names).

    Raises:
        DataError: an attribute is unknown; `where` names the file.
    """
    mapping, names = otb_mapping(), condition_names()
    flags = np.zeros(len(names), dtype=bool)
    for attribute in attributes:
        if attribute.lower() not in mapping:
            raise DataError(
                f"{where}: '{attribute}' is no OTB attribute.{did_you_mean(attribute, mapping)} "
                f"Known: {', '.join(code.upper() for code in mapping if len(code) <= 3)}."
            )
        condition = mapping[attribute.lower()]
        if condition:
            flags[names.index(condition)] = True
    return flags


def split_attributes(text: str) -> list[str]:
    """Return the attributes of an attrs.txt: separated by commas, semicolons or line ends."""
    return [word.strip() for word in re.split(r"[,;\n\t]", text) if word.strip()]


def read_attribute_file(path: str | Path) -> dict[str, list[str]]:
    """Read attributes of many sequences from a JSON file (may be .gz).

    The file maps sequence -> list of attributes, or sequence -> object with such a list under `attr`.

    Raises:
        DataError: the file can't be read or has another form.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        content = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"ATTRIBUTES: can't read {path} as JSON ({error}). Correct the path or the file."
        ) from error
    if not isinstance(content, Mapping):
        raise DataError(
            f"ATTRIBUTES: {path} must map sequence names to attributes; found {type(content).__name__}."
        )
    return {name: _attribute_list(name, entry, path) for name, entry in content.items()}


def _attribute_list(name: str, entry: Any, path: Path) -> list[str]:
    attributes = entry.get("attr") if isinstance(entry, Mapping) else entry
    if not isinstance(attributes, list) or not all(isinstance(item, str) for item in attributes):
        raise DataError(f"ATTRIBUTES: {path}: '{name}' needs a list of attribute names, or one under 'attr'.")
    return list(attributes)


def attributes_of(name: str, table: Mapping[str, list[str]]) -> list[str] | None:
    """Look a sequence up; a cut `Car4_0001-0250` is found as `Car4`. None when it isn't there."""
    return table.get(name, table.get(_FRAME_RANGE.sub("", name)))
