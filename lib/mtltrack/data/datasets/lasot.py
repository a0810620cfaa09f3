"""LaSOT: 70 classes of 20 sequences each.

    <root>/<class>/<class>-<n>/groundtruth.txt     x,y,w,h a frame
    <root>/<class>/<class>-<n>/full_occlusion.txt  0 or 1 a frame, on one line
    <root>/<class>/<class>-<n>/out_of_view.txt     the same
    <root>/<class>/<class>-<n>/img/00000001.jpg    counted from 1

LMDB (`lasot_lmdb`): the same paths as keys.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtltrack.core.errors import ConfigError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.data.datasets.base import StoredSequences, present
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.splits import lasot_test_names
from mtltrack.data.stores import open_store

SPLITS = ("train", "test", "all")


@DATASETS.register_module()
class Lasot(StoredSequences):
    """LaSOT from a folder or an LMDB. A frame counts as visible unless it is fully occluded, out of view or
    without a box.

    Args:
        root: the folder or LMDB.
        split: "train" (all but the test sequences), "test" or "all".
    """

    def __init__(self, root: str | Path, split: str = "train") -> None:
        if split not in SPLITS:
            near = did_you_mean(split, SPLITS)
            raise ConfigError(f"SPLIT of LaSOT is '{split}'.{near} Choose one of {', '.join(SPLITS)}.")
        super().__init__(open_store(root))
        self.name = "lasot"
        test = set(lasot_test_names())
        for group in self.store.list():
            for name in self.store.list(group):
                wanted = split == "all" or (name in test) == (split == "test")
                if wanted and self.store.exists(f"{group}/{name}/groundtruth.txt"):
                    self.names.append(name)
        self._require_names(f"<class>/<class>-<n>/groundtruth.txt of the split '{split}'")

    def _folder(self, i: int) -> str:
        name = self.names[i]
        return f"{name.rpartition('-')[0]}/{name}"

    def _load(self, i: int) -> SequenceInfo:
        folder = self._folder(i)
        key = f"{folder}/groundtruth.txt"
        boxes, faults = self._boxes(self.store, key)
        occluded = self._flags(self.store, f"{folder}/full_occlusion.txt", len(boxes), key)
        outside = self._flags(self.store, f"{folder}/out_of_view.txt", len(boxes), key)
        visible = present(boxes) & (occluded == 0) & (outside == 0)
        return SequenceInfo(
            self.names[i],
            np.nan_to_num(boxes),
            visible,
            whole_length=len(boxes),
            faults=faults,
            boxes_file=self.store.locate(key),
        )

    def _image_key(self, i: int, frame: int) -> str:
        return f"{self._folder(i)}/img/{frame + 1:08d}.jpg"
