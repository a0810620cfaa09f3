"""COCO 2017: still images, made into clips by repetition.

    <root>/annotations/instances_train2017.json
    <root>/images/train2017/000000000009.jpg      (or <root>/train2017/..., as some LMDBs have it)

LMDB (`coco_lmdb`): the same paths as keys.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.core.registry import DATASETS
from mtltrack.data.datasets.base import StoredSequences
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.stores import Store, open_store


@DATASETS.register_module()
class Coco(StoredSequences):
    """Each annotated object that isn't a crowd is a sequence of one frame.

    Args:
        root: the folder or LMDB.
        split: "train" or "val".
        year: of the release.
    """

    def __init__(self, root: str | Path, split: str = "train", year: int = 2017) -> None:
        super().__init__(open_store(root))
        self.name = "coco"
        key = f"annotations/instances_{split}{year}.json"
        self._key = key
        images, objects = _read_instances(self.store, key)
        self._image_names = np.array([image["file_name"] for image in images])
        row = {image["id"]: k for k, image in enumerate(images)}
        try:
            self._image_rows = np.array([row[item["image_id"]] for item in objects], dtype=np.int64)
        except KeyError as error:
            raise DataError(
                f"{self.store.locate(key)}: an annotation names the unknown image {error}."
            ) from error
        self._object_boxes = np.array([item["bbox"] for item in objects], dtype=np.float64).reshape(-1, 4)
        self.names = [str(item["id"]) for item in objects]
        self._require_names(f"objects in {key}")
        self._folder = self._image_folder(f"{split}{year}")

    def _image_folder(self, part: str) -> str:
        first = self._image_names[self._image_rows[0]]
        for folder in (f"images/{part}", part):
            if self.store.exists(f"{folder}/{first}"):
                return folder
        raise DataError(
            f"COCO's images aren't there: {self.store.locate(f'images/{part}/{first}')} doesn't exist. "
            f"Unpack {part}.zip into images/."
        )

    def _load(self, i: int) -> SequenceInfo:
        box = self._object_boxes[i]
        faults: dict[int, str] = {}
        if not (np.isfinite(box).all() and box[2] > 0 and box[3] > 0):
            faults[0] = (
                f"{self.store.locate(self._key)}: the bbox {box.tolist()} of annotation {self.names[i]} "
                "has no area or isn't finite. Correct the annotation, or take it out."
            )
        return SequenceInfo(
            self.names[i],
            np.nan_to_num(box[None]),
            np.array([not faults]),
            is_video=False,
            whole_length=1,
            faults=faults,
        )

    def _image_key(self, i: int, frame: int) -> str:  # noqa: ARG002  # a still image has one frame
        return f"{self._folder}/{self._image_names[self._image_rows[i]]}"


def _read_instances(store: Store, key: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the images and the objects that are no crowd."""
    try:
        content = json.loads(store.read(key))
        return content["images"], [item for item in content["annotations"] if not item.get("iscrowd", 0)]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{store.locate(key)}: isn't a COCO instances file ({error!r}). Unpack it again."
        ) from error
