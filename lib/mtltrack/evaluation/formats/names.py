"""Sequences whose name results and ground truth write differently."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PREFIX = re.compile(r"^(uav|nfs)-")


def match_names(wanted: Iterable[str], found: Iterable[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Find results for sequences.

    A name that isn't found as it stands is looked for without regard to capitals, to `_`, `.` or `-`
    (`jogging_1` for `Jogging-1`) and to the prefixes `uav_` and `nfs_`, where that leaves no doubt.

    Args:
        wanted: names of the ground truth.
        found: names of the results.

    Returns:
        Wanted name -> found name; a note for each that is written differently; the names that nobody wanted.
    """
    wanted, left = list(wanted), dict.fromkeys(found)
    matched = {name: name for name in wanted if name in left}
    for name in matched:
        del left[name]
    notes = []
    others, theirs = _by_key(name for name in wanted if name not in matched), _by_key(left)
    for key, names in others.items():
        candidates = theirs.get(key, [])
        if len(names) == len(candidates) == 1:
            matched[names[0]] = candidates[0]
            del left[candidates[0]]
            notes.append(f"'{candidates[0]}' is taken for '{names[0]}'")
    return matched, notes, list(left)


def _by_key(names: Iterable[str]) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for name in names:
        keys.setdefault(_PREFIX.sub("", re.sub(r"[._]", "-", name.lower())), []).append(name)
    return keys
