"""Where the bytes of a data set lie: a folder or an LMDB file, behind one interface.

Keys are relative paths with forward slashes, the same for both.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Protocol

import lmdb

from mtltrack.core.errors import DataError

DATA_FILE = "data.mdb"


class Store(Protocol):
    """Reads named byte strings. Objects can be pickled and used after a fork."""

    def read(self, key: str) -> bytes:
        """Return the bytes of `key`; raises DataError naming the store and the key."""
        ...

    def exists(self, key: str) -> bool:
        """Say whether `key` holds bytes."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Return the names directly below the folder `prefix`, in natural order (2 before 10)."""
        ...

    def locate(self, key: str) -> str:
        """Return how to name `key` in a message to people."""
        ...


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sorting key that orders numbers by value: 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts if part)


class FolderStore:
    """A folder; keys are paths relative to it."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(
                f"the data folder {self.root} doesn't exist. Correct the path, or unpack the data set there."
            )

    def read(self, key: str) -> bytes:
        """Return the bytes of the file; raises DataError when it can't be read."""
        try:
            return (self.root / key).read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.locate(key)}: can't be read ({error.strerror or error}). "
                f"Restore the file, or correct the folder {self.root}."
            ) from error

    def exists(self, key: str) -> bool:
        """Say whether `key` is a file."""
        return (self.root / key).is_file()

    def list(self, prefix: str = "") -> list[str]:
        """Return the files and folders directly below `prefix`; [] when there is no such folder."""
        folder = self.root / prefix
        try:
            return sorted(os.listdir(folder), key=natural_key) if folder.is_dir() else []
        except OSError as error:
            raise DataError(
                f"{folder}: can't be listed ({error.strerror or error}). Correct the folder's permissions."
            ) from error

    def locate(self, key: str) -> str:
        """Return the file's path."""
        return str(self.root / key)


class _Environment:
    """One LMDB, opened on first use and anew in a forked process.

    A forked process must not use its parent's handle, and no process may open a file twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: lmdb.Environment | None = None
        self._process = -1

    def begin(self) -> lmdb.Transaction:
        """Start a reading transaction."""
        if self._process != os.getpid():
            if self._handle is not None:
                self._handle.close()
            self._handle = self._open()
            self._process = os.getpid()
        assert self._handle is not None
        return self._handle.begin()

    def _open(self) -> lmdb.Environment:
        try:
            handle = lmdb.open(
                str(self.path),
                subdir=self.path.is_dir(),
                readonly=True,
                lock=False,
                readahead=False,
                meminit=False,
            )
        except lmdb.Error as error:
            raise DataError(f"{self.path}: can't be opened as LMDB ({error}). Pack it again.") from error
        data_file = self.path / DATA_FILE if self.path.is_dir() else self.path
        wanted = (handle.info()["last_pgno"] + 1) * handle.stat()["psize"]
        found = data_file.stat().st_size
        if found < wanted:  # reading what isn't there would kill the process
            handle.close()
            raise DataError(
                f"{data_file}: the LMDB is cut off: it has {found} bytes of {wanted}. Copy it again, or pack "
                "it again with tools/make_lmdb.py."
            )
        return handle


@cache
def _environment(path: Path) -> _Environment:
    """Return the environment that all stores of a path share."""
    return _Environment(path)


class LmdbStore:
    """An LMDB file or folder written by `tools/make_lmdb.py`: relative paths as keys, file bytes as values.

    It is opened on first use in each process, so the object survives pickling and forking.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        data_file = self.path / DATA_FILE if self.path.is_dir() else self.path
        if not data_file.is_file():
            raise DataError(
                f"there is no LMDB at {self.path}. Correct the path, or pack the data set: "
                f"python tools/make_lmdb.py <folder> {self.path}"
            )

    def read(self, key: str) -> bytes:
        """Return the bytes of `key`; raises DataError when there is no such key."""
        try:
            with _environment(self.path).begin() as transaction:
                value = transaction.get(key.encode())
        except lmdb.Error as error:
            raise DataError(f"{self.locate(key)}: can't be read ({error}). Pack it again.") from error
        if value is None:
            raise DataError(
                f"{self.locate(key)}: doesn't exist. Pack the data set again with tools/make_lmdb.py: "
                "keys are paths relative to the packed folder."
            )
        return bytes(value)

    def exists(self, key: str) -> bool:
        """Say whether `key` is in the file."""
        with _environment(self.path).begin() as transaction:
            return transaction.get(key.encode()) is not None

    def list(self, prefix: str = "") -> list[str]:
        """Return the names directly below `prefix`: jumps over what lies deeper."""
        start = f"{prefix.strip('/')}/".encode() if prefix.strip("/") else b""
        names: list[str] = []
        with _environment(self.path).begin() as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            while found and bytes(cursor.key()).startswith(start):
                name, slash, _ = bytes(cursor.key())[len(start) :].partition(b"/")
                names.append(name.decode())
                # "0" follows "/" in the byte order: the first key that isn't below this name
                found = cursor.set_range(start + name + b"0") if slash else cursor.next()
        return sorted(set(names), key=natural_key)

    def locate(self, key: str) -> str:
        """Return the LMDB's path and the key."""
        return f"key '{key}' of the LMDB {self.path}"


def open_store(path: str | Path) -> Store:
    """Return a store for a folder of files or for an LMDB, whichever `path` is."""
    path = Path(path)
    if path.is_file() or (path / DATA_FILE).is_file():
        return LmdbStore(path)
    return FolderStore(path)
