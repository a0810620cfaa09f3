"""GOT-10k: 9,335 training and 180 validation sequences at 10 frames a second.

    <root>/train/list.txt                   names of the sequences, one a line
    <root>/train/<seq>/groundtruth.txt      x,y,w,h a frame
    <root>/train/<seq>/absence.label        1 where the target is absent
    <root>/train/<seq>/cover.label          0 (hidden) to 8 (fully visible)
    <root>/train/<seq>/meta_info.ini        anno_fps and more
    <root>/train/<seq>/00000001.jpg         counted from 1
    <root>/val/...                          the same (split official_val)

LMDB (`got10k_lmdb`): the same paths as keys, `train/...`.

The splits vottrain and votval are published as lists of line numbers of list.txt (counted from 0). The lists
aren't part of this package: copy `got10k_vot_train_split.txt` and `got10k_vot_val_split.txt` from
`lib/train/data_specs` of an OSTrack or HIPTrack checkout into the root, or name the file with SPLIT_FILE.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import numpy as np

from mtltrack.core.errors import ConfigError, DataError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.data.annotations import decode_text
from mtltrack.data.datasets.base import StoredSequences, present
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.splits import read_split
from mtltrack.data.stores import LmdbStore, open_store

SPLIT_FILES = {"vottrain": "got10k_vot_train_split.txt", "votval": "got10k_vot_val_split.txt"}
MOST_COVER = 8  # eighths of the target that can be seen
SPLITS = (*SPLIT_FILES, "train_full", "official_val")
DEFAULT_FPS = 10.0
_NUMBER = re.compile(r"\d+(\.\d+)?")


@DATASETS.register_module()
class Got10k(StoredSequences):
    """GOT-10k from a folder or an LMDB. A frame counts as visible when absence is 0, cover is above 0 and it
    has a box.

    Args:
        root: the folder that holds train/ and val/, or the LMDB.
        split: vottrain, votval, train_full (all of train/) or official_val (all of val/).
        split_file: text file with one sequence a line: its line number in list.txt from 0, or its name.
            Needed for vottrain and votval unless the published file lies in the root.
    """

    def __init__(
        self, root: str | Path, split: str = "train_full", split_file: str | Path | None = None
    ) -> None:
        if split not in SPLITS:
            near = did_you_mean(split, SPLITS)
            raise ConfigError(f"SPLIT of GOT-10k is '{split}'.{near} Choose one of {', '.join(SPLITS)}.")
        super().__init__(open_store(root))
        self.name = f"got10k_{split}"
        self.part = "val" if split == "official_val" else "train"
        list_key = f"{self.part}/list.txt"
        listed = decode_text(self.store.read(list_key), self.store.locate(list_key)).split()
        if split_file is None and split in SPLIT_FILES:
            split_file = self._published_file(Path(root), split)
        self.names = listed if split_file is None else read_split(split_file, listed)
        self._require_names(f"names in {list_key}")

    def _published_file(self, root: Path, split: str) -> Path:
        folder = root.parent if isinstance(self.store, LmdbStore) and root.is_file() else root
        path = folder / SPLIT_FILES[split]
        if not path.is_file():
            raise DataError(
                f"the split '{split}' of GOT-10k needs the published list {path.name}: copy it from "
                f"lib/train/data_specs of an OSTrack or HIPTrack checkout to {path}, or name it with "
                f"SPLIT_FILE ({{TYPE: Got10k, ROOT: ..., SPLIT: {split}, SPLIT_FILE: ...}}). "
                "GOT10K_train_full needs no list."
            )
        return path

    def _load(self, i: int) -> SequenceInfo:
        folder = f"{self.part}/{self.names[i]}"
        key = f"{folder}/groundtruth.txt"
        boxes, faults = self._boxes(self.store, key)
        absent = self._flags(self.store, f"{folder}/absence.label", len(boxes), key)
        cover = self._flags(self.store, f"{folder}/cover.label", len(boxes), key, MOST_COVER)
        visible = present(boxes) & (absent == 0) & (cover > 0)
        fps = self._fps(f"{folder}/meta_info.ini")
        return SequenceInfo(
            self.names[i],
            np.nan_to_num(boxes),
            visible,
            fps=fps,
            whole_length=len(boxes),
            faults=faults,
            boxes_file=self.store.locate(key),
        )

    def _fps(self, key: str) -> float:
        """Return the annotation's frames a second; 10, the data set's rate, where no file says otherwise."""
        if not self.store.exists(key):
            return DEFAULT_FPS
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(decode_text(self.store.read(key), self.store.locate(key)))
        except configparser.Error as error:
            raise DataError(f"{self.store.locate(key)}: isn't an INI file ({error}). Restore it.") from error
        text = parser.get("METAINFO", "anno_fps", fallback="")
        found = _NUMBER.search(text)
        return float(found[0]) if found and float(found[0]) > 0 else DEFAULT_FPS

    def _image_key(self, i: int, frame: int) -> str:
        return f"{self.part}/{self.names[i]}/{frame + 1:08d}.jpg"
