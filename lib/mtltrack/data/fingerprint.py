"""A short mark of what a data set holds: whether a resumed run, or another machine's, reads the same data."""

from __future__ import annotations

import hashlib

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.data.sequences import SequenceDataset

LOOKED_AT = 8  # sequences whose annotation is read
BOXES = ", boxes "


def fingerprint(source: SequenceDataset) -> str:
    """Return "<number> sequences <12 hexadecimal digits>, boxes <12 hexadecimal digits>".

    The first digits follow from all names, the others from the boxes and visible frames of a few sequences
    spread over the data set. Images and labels of tasks are not read: it costs a moment, whatever the size of
    the data set.
    """
    names, boxes = hashlib.sha256(), hashlib.sha256()
    number = source.num_sequences
    for i in range(number):
        names.update(source.sequence_name(i).encode() + b"\0")
    for i in sorted({round(place) for place in np.linspace(0, number - 1, min(LOOKED_AT, number))}):
        try:
            info = source.sequence(i)
        except DataError:
            boxes.update(b"unreadable")  # a fault that sampling will meet and count
            continue
        boxes.update(np.ascontiguousarray(info.boxes_xywh).tobytes())
        boxes.update(np.ascontiguousarray(info.visible).tobytes())
    return f"{number} sequences {names.hexdigest()[:12]}{BOXES}{boxes.hexdigest()[:12]}"


def same_sequences(one: str, other: str) -> bool:
    """Tell whether two fingerprints are of the same sequences, whatever their boxes."""
    return one.partition(BOXES)[0] == other.partition(BOXES)[0]
