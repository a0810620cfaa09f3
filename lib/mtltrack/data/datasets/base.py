"""What the data sets share: a store, a bounded memory of what was read, decoding of frames."""

from __future__ import annotations

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.data.annotations import decode_text, parse_boxes, parse_flags
from mtltrack.data.images import decode_image
from mtltrack.data.recent import Recent
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.stores import Store


class StoredSequences:
    """Base of the data sets that read from a store.

    A subclass fills `names` and gives `_load(i)`, which reads the annotation of a sequence, and
    `_image_key(i, frame)`.

    Attributes:
        labelled_tasks: tasks beside the box that the data set may label by itself, without side-car labels.
    """

    name = "sequences"
    labelled_tasks: tuple[str, ...] = ()

    def __init__(self, store: Store) -> None:
        self.store = store
        self.names: list[str] = []
        self._known: Recent[SequenceInfo] = Recent()

    @property
    def num_sequences(self) -> int:
        """How many sequences there are."""
        return len(self.names)

    def sequence_name(self, i: int) -> str:
        """Return the name of sequence `i`."""
        return self.names[i]

    def sequence(self, i: int) -> SequenceInfo:
        """Return what is known of sequence `i`; read once, then remembered."""
        return self._known.get(i, self._load)

    def image(self, i: int, frame: int) -> np.ndarray:
        """Return frame `frame` (from 0) of sequence `i` as (H, W, 3) uint8 RGB."""
        return decode_image(*self._image_file(i, frame))

    def encoded(self, i: int, frame: int) -> tuple[bytes, str] | None:
        """Return the file of a frame and its name, to be decoded later; None where `image` does more."""
        if type(self).image is not StoredSequences.image:
            return None
        return self._image_file(i, frame)

    def mask(self, i: int, frame: int) -> np.ndarray:
        """Return the target's mask (H, W) uint8; a data set with masks gives its own.

        Raises:
            DataError: this data set has no masks.
        """
        raise DataError(
            f"frame {frame + 1} of '{self.sequence_name(i)}' has no mask: {self.name} comes without masks. "
            "Give it some with CLS_ANN_DIR, or train the task seg on other data (docs/data.md)."
        )

    def _image_file(self, i: int, frame: int) -> tuple[bytes, str]:
        """Return the bytes of a frame's file and how to name it in a message."""
        store, key = self._store(i), self._image_key(i, frame)
        return store.read(key), store.locate(key)

    def _load(self, i: int) -> SequenceInfo:
        raise NotImplementedError

    def _image_key(self, i: int, frame: int) -> str:
        raise NotImplementedError

    def _store(self, i: int) -> Store:  # noqa: ARG002  # a data set may spread over several stores
        return self.store

    def _boxes(
        self, store: Store, key: str, zero_is_absent: bool = True
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Read a box file: (F, 4) float64, NaN where the target is absent, and its faults."""
        name = store.locate(key)
        return parse_boxes(decode_text(store.read(key), name), name, zero_is_absent)

    def _flags(self, store: Store, key: str, frames: int, boxes_key: str, highest: int = 1) -> np.ndarray:
        """Read a file of one integer a frame, 0 to `highest`: (F,) int64."""
        name = store.locate(key)
        text = decode_text(store.read(key), name)
        return parse_flags(text, name, frames, store.locate(boxes_key), highest)

    def _require_names(self, wanted: str) -> None:
        """Raise DataError when the data set is empty."""
        if not self.names:
            raise DataError(
                f"{self.name} has no sequences: {self.store.locate('')} holds no {wanted}. "
                "Correct the folder, or unpack the data set there (layouts: docs/data.md)."
            )


def present(boxes_xywh: np.ndarray) -> np.ndarray:
    """Return (F,) bool, where a box file has a box."""
    return ~np.isnan(boxes_xywh).any(axis=1)
