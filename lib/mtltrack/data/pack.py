"""Packing a folder into an LMDB: relative paths as keys, file bytes as values.

Interrupted packing goes on where it stopped: files whose key is there with the right size aren't read again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lmdb

from mtltrack.core.errors import DataError

FIRST_MAP_SIZE = 1 << 30  # bytes; doubled whenever the LMDB is full
BATCH_BYTES = 128 << 20  # written in one transaction
MAX_KEY = 511  # bytes, LMDB's limit

Progress = Callable[[str, int, int], None]
"""Called with a phase ("pack", "verify"), the files done and the files in all."""


def quiet(*_: object) -> None:
    """Show no progress."""


@dataclass
class PackResult:
    """What was done.

    Attributes:
        files: files of the folder, all of them in the LMDB now.
        written: files written by this run.
        kept: files that an earlier run had written.
        size: bytes of all values.
        hashes: key -> SHA-256 of what this run wrote.
    """

    files: int = 0
    written: int = 0
    kept: int = 0
    size: int = 0
    hashes: dict[str, bytes] = field(default_factory=dict)


def list_files(folder: Path) -> list[str]:
    """Return the relative paths of all files of a folder and its sub-folders, sorted; hidden ones left out.

    Raises:
        DataError: the folder doesn't exist, holds no file, or a path is too long for a key.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} to pack. Correct the path.")
    keys = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = Path(place).relative_to(folder)
        keys += [(prefix / name).as_posix() for name in files if not name.startswith(".")]
    keys.sort()
    if not keys:
        raise DataError(f"the folder {folder} holds no files. Unpack the data set there first.")
    for key in keys:
        if len(key.encode()) > MAX_KEY:
            raise DataError(f"the path {key} is longer than {MAX_KEY} bytes, LMDB's limit. Shorten it.")
    return keys


def pack_folder(
    folder: str | Path,
    target: str | Path,
    verify_all: bool = False,
    progress: Progress = quiet,
    first_map_size: int = FIRST_MAP_SIZE,
) -> PackResult:
    """Pack a folder, or go on with it, and check the result.

    What this run wrote is read back and compared by SHA-256; what an earlier run wrote, by size.

    Args:
        folder: what to pack.
        target: folder of the LMDB, made if needed.
        verify_all: read every file once more and compare all values by SHA-256.
        progress: called as the work goes on.
        first_map_size: bytes that the LMDB may grow to before its limit is doubled.

    Raises:
        DataError: a file can't be read, the disk is full, or a value differs from its file; names it.
    """
    folder, target = Path(folder), Path(target)
    if target.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"the LMDB {target} lies within the folder {folder} that it packs. Put it beside the folder."
        )
    keys = list_files(folder)
    target.mkdir(parents=True, exist_ok=True)
    try:
        with lmdb.open(str(target), map_size=first_map_size, meminit=False) as environment:
            result = _write(environment, folder, keys, progress)
            environment.sync(True)
            _verify(environment, folder, keys, result, verify_all, progress)
    except (lmdb.Error, OSError) as error:
        raise DataError(f"packing {folder} into {target} failed: {error}. Run it again to go on.") from error
    return result


def verify_lmdb(folder: str | Path, target: str | Path, progress: Progress = quiet) -> PackResult:
    """Compare every value of an LMDB with its file by SHA-256, without writing.

    Raises:
        DataError: a value differs or is missing, or the LMDB holds keys that the folder doesn't.
    """
    folder, target = Path(folder), Path(target)
    keys = list_files(folder)
    if not (target / "data.mdb").is_file():
        raise DataError(f"there is no LMDB at {target}. Pack the folder first, without --verify-only.")
    with lmdb.open(str(target), readonly=True, lock=False) as environment:
        result = PackResult(files=len(keys), kept=len(keys))
        _verify(environment, folder, keys, result, True, progress)
    return result


def _write(
    environment: lmdb.Environment, folder: Path, keys: Sequence[str], progress: Progress
) -> PackResult:
    result = PackResult(files=len(keys))
    done = 0
    for batch in _batches(folder, keys):
        with environment.begin() as transaction:
            missing = [key for key, size in batch if _size(transaction, key) != size]
        values = {key: (folder / key).read_bytes() for key in missing}
        _put(environment, values)
        result.hashes.update((key, hashlib.sha256(value).digest()) for key, value in values.items())
        result.written += len(missing)
        result.kept += len(batch) - len(missing)
        done += len(batch)
        progress("pack", done, len(keys))
    return result


def _batches(folder: Path, keys: Sequence[str]) -> Iterator[list[tuple[str, int]]]:
    """Yield runs of (key, file size) that are written in one transaction."""
    batch: list[tuple[str, int]] = []
    total = 0
    for key in keys:
        size = (folder / key).stat().st_size
        batch.append((key, size))
        total += size
        if total >= BATCH_BYTES or len(batch) >= 1000:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _size(transaction: lmdb.Transaction, key: str) -> int | None:
    value = transaction.get(key.encode())
    return None if value is None else len(value)


def _put(environment: lmdb.Environment, values: dict[str, bytes]) -> None:
    """Write values in one transaction; a full LMDB gets twice the room and the transaction is repeated."""
    while values:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in values.items():
                    transaction.put(key.encode(), value)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(environment.info()["map_size"] * 2)


def _verify(
    environment: lmdb.Environment,
    folder: Path,
    keys: Sequence[str],
    result: PackResult,
    verify_all: bool,
    progress: Progress,
) -> None:
    remedy = "Delete the LMDB and pack the folder again."
    with environment.begin(buffers=True) as transaction:
        for done, key in enumerate(keys, start=1):
            value = transaction.get(key.encode())
            if value is None:
                raise DataError(f"the LMDB lacks the key '{key}'. Pack the folder again.")
            result.size += len(value)
            wanted = _file_hash(folder / key) if verify_all else result.hashes.get(key)
            same = len(value) == (folder / key).stat().st_size
            if not same or (wanted is not None and hashlib.sha256(value).digest() != wanted):
                raise DataError(f"the value of '{key}' differs from the file {folder / key}. {remedy}")
            if done % 1000 == 0 or done == len(keys):
                progress("verify", done, len(keys))
        if transaction.stat()["entries"] != len(keys):
            extra = transaction.stat()["entries"] - len(keys)
            raise DataError(f"the LMDB holds {extra} keys that aren't files of {folder}. {remedy}")


def _file_hash(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
