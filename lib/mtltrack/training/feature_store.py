"""Tensors of single samples in files below one folder: written whole, checked when read, limited in size."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

SUFFIX = ".safetensors"
TEMPORARY = ".tmp"
GROUP_NAME = re.compile("[0-9a-f]{40}")
USED = "used"  # a file in each group's folder, whose time says when somebody last used the group
UNUSED_AFTER = 3600.0
"""Seconds after which a group that nobody uses may give way to another; also the age of a forgotten file."""
TOUCH_AFTER = 300.0
RESCAN_SHARE = 0.01  # of the limit: what may be written before the folder is measured again
CHECK = "crc32"
KEY = "key"
ABOUT = "about"
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True)
class Entry:
    """What is stored of a sample: tensors by name, and plain values that describe them."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]


class FeatureStore:
    """Entries by group and key. Several processes and runs may use the same folder at once.

    An entry is a safetensors file that appears whole or not at all. It holds its own key and a crc32 of
    itself: one that isn't what was written is told, removed and missing from then on. What can't be written,
    as on a full disk, is told once and left out.

    When the folder has reached its limit, groups that nobody has used for an hour give way, the longest
    unused first; entries of a group in use never do: they are read in the same order epoch after epoch, and
    dropping the least recently used would drop each one shortly before it is wanted. Then writing stops. As
    each process measures the folder now and then only, each may exceed the limit by one percent. What else
    lies in the folder neither counts nor is touched.

    Args:
        folder: made when the first entry is written.
        limit: bytes of all groups in it, whose names have 40 hexadecimal digits.
        tell: takes a sentence for people.

    Attributes:
        sizes: bytes by group when the folder was last measured, and what this process has written since.
    """

    def __init__(self, folder: Path, limit: int, tell: Callable[[str], None]) -> None:
        self.folder, self.limit, self.tell = folder, limit, tell
        self.sizes: Counter[str] = Counter()
        self._unmeasured = 0  # bytes that this process has written since then
        self._full = self._broken = False
        self._told: set[str] = set()
        self._touched: dict[str, float] = {}

    @property
    def size(self) -> int:
        """Bytes in the folder, as far as is known."""
        return self.sizes.total()

    def open(self, group: str) -> None:
        """Measure the folder before much is read and written, and mark the group as used."""
        self._full = False
        self._measure()
        if (self.folder / group).is_dir():
            self._touch(group)

    def has(self, group: str, key: str) -> bool:
        """Tell whether there is an entry; it may still turn out to be damaged."""
        return os.path.isfile(self._path(group, key))  # False, too, where nobody may look

    def read(self, group: str, key: str) -> Entry | None:
        """Return an entry; None where there is none, or none that can be trusted."""
        path = self._path(group, key)
        try:
            entry = _decode(path.read_bytes(), key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, SafetensorError) as error:
            self._tell_damage(path, error)
            return None
        self._touch(group)
        return entry

    def write(self, group: str, key: str, entry: Entry) -> None:
        """Store an entry, if there is room."""
        if self._full or self._broken:
            return
        content = _encode(entry, key)
        if not self._has_room(len(content), group):
            return
        path = self._path(group, key)
        try:
            _write(path, content)
            self._touch(group)
        except FileNotFoundError:  # somebody has just removed the folder
            return
        except OSError as error:
            self._broken = True
            self._tell_once(
                f"WARNING: the feature cache can't be written ({path.parent}: {error.strerror or error}); "
                "training goes on without storing more, and reads what is there"
            )
            return
        self.sizes[group] += len(content)
        self._unmeasured += len(content)

    def _path(self, group: str, key: str) -> Path:
        return self.folder / group / key[:2] / f"{key}{SUFFIX}"

    # ------------------------------------------------------------------------------------------------- room

    def _has_room(self, more: int, group: str) -> bool:
        if self._unmeasured > RESCAN_SHARE * self.limit or self.size + more > self.limit:
            self._measure()
        if self.size + more > self.limit:
            self._make_room(more, group)
        self._full = self.size + more > self.limit
        if self._full:
            self._tell_once(
                f"the feature cache {self.folder} has reached its limit of {in_units(self.limit)} "
                "(TRAIN.FEATURE_CACHE.MAX_GB): what isn't in it is computed each time"
            )
        return not self._full

    def _measure(self) -> None:
        """Add up the files, and remove those that a process which was killed left half written."""
        self.sizes, now = Counter(), time.time()
        for group in self._groups():
            for path in _files_in(group):
                with suppress(OSError):  # another process has removed or renamed it, or it is another user's
                    found = path.stat()
                    if path.name.endswith(TEMPORARY) and now - found.st_mtime > UNUSED_AFTER:
                        path.unlink()
                    else:
                        self.sizes[group.name] += found.st_size
        self._unmeasured = 0

    def _groups(self) -> list[Path]:
        try:
            named = [path for path in self.folder.iterdir() if GROUP_NAME.fullmatch(path.name)]
            return [path for path in named if path.is_dir() and not path.is_symlink()]
        except OSError:  # it isn't there yet, or no longer
            return []

    def _make_room(self, more: int, group: str) -> None:
        unused = [
            (used, folder)
            for folder in self._groups()
            if folder.name != group and time.time() - (used := _last_used(folder)) > UNUSED_AFTER
        ]
        for _, folder in sorted(unused):
            if self.size + more <= self.limit:
                return
            _remove(folder)
            if not folder.exists():
                self.tell(f"feature cache: removed {folder}, which nobody has used lately, to make room")
            self._measure()

    def _touch(self, group: str) -> None:
        """Say that the group is used; seldom, as it is a write."""
        now = time.monotonic()
        if now - self._touched.get(group, -TOUCH_AFTER) < TOUCH_AFTER:
            return
        self._touched[group] = now
        try:
            (self.folder / group / USED).touch()
        except OSError as error:  # read-only: whoever may write decides about room
            self._tell_once(f"the feature cache can't be marked as used ({error.strerror or error})")

    # --------------------------------------------------------------------------------------------- messages

    def _tell_damage(self, path: Path, error: Exception) -> None:
        self.tell(f"WARNING: {path} can't be used ({error}); its features are computed again")
        try:
            path.unlink(missing_ok=True)
        except OSError as failed:
            self._tell_once(f"WARNING: {path} can't be removed either ({failed.strerror or failed})")

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self.tell(sentence)


def _encode(entry: Entry, key: str) -> bytes:
    about = json.dumps(entry.about, sort_keys=True)
    check = _checksum(entry.tensors, about, key)
    return save(entry.tensors, {ABOUT: about, KEY: key, CHECK: check})


def _decode(content: bytes, key: str) -> Entry:
    """Return what `_encode` stored.

    Raises:
        ValueError, SafetensorError: the content is damaged, or another sample's.
    """
    tensors = load(content)
    start = 8 + int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8:start]).get("__metadata__", {})
    about = metadata.get(ABOUT, "")
    if metadata.get(KEY) != key or metadata.get(CHECK) != _checksum(tensors, about, key):
        raise ValueError("its bytes aren't those that were written")
    return Entry(tensors, json.loads(about))


def _checksum(tensors: Mapping[str, Tensor], about: str, key: str) -> str:
    value = zlib.crc32(f"{key} {about}".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(bytes_of(tensor), value)
    return f"{value:08x}"


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor's values in their order, without a copy where they lie so on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _files_in(group: Path) -> list[Path]:
    """Return the files of a group that are a store's."""
    found = [(parent, name) for parent, _, names in os.walk(group) for name in names]
    return [Path(*place) for place in found if place[1] == USED or place[1].endswith((SUFFIX, TEMPORARY))]


def _remove(group: Path) -> None:
    """Remove a group's files, and its folders where nothing else is in them."""
    for path in _files_in(group):
        with suppress(OSError):  # another process has been faster, or it is another user's
            path.unlink()
    for parent, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):  # it isn't empty
            os.rmdir(parent)


def _last_used(folder: Path) -> float:
    """Return when a group was last used, in seconds; one without a mark, when its folder was changed."""
    for path in (folder / USED, folder):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return time.time()  # somebody has just removed it, or it is another user's


def in_units(size: float) -> str:
    """Return a number of bytes for people, in kB, MB or GB of 1000."""
    unit = next((unit for unit in UNITS if size >= unit[0]), UNITS[-1])
    return f"{size / unit[0]:.4g} {unit[1]}"
