"""A folder of sequences in the OTB layout: the way to train on one's own videos.

    <root>/<sequence>/img/0001.jpg ...      (or the images directly in <root>/<sequence>)
    <root>/<sequence>/groundtruth_rect.txt  (or any one groundtruth*.txt): x,y,w,h a frame
    <root>/<sequence>/attrs.txt             (optional: OTB attributes, see CONDITIONS)

Boxes are 1-based pixels as in OTB, or 0-based with ONE_BASED: false. A frame without the target: nan,nan,nan,nan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.data.annotations import parse_boxes, same_count
from mtltrack.data.datasets.base import StoredSequences
from mtltrack.data.images import is_image
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.stores import open_store


@DATASETS.register_module()
class FolderSequences(StoredSequences):
    """Sequences of one folder or LMDB in the OTB layout.

    Args:
        root: the folder, or an LMDB packed from it.
        ranges: sequence -> [first, last] frame, counted from 1, both included. When given, only these sequences
            are used.
        conditions: "otb" takes scene conditions from OTB attributes; None leaves the frames unlabelled.
        attributes: JSON file (may be .gz) with the attributes of sequences that have no attrs.txt.
        fps: frames a second, for time stamps.
        one_based: box pixels count from 1 (OTB), so 1 is subtracted from x and y.
        name: what messages call the data set.
    """

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
        self.name = name
        self.fps = fps
        self.one_based = one_based
        found = [entry for entry in self.store.list() if self._ground_truth(entry) is not None]
        self.ranges = _checked_ranges(ranges, found, self.store.locate(""))
        self.names = [entry for entry in found if ranges is None or entry in self.ranges]
        self._require_names("sequence folders with a groundtruth*.txt")
        self._frames: dict[int, list[str]] = {}
        self._conditions = None

    def _ground_truth(self, name: str) -> str | None:
        """Return the key of the sequence's box file; None when the folder is no sequence."""
        files = [entry for entry in self.store.list(name) if entry.startswith("groundtruth") and entry.endswith(".txt")]
        if not files:
            return None
        return f"{name}/{'groundtruth_rect.txt' if 'groundtruth_rect.txt' in files else files[0]}"

    def _image_keys(self, i: int) -> list[str]:
        """Return the image keys of the used frames of sequence `i`."""
        if i not in self._frames:
            self._frames[i] = self._all_image_keys(self.names[i])[self._range(i)]
        return self._frames[i]

    def _all_image_keys(self, name: str) -> list[str]:
        for folder in (f"{name}/img", name):
            images = [entry for entry in self.store.list(folder) if is_image(entry)]
            if images:
                return [f"{folder}/{entry}" for entry in images]
        raise DataError(f"sequence '{name}' has no images in {self.store.locate(name + '/img')} or its parent. Add them.")

    def _range(self, i: int) -> slice:
        first, last = self.ranges.get(self.names[i], (1, None))
        return slice(first - 1, last)

    def _load(self, i: int) -> SequenceInfo:
        name = self.names[i]
        key = self._ground_truth(name)
        assert key is not None
        boxes, faults = parse_boxes(self._text(key), self.store.locate(key))
        images = self._all_image_keys(name)
        same_count(self.store.locate(key), len(boxes), f"the folder of its images ({images[0]} ...)", len(images))
        used = self._range(i)
        if used.stop is not None and used.stop > len(images):
            raise DataError(
                f"RANGES of '{name}' ends at frame {used.stop}, but the sequence has {len(images)}. Correct RANGES."
            )
        boxes = boxes[used] - ((1.0, 1.0, 0.0, 0.0) if self.one_based else 0.0)
        self._frames[i] = images[used]
        return SequenceInfo(
            name=name,
            boxes_xywh=np.nan_to_num(boxes),
            visible=~np.isnan(boxes).any(axis=1),
            fps=self.fps,
            first_frame=used.start + 1,
            faults={frame - used.start: text for frame, text in faults.items() if 0 <= frame - used.start < len(boxes)},
        )

    def _image_key(self, i: int, frame: int) -> str:
        return self._image_keys(i)[frame]


def _checked_ranges(
    ranges: Mapping[str, Sequence[int]] | None, found: list[str], where: str
) -> dict[str, tuple[int, int]]:
    checked: dict[str, tuple[int, int]] = {}
    for name, limits in (ranges or {}).items():
        if name not in found:
            raise DataError(
                f"RANGES names the sequence '{name}', which isn't in {where}.{did_you_mean(name, found)} "
                f"There: {', '.join(found[:20]) or 'none'}."
            )
        if len(limits) != 2 or not 1 <= int(limits[0]) <= int(limits[1]):
            raise DataError(
                f"RANGES of '{name}' must be [first, last] with 1 <= first <= last, both included; found {list(limits)}."
            )
        checked[name] = (int(limits[0]), int(limits[1]))
    return checked
