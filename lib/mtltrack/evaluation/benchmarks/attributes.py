"""Reading the attributes of sequences from files beside the data."""

from __future__ import annotations

import re
from collections.abc import Sequence as Items
from pathlib import Path

from mtltrack.core.errors import DataError
from mtltrack.data.annotations import decode_text, parse_flags
from mtltrack.evaluation.benchmarks.stored import Frame

OTB = ("IV", "SV", "OCC", "DEF", "MB", "FM", "IPR", "OPR", "OV", "BC", "LR")
"""The short names of OTB, which TempleColor-128 shares."""

_NAME = re.compile(r"[A-Za-z][\w-]*")


def read_attribute_names(path: Path) -> frozenset[str]:
    """Return the names in a text file, separated by commas, spaces or line ends, such as OTB's `attrs.txt`.

    Raises:
        DataError: a word that is no name, or a file that can't be read.
    """
    words = [word for word in re.split(r"[,;\s]+", _text(path)) if word]
    for word in words:
        if not _NAME.fullmatch(word):
            raise DataError(
                f"{path}: '{word}' is no attribute; wanted short names such as OCC, SV. Correct the file."
            )
    return frozenset(words)


def read_attribute_flags(path: Frame, names: Items[str]) -> frozenset[str]:
    """Return the names whose number in the file isn't 0.

    Args:
        path: numbers, one an attribute, on one line or one a line.
        names: what they stand for, in the file's order.

    Raises:
        DataError: another count of numbers, something else than numbers, or a file that can't be read.
    """
    flags = parse_flags(_text(path), str(path), len(names), f"the list of attributes ({' '.join(names)})")
    return frozenset(name for name, flag in zip(names, flags, strict=True) if flag)


def _text(path: Frame) -> str:
    try:
        return decode_text(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"can't read '{path}': {error.strerror or error}") from error
