"""A sha256 inside the file: what a checkpoint held when it was written travels with it.

A torch file is a zip archive, which may end in a comment; torch and every other reader pass over it. Here
the comment is a mark and the digest of all bytes before it, so that a file and its digest appear, move and
vanish together: no crash can come between them.
"""

from __future__ import annotations

import hashlib
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
        size = file.seek(0, 2)
        file.seek(max(0, size - _RECORD - _LENGTH))
        tail = file.read()
        if not _is_sealed(tail):
            return False
        rest = size - DIGITS
        digest = hashlib.sha256()
        file.seek(0)
        while rest > 0 and (block := file.read(min(rest, 1 << 20))):
            digest.update(block)
            rest -= len(block)
    if digest.hexdigest().encode() != tail[-DIGITS:]:
        raise CheckpointError(
            f"{path} is damaged: its bytes aren't those that were written (their sha256 is another one)"
        )
    return True


def _is_sealed(tail: bytes) -> bool:
    """Tell by a file's last bytes whether it was sealed: no single damage hides both signs of it."""
    if tail[-_LENGTH:-DIGITS] == MARK:
        return True
    at = tail.rfind(_END)
    return at >= 0 and tail[at + _RECORD - 2 : at + _RECORD] == _LENGTH.to_bytes(2, "little")
