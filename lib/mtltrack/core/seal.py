"""A sha256 inside the file: what a checkpoint held when it was written travels with it.

A torch file is a zip archive, which may end in a comment; torch and every other reader pass over it. Here
the comment is a mark and the digest of all bytes before it, so that a file and its digest appear, move and
vanish together: no crash can come between them.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mtltrack.core.errors import CheckpointError

MARK = b"mtltrack-sha256:"
DIGITS = 64
_LENGTH = len(MARK) + DIGITS
_END = b"PK\x05\x06"  # of the zip format's last record, 22 bytes with the comment's length at its end
_RECORD = 22


def seal(file: BinaryIO) -> None:
    """Add the digest to a zip archive that was just written.

    Args:
        file: open for reading and writing; left at its end.

    Raises:
        ValueError: it isn't a zip archive without a comment.
    """
    file.seek(-_RECORD, 2)
    record = file.read(_RECORD)
    if not record.startswith(_END) or record[-2:] != b"\0\0":
        raise ValueError("only a zip archive without a comment can be sealed")
    file.seek(-2, 2)
    file.write(_LENGTH.to_bytes(2, "little") + MARK)
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    file.write(digest.hexdigest().encode())


def check_seal(path: Path) -> bool:
    """Compare a file with the digest in it.

    Returns:
        Whether it has one; files of other programs, or saved again by them, have none.

    Raises:
        CheckpointError: the file isn't what was written.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        if not _has_seal(file):
            return False
        _digest(file, path)
    return True


@dataclass(frozen=True)
class Checked:
    """A file that was compared with its own digest, where it has one.

    Attributes:
        sha256: of the whole file.
        stamp: what the system said of it: device, number, size, time of the last change (ns).
    """

    sha256: str
    stamp: tuple[int, int, int, int]

    def still(self, path: Path) -> bool:
        """Tell whether `path` is the file that was checked, unchanged since."""
        return _stamp(path.stat()) == self.stamp


def check_file(path: Path) -> Checked:
    """Read a file once: take its sha256 and compare it with the digest in it, where it has one.

    Raises:
        CheckpointError: the file can't be read, or isn't what was written.
    """
    try:
        with path.open("rb") as file:
            stamp = _stamp(os.fstat(file.fileno()))
            return Checked(_digest(file, path), stamp)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _digest(file: BinaryIO, path: Path) -> str:
    """Return the sha256 of a whole file; raise if it has a seal that says another."""
    sealed = _has_seal(file)
    rest = file.seek(0, 2) - (DIGITS if sealed else 0)
    file.seek(0)
    digest = hashlib.sha256()
    while rest > 0 and (block := file.read(min(rest, 1 << 20))):
        digest.update(block)
        rest -= len(block)
    if sealed:
        said = file.read()
        if digest.hexdigest().encode() != said:
            raise CheckpointError(
                f"{path} is damaged: its bytes aren't those that were written (their sha256 is another one)"
            )
        digest.update(said)
    return digest.hexdigest()


def _has_seal(file: BinaryIO) -> bool:
    size = file.seek(0, 2)
    file.seek(max(0, size - _RECORD - _LENGTH))
    return _is_sealed(file.read())


def _is_sealed(tail: bytes) -> bool:
    """Tell by a file's last bytes whether it was sealed: no single damage hides both signs of it."""
    if tail[-_LENGTH:-DIGITS] == MARK:
        return True
    at = tail.rfind(_END)
    return at >= 0 and tail[at + _RECORD - 2 : at + _RECORD] == _LENGTH.to_bytes(2, "little")
