"""Which sequences of a data set belong to a split: published lists, and files that users name."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

from mtltrack.core.errors import DataError


def lasot_test_names() -> list[str]:
    """Return the names of the 280 test sequences (protocol II), four a class."""
    listing = resources.files("mtltrack.data") / "datasets" / "lasot_test.csv"
    rows = csv.DictReader(listing.read_text(encoding="utf-8").splitlines())
    return [f"{row['class']}-{number}" for row in rows for number in row["sequences"].split()]


def read_split(path: str | Path, listed: list[str]) -> list[str]:
    """Return the sequences that a split file names, by number (from 0) or by name.

    Raises:
        DataError: the file can't be read, or a line names no sequence.
    """
    try:
        words = Path(path).read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"SPLIT_FILE: can't read {path} ({error}). Correct the path.") from error
    known = set(listed)
    names = []
    for line, word in enumerate(words, start=1):
        name = listed[int(word)] if word.isdigit() and int(word) < len(listed) else word
        if name not in known:
            raise DataError(
                f"{path}:{line}: '{word}' is neither a sequence of list.txt nor its number from 0 to "
                f"{len(listed) - 1}. Is the data set complete?"
            )
        names.append(name)
    if not names:
        raise DataError(f"SPLIT_FILE: {path} is empty. Wanted one sequence a line.")
    return names
