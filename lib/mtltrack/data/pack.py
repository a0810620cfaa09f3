"""Packing a folder into an LMDB: relative paths as keys, file bytes as values.

An LMDB is written under another name, `<target>.partial`, and gets its own when it is complete and checked:
what stands at the target is never half of a data set. Interrupted packing goes on where it stopped. Beside
the LMDB, `sources.mdb` holds the size and the time of change that each file had when it was packed: a file
that still has both isn't read again; any other is, and is written unless its bytes are in the LMDB already.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import lmdb

from mtltrack.core.errors import DataError
from mtltrack.data.stores import DATA_FILE

FIRST_MAP_SIZE = 1 << 30  # bytes; doubled whenever the LMDB is full
BATCH_BYTES = 128 << 20  # written in one transaction
MAX_KEY = 511  # bytes, LMDB's limit
SOURCES = "sources.mdb"
LOCKS = ("lock.mdb", f"{SOURCES}-lock")
PARTIAL = ".partial"

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
        kept: files that an earlier run had written: `unchanged` and `compared`.
        unchanged: of the kept, those that weren't read: size and time of change are those when packed.
        compared: of the kept, those whose bytes were compared, since time or size weren't known to be these.
        size: bytes of all values.
        hashes: key -> SHA-256 of what this run wrote.
    """

    files: int = 0
    written: int = 0
    unchanged: int = 0
    compared: int = 0
    size: int = 0
    hashes: dict[str, bytes] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        return self.unchanged + self.compared


class _Stamp(NamedTuple):
    """Size in bytes and time of the last change in nanoseconds of a file."""

    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> _Stamp:
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)

    def pack(self) -> bytes:
        return struct.pack("<qq", *self)


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

    What this run wrote or compared is read back and checked by SHA-256; files that are as they were when an
    earlier run packed them, by size. An LMDB that is up to date already stays where it is; one that isn't is
    moved to the partial name until it is.

    Args:
        folder: what to pack.
        target: folder of the LMDB, made when it is complete.
        verify_all: read every file once more and compare all values by SHA-256.
        progress: called as the work goes on.
        first_map_size: bytes that the LMDB may grow to before its limit is doubled.

    Raises:
        DataError: a file can't be read, the disk is full, or a value differs from its file; names it.
    """
    folder, target = Path(folder), Path(target)
    partial = target.with_name(target.name + PARTIAL)
    if target.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"the LMDB {target} lies within the folder {folder} that it packs. Put it beside the folder."
        )
    keys = list_files(folder)
    try:
        if (target / DATA_FILE).is_file():
            if _is_up_to_date(target, folder, keys):
                result = PackResult(files=len(keys), unchanged=len(keys))
                with lmdb.open(str(target), readonly=True, lock=False) as environment:
                    _verify(environment, folder, keys, result, verify_all, progress)
                return result
            _move_aside(target, partial)
        partial.mkdir(parents=True, exist_ok=True)
        with (
            lmdb.open(str(partial), map_size=first_map_size, meminit=False) as environment,
            lmdb.open(str(partial / SOURCES), subdir=False, map_size=first_map_size) as sources,
        ):
            result = _write(environment, sources, folder, keys, progress)
            environment.sync(True)
            _verify(environment, folder, keys, result, verify_all, progress)
        for name in LOCKS:
            (partial / name).unlink(missing_ok=True)
        partial.rename(target)
    except (lmdb.Error, OSError) as error:
        raise DataError(
            f"packing {folder} into {target} failed: {error}. What is done so far lies in {partial}: make "
            "room or correct what is wrong, and run it again to go on."
        ) from error
    return result


def _is_up_to_date(target: Path, folder: Path, keys: Sequence[str]) -> bool:
    """Say whether every file is as it was when it was packed, without reading any."""
    if not (target / SOURCES).is_file():
        return False
    with (
        lmdb.open(str(target), readonly=True, lock=False) as environment,
        lmdb.open(str(target / SOURCES), subdir=False, readonly=True, lock=False) as sources,
        environment.begin(buffers=True) as values,
        sources.begin() as stamps,
    ):
        return all(_unchanged(values, stamps, key, _Stamp.of(folder / key)) for key in keys)


def _move_aside(target: Path, partial: Path) -> None:
    if partial.exists():
        raise DataError(
            f"both {target} and {partial} are there, and neither is known to be the better one. Delete one "
            "of them, and pack again."
        )
    target.rename(partial)


def verify_lmdb(folder: str | Path, target: str | Path, progress: Progress = quiet) -> PackResult:
    """Compare every value of an LMDB with its file by SHA-256, without writing.

    Raises:
        DataError: a value differs or is missing, or the LMDB holds keys that the folder doesn't.
    """
    folder, target = Path(folder), Path(target)
    keys = list_files(folder)
    if not (target / DATA_FILE).is_file():
        raise DataError(f"there is no LMDB at {target}. Pack the folder first, without --verify-only.")
    with lmdb.open(str(target), readonly=True, lock=False) as environment:
        result = PackResult(files=len(keys), compared=len(keys))
        _verify(environment, folder, keys, result, True, progress)
    return result


def _write(
    environment: lmdb.Environment,
    sources: lmdb.Environment,
    folder: Path,
    keys: Sequence[str],
    progress: Progress,
) -> PackResult:
    result = PackResult(files=len(keys))
    done = 0
    for batch in _batches(folder, keys):
        with environment.begin() as values, sources.begin() as stamps:
            changed = {
                key: stamp for key, stamp in batch.items() if not _unchanged(values, stamps, key, stamp)
            }
            contents = {key: (folder / key).read_bytes() for key in changed}
            missing = {key: value for key, value in contents.items() if values.get(key.encode()) != value}
        _put(environment, missing)
        _put(
            sources, {key: stamp.pack() for key, stamp in changed.items()}
        )  # last: it vouches for the values
        result.hashes.update((key, hashlib.sha256(value).digest()) for key, value in contents.items())
        result.written += len(missing)
        result.compared += len(changed) - len(missing)
        result.unchanged += len(batch) - len(changed)
        done += len(batch)
        progress("pack", done, len(keys))
    return result


def _unchanged(values: lmdb.Transaction, stamps: lmdb.Transaction, key: str, stamp: _Stamp) -> bool:
    """Say whether a file is as it was when its value was written."""
    value = values.get(key.encode())
    return value is not None and len(value) == stamp.size and stamps.get(key.encode()) == stamp.pack()


def _batches(folder: Path, keys: Sequence[str]) -> Iterator[dict[str, _Stamp]]:
    """Yield runs of files that are written in one transaction."""
    batch: dict[str, _Stamp] = {}
    total = 0
    for key in keys:
        batch[key] = _Stamp.of(folder / key)
        total += batch[key].size
        if total >= BATCH_BYTES or len(batch) >= 1000:
            yield batch
            batch, total = {}, 0
    if batch:
        yield batch


def _put(environment: lmdb.Environment, values: Mapping[str, bytes]) -> None:
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
