"""ImageNet VID (ILSVRC2015): videos whose objects are tracked; each object is a sequence.

    <root>/Annotations/VID/train/<set>/<video>/000000.xml
    <root>/Data/VID/train/<set>/<video>/000000.JPEG
    <root>/cache.json          (optional) the sequences, so that a million XML files needn't be read again

    <set>: ILSVRC2015_VID_train_0000, <video>: ILSVRC2015_train_00000000

cache.json is a list of {set_id, vid_id, start_frame, anno: [[x, y, w, h], ...], target_visible: [...]}, the
form that the published code writes. Without it the XML files are read and it is written. LMDB (`vid_lmdb`):
cache.json and the images.
"""

from __future__ import annotations

import json
import re
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.core.registry import DATASETS
from mtltrack.data.datasets.base import StoredSequences
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.stores import FolderStore, Store, open_store

CACHE = "cache.json"
ANNOTATIONS = "Annotations/VID/train"
_LAST_NUMBER = re.compile(r"(\d+)$")


@DATASETS.register_module()
class ImagenetVid(StoredSequences):
    """ImageNet VID from a folder or an LMDB. A frame counts as visible when the object isn't marked as
    occluded.

    Args:
        root: the folder (ILSVRC2015) or LMDB.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(open_store(root))
        self.name = "vid"
        self._tracks = self._read_tracks()
        self.names = [
            f"{track['set_id']:04d}/{track['vid_id']:08d}/{number}"
            for number, track in enumerate(self._tracks)
        ]
        self._require_names(f"{CACHE} or {ANNOTATIONS}")

    def _read_tracks(self) -> list[dict[str, Any]]:
        if self.store.exists(CACHE):
            return _read_cache(self.store)
        tracks = read_annotations(self.store)
        if isinstance(self.store, FolderStore):
            _write_cache(self.store.root / CACHE, tracks)
        return tracks

    def _load(self, i: int) -> SequenceInfo:
        track = self._tracks[i]
        boxes = np.array(track["anno"], dtype=np.float64).reshape(-1, 4)
        visible = np.array(track["target_visible"], dtype=bool) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
        return SequenceInfo(self.names[i], boxes, visible, first_frame=track["start_frame"] + 1)

    def _image_key(self, i: int, frame: int) -> str:
        track = self._tracks[i]
        folder = f"ILSVRC2015_VID_train_{track['set_id']:04d}/ILSVRC2015_train_{track['vid_id']:08d}"
        return f"Data/VID/train/{folder}/{track['start_frame'] + frame:06d}.JPEG"


def _read_cache(store: Store) -> list[dict[str, Any]]:
    try:
        tracks = json.loads(store.read(CACHE))
        for track in tracks:
            if len(track["anno"]) != len(track["target_visible"]):
                raise ValueError("anno and target_visible differ in length")
            track["set_id"], track["vid_id"] = int(track["set_id"]), int(track["vid_id"])
            track["start_frame"] = int(track["start_frame"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{store.locate(CACHE)} isn't a list of sequences ({error!r}). "
            "Delete it: it is written anew from the XML files."
        ) from error
    return list(tracks)


def _write_cache(path: Path, tracks: list[dict[str, Any]]) -> None:
    """Write the cache in one step, so that no other process reads half of it."""
    part = path.with_suffix(".part")
    try:
        part.write_text(json.dumps(tracks), encoding="utf-8")
        part.replace(path)
    except OSError as error:  # a read-only data set stays usable
        warnings.warn(f"can't write {path} ({error}): the next start reads all XML files again", stacklevel=2)


def read_annotations(store: Store) -> list[dict[str, Any]]:
    """Read all XML files; slow (a million files), so done once."""
    tracks: list[dict[str, Any]] = []
    for group in store.list(ANNOTATIONS):
        for video in store.list(f"{ANNOTATIONS}/{group}"):
            folder = f"{ANNOTATIONS}/{group}/{video}"
            frames = [_read_frame(store, f"{folder}/{name}") for name in store.list(folder)]
            set_id, vid_id = (int(_LAST_NUMBER.search(name)[1]) for name in (group, video))  # type: ignore[index]
            tracks += [{"set_id": set_id, "vid_id": vid_id, **track} for track in _video_tracks(frames)]
    return tracks


def _read_frame(store: Store, key: str) -> dict[str, tuple[list[float], bool]]:
    """Return track id -> box xywh and whether the object is visible."""
    try:
        root = ElementTree.fromstring(store.read(key))
        objects = {}
        for item in root.findall("object"):
            left, top, right, bottom = (
                float(item.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax")
            )
            box = [left, top, right - left, bottom - top]
            objects[item.findtext("trackid", "")] = (box, item.findtext("occluded") == "0")
        return objects
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"{store.locate(key)}: isn't an annotation of ImageNet VID ({error}). Unpack it again."
        ) from error


def _video_tracks(frames: list[dict[str, tuple[list[float], bool]]]) -> list[dict[str, Any]]:
    """Follow each object from its first frame until it is first missing, as the published code does."""
    tracks: list[dict[str, Any]] = []
    seen: set[str] = set()
    for start, objects in enumerate(frames):
        for track_id in objects:
            if track_id in seen:
                continue
            seen.add(track_id)
            length = next(
                (k for k, later in enumerate(frames[start:]) if track_id not in later), len(frames) - start
            )
            entries = [later[track_id] for later in frames[start : start + length]]
            tracks.append(
                {
                    "start_frame": start,
                    "anno": [box for box, _ in entries],
                    "target_visible": [visible for _, visible in entries],
                }
            )
    return tracks
