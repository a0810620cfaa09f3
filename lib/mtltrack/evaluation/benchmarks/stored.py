"""Files of a benchmark that lie in a folder or in an LMDB: what reads one reads the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mtltrack.data.annotations import decode_text
from mtltrack.data.images import images_in
from mtltrack.data.stores import FolderStore, Store


@dataclass(frozen=True)
class StoredFile:
    """One entry of a store that isn't a folder; it reads like a `pathlib.Path`.

    Attributes:
        store: where it lies.
        key: its path in there.
    """

    store: Store
    key: str

    def read_bytes(self) -> bytes:
        """Return its bytes; raises DataError naming the store and the key."""
        return self.store.read(self.key)

    def read_text(self, encoding: str = "utf-8") -> str:  # noqa: ARG002  # as a Path; always UTF-8 here
        """Return its text, read as UTF-8 with or without byte-order mark."""
        return decode_text(self.read_bytes(), str(self))

    def is_file(self) -> bool:
        """Return whether the store has it."""
        return self.store.exists(self.key)

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem

    def __str__(self) -> str:
        return self.store.locate(self.key)


Frame: TypeAlias = Path | StoredFile


def file_in(store: Store, key: str) -> Frame:
    """Return a file of a store: its path where the store is a folder."""
    return store.root / key if isinstance(store, FolderStore) else StoredFile(store, key)


def frames_in(store: Store, folder: str) -> list[Frame]:
    """Return the images directly below a folder of a store, in natural order (2.jpg before 10.jpg)."""
    return [file_in(store, key) for key in images_in(store, folder)]
