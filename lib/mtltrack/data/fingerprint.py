"""A short mark of what a data set holds: whether a resumed run, or another machine's, reads the same data."""

from __future__ import annotations

import hashlib

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.data.sequences import SequenceDataset

LOOKED_AT = 8  # sequences whose annotation is read


def fingerprint(source: SequenceDataset) -> str:
    """Return "<number> sequences, <12 hexadecimal digits>".

    The digits follow from all names and, of a few sequences spread over the data set, from boxes and visible
    frames. Images and labels of tasks are not read: it costs a moment, whatever the size of the data set.
    """
    digest = hashlib.sha256()
    number = source.num_sequences
    for i in range(number):
        digest.update(source.sequence_name(i).encode() + b"\0")
    for i in sorted({round(place) for place in np.linspace(0, number - 1, min(LOOKED_AT, number))}):
        try:
            info = source.sequence(i)
        except DataError:
            digest.update(b"unreadable")  # a fault that sampling will meet and count
            continue
        digest.update(np.ascontiguousarray(info.boxes_xywh).tobytes())
        digest.update(np.ascontiguousarray(info.visible).tobytes())
    return f"{number} sequences, {digest.hexdigest()[:12]}"
