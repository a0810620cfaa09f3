"""TrackingNet: twelve sets TRAIN_0 to TRAIN_11 of about 2,500 sequences each.

    <root>/TRAIN_<n>/anno/<video>.txt         x,y,w,h a frame
    <root>/TRAIN_<n>/frames/<video>/0.jpg     counted from 0

LMDB: one file a set, `<root>/TRAIN_<n>_lmdb`, with the keys anno/... and frames/...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.core.registry import DATASETS
from mtltrack.data.datasets.base import StoredSequences, present
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.stores import FolderStore, Store, open_store

NUM_SETS = 12


@DATASETS.register_module()
class TrackingNet(StoredSequences):
    """TrackingNet from folders or LMDBs. A frame counts as visible when its box has an area.

    Args:
        root: the folder that holds TRAIN_<n> or TRAIN_<n>_lmdb.
        sets: which sets, 0 to 11; None: those that are there.
    """

    def __init__(self, root: str | Path, sets: Sequence[int] | None = None) -> None:
        super().__init__(FolderStore(root))
        self.name = "trackingnet"
        there = {n: path for n in range(NUM_SETS) if (path := _set_path(Path(root), n)) is not None}
        lacking = [n for n in sets or () if n not in there]
        if lacking or not there:
            raise DataError(
                f"TrackingNet at {root} has no set {_set_names(lacking) or 'TRAIN_0 to TRAIN_11'} "
                f"(nor TRAIN_<n>_lmdb); there: {_set_names(there) or 'none'}. Correct SETS or the root."
            )
        self._places: list[Store] = []
        for n in there if sets is None else sets:
            store = open_store(there[n])
            names = [Path(entry).stem for entry in store.list("anno") if entry.endswith(".txt")]
            self.names += names
            self._places += [store] * len(names)
        self._require_names("anno/<video>.txt in its sets")

    def _store(self, i: int) -> Store:
        return self._places[i]

    def _load(self, i: int) -> SequenceInfo:
        store, key = self._store(i), f"anno/{self.names[i]}.txt"
        boxes, faults = self._boxes(store, key)
        known = present(boxes)
        return SequenceInfo(
            self.names[i],
            np.nan_to_num(boxes),
            known,
            whole_length=len(boxes),
            faults=faults,
            boxes_file=store.locate(key),
        )

    def _image_key(self, i: int, frame: int) -> str:
        return f"frames/{self.names[i]}/{frame}.jpg"


def _set_names(sets: Iterable[int]) -> str:
    return ", ".join(f"TRAIN_{n}" for n in sets)


def _set_path(root: Path, n: int) -> Path | None:
    candidates = (root / f"TRAIN_{n}", root / f"TRAIN_{n}_lmdb")
    return next((path for path in candidates if path.exists()), None)
