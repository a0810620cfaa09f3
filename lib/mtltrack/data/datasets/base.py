"""What the data sets share: a store, a bounded memory of what was read, decoding of frames."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.data.annotations import decode_text
from mtltrack.data.images import decode_image
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.stores import Store

_REMEMBERED = 4096  # sequences; bounds what a worker keeps of a data set with tens of thousands


class StoredSequences:
    """Base of the data sets that read from a store.

    A subclass fills `names` and gives `_load(i)`, which reads the annotation of a sequence, and `_image_key(i, frame)`.
    """

    name = "sequences"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.names: list[str] = []
        self._known: OrderedDict[int, SequenceInfo] = OrderedDict()

    @property
    def num_sequences(self) -> int:
        """How many sequences there are."""
        return len(self.names)

    def sequence(self, i: int) -> SequenceInfo:
        """Return what is known of sequence `i`; read once, then remembered."""
        if i not in self._known:
            self._known[i] = self._load(i)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[i]

    def image(self, i: int, frame: int) -> np.ndarray:
        """Return frame `frame` (from 0) of sequence `i` as (H, W, 3) uint8 RGB."""
        key = self._image_key(i, frame)
        return decode_image(self.store.read(key), self.store.locate(key))

    def _load(self, i: int) -> SequenceInfo:
        raise NotImplementedError

    def _image_key(self, i: int, frame: int) -> str:
        raise NotImplementedError

    def _text(self, key: str) -> str:
        return decode_text(self.store.read(key), self.store.locate(key))

    def _require_names(self, wanted: str) -> None:
        """Raise DataError when the data set is empty."""
        if not self.names:
            raise DataError(
                f"{self.name} has no sequences: {self.store.locate('')} holds no {wanted}. "
                "Correct the folder, or unpack the data set there (layouts: docs/data.md)."
            )
