"""A folder of sequences in the OTB layout: the way to train on one's own videos.

    <root>/<sequence>/img/0001.jpg ...      (or in imgs, images, color, or directly in <root>/<sequence>)
    <root>/<sequence>/groundtruth_rect.txt  (or any one groundtruth*.txt): x,y,w,h a frame
    <root>/<sequence>/attrs.txt             (optional: OTB attributes, see CONDITIONS)

Boxes are 1-based pixels as in OTB, or 0-based with ONE_BASED: false. A frame without the target:
nan,nan,nan,nan. Several targets in one folder: groundtruth_rect.1.txt, groundtruth_rect.2.txt become
<sequence>-1, <sequence>-2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtltrack.core.errors import ConfigError, DataError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.data.annotations import decode_text, same_count
from mtltrack.data.datasets.base import StoredSequences, present
from mtltrack.data.images import sequence_images, with_missing
from mtltrack.data.labels import (
    attributes_of,
    condition_labels,
    otb_flags,
    otb_known,
    read_attribute_file,
    split_attributes,
)
from mtltrack.data.recent import Recent
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.stores import Store, open_store

OTB = "otb"
PREFERRED = "groundtruth_rect.txt"
_ONE_OF_SEVERAL = re.compile(r"groundtruth_rect\.(\d+)\.txt$")


class _Entry(NamedTuple):
    folder: str
    boxes_key: str


@DATASETS.register_module()
class FolderSequences(StoredSequences):
    """Sequences of one folder or LMDB in the OTB layout.

    Args:
        root: the folder, or an LMDB packed from it.
        ranges: sequence -> [first, last] frame, counted from 1, both included. When given, only these
            sequences are used.
        conditions: "otb" takes scene conditions from OTB attributes; None leaves the frames unlabelled.
        attributes: JSON file (may be .gz) with the attributes of sequences that have no attrs.txt.
        fps: frames a second, for time stamps.
        one_based: box pixels count from 1 (OTB), so 1 is subtracted from x and y.
        name: what messages call the data set.

    Raises:
        DataError: no sequences, a range beyond a sequence, or CONDITIONS without any attribute.
    """

    labelled_tasks = ("cls",)

    def __init__(
        self,
        root: str | Path,
        ranges: Mapping[str, Sequence[int]] | None = None,
        conditions: str | None = None,
        attributes: str | Path | None = None,
        fps: float = 30.0,
        one_based: bool = True,
        name: str = "folder",
    ) -> None:
        super().__init__(open_store(root))
        if fps <= 0 or conditions not in (None, OTB):
            near = did_you_mean(str(conditions), [OTB]) if conditions is not None else ""
            raise ConfigError(
                f"FolderSequences needs FPS above 0, CONDITIONS otb or null; found {fps}, "
                f"{conditions!r}.{near}"
            )
        self.name = name
        self.fps = fps
        self.one_based = one_based
        entries = find_sequences(self.store)
        self.ranges = checked_ranges(ranges, list(entries), self.store.locate(""))
        self.names = [entry for entry in entries if ranges is None or entry in self.ranges]
        self._require_names("sequence folders with a groundtruth*.txt")
        self._entries = [entries[entry] for entry in self.names]
        self._image_keys: Recent[list[str]] = Recent()
        self._flags_of = self._read_attributes(attributes) if conditions == OTB else {}

    def _read_attributes(self, path: str | Path | None) -> dict[str, np.ndarray]:
        """Return sequence -> (10,) flags, of the sequences that have attributes."""
        table = read_attribute_file(path) if path is not None else {}
        flags: dict[str, np.ndarray] = {}
        for name, entry in zip(self.names, self._entries, strict=True):
            key = f"{entry.folder}/attrs.txt"
            where = self.store.locate(key)
            attributes = attributes_of(name, table)
            if self.store.exists(key):
                attributes = split_attributes(decode_text(self.store.read(key), where))
            elif attributes is not None:
                where = f"{path}, '{name}'"
            if attributes is not None:
                flags[name] = otb_flags(attributes, where)
        if not flags:
            raise DataError(
                f"CONDITIONS: otb finds no attributes for the sequences of {self.store.locate('')}. "
                "Write an attrs.txt beside the boxes (IV, SV, ...), name a JSON file with ATTRIBUTES, "
                "or leave CONDITIONS out."
            )
        return flags

    def _list_images(self, i: int) -> list[str]:
        """Return the keys of the used frames."""
        folder = self._entries[i].folder
        images = sequence_images(self.store, folder)
        key = self._entries[i].boxes_key
        boxes, _ = self._boxes(self.store, key)
        images = with_missing(images, len(boxes))
        same_count(self.store.locate(key), len(boxes), f"the folder of {images[0]}", len(images))
        first, last = self.ranges.get(self.names[i], (1, len(images)))
        if last > len(images):
            raise DataError(
                f"RANGES of '{self.names[i]}' ends at frame {last}, but the sequence has {len(images)}. "
                "Correct RANGES."
            )
        return images[first - 1 : last]

    def _load(self, i: int) -> SequenceInfo:
        name = self.names[i]
        frames = len(self._image_keys.get(i, self._list_images))
        boxes, faults = self._boxes(self.store, self._entries[i].boxes_key, zero_is_absent=False)
        whole = len(boxes)
        start = self.ranges.get(name, (1, 0))[0] - 1
        boxes = boxes[start : start + frames]
        if self.one_based:
            boxes = boxes - (1.0, 1.0, 0.0, 0.0)
        labels = {}
        if name in self._flags_of:
            flags = np.repeat(self._flags_of[name][None], frames, axis=0)
            labels["cls"] = condition_labels(flags, np.ones(frames, dtype=bool), otb_known())
        return SequenceInfo(
            name=name,
            boxes_xywh=np.nan_to_num(boxes),
            visible=present(boxes),
            fps=self.fps,
            labels=labels,
            first_frame=start + 1,
            whole_length=whole,
            boxes_file=self.store.locate(self._entries[i].boxes_key),
            faults={frame - start: text for frame, text in faults.items() if 0 <= frame - start < frames},
        )

    def _image_key(self, i: int, frame: int) -> str:
        return self._image_keys.get(i, self._list_images)[frame]


def find_sequences(store: Store) -> dict[str, _Entry]:
    """Return the sequences of a folder, by name."""
    found: dict[str, _Entry] = {}
    for folder in store.list():
        files = [
            entry
            for entry in store.list(folder)
            if entry.startswith("groundtruth") and entry.endswith(".txt")
        ]
        several = [match for entry in files if (match := _ONE_OF_SEVERAL.match(entry))]
        if PREFERRED in files or len(files) == 1:
            key = f"{folder}/{PREFERRED if PREFERRED in files else files[0]}"
            found[folder] = _Entry(folder, key)
        elif several:
            for match in several:
                found[f"{folder}-{match[1]}"] = _Entry(folder, f"{folder}/{match[0]}")
        elif files:
            raise DataError(
                f"{store.locate(folder)} has several box files ({', '.join(files)}) and no {PREFERRED}. "
                f"Name the right one {PREFERRED}."
            )
    return found


def checked_ranges(
    ranges: Mapping[str, Sequence[int]] | None, found: list[str], where: str
) -> dict[str, tuple[int, int]]:
    """Return the RANGES of the sequences that have one; raises DataError for a wrong name or range."""
    checked: dict[str, tuple[int, int]] = {}
    for name, limits in (ranges or {}).items():
        if name not in found:
            raise DataError(
                f"RANGES names the sequence '{name}', which isn't in {where}.{did_you_mean(name, found)} "
                f"There: {', '.join(found[:20]) or 'none'}."
            )
        if len(limits) != 2 or not 1 <= int(limits[0]) <= int(limits[1]):
            raise DataError(
                f"RANGES of '{name}' must be [first, last] with 1 <= first <= last, both included; "
                f"found {list(limits)}."
            )
        checked[name] = (int(limits[0]), int(limits[1]))
    return checked
