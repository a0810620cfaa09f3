"""VOT2018, the short-term challenge: 60 sequences; here run in one pass from the first frame.

    <root>/<seq>/color/00000001.jpg ...
    <root>/<seq>/groundtruth.txt             a rotated box x1,y1,...,x4,y4 a frame
    <root>/<seq>/<attribute>.tag             optional: 0 or 1 a frame (camera_motion, occlusion, ...)

The sequences may lie in `<root>/sequences`, as the VOT toolkit writes them. `vot18.csv` is the list. Boxes
are those around the corners, as published trackers take them. The tags of single frames become attributes of
the sequence: those that are 1 in any frame. For accuracy, robustness and EAO run the VOT toolkit instead.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.lists import listed
from mtltrack.evaluation.benchmarks.regions import read_regions
from mtltrack.evaluation.benchmarks.sequence import Benchmark

LAYOUT = "<seq>/color/*.jpg and <seq>/groundtruth.txt with 4 or 8 numbers a line; or sequences/<seq>/..."


def load(root: Path) -> Benchmark:
    """Return the sequences of VOT2018 that are there."""
    return collect(Collection("vot18", root, LAYOUT), root)


def collect(collection: Collection, root: Path) -> Benchmark:
    """Return the sequences of a VOT challenge, whose list has the collection's name."""
    place = root / "sequences" if (root / "sequences").is_dir() else root
    lacking = []
    for name in listed(collection.name):
        folder = place / name
        if not (folder / "groundtruth.txt").is_file():
            lacking.append(name)
            continue
        boxes = read_regions(folder / "groundtruth.txt")
        visible = np.isfinite(boxes).all(axis=1)
        collection.add(
            name,
            collection.images(name, folder / "color"),
            np.nan_to_num(boxes),
            folder=folder,
            visible=visible,
            attributes=_tags(folder),
        )
    collection.lacking(lacking, len(listed(collection.name)))
    return collection.build(place)


def _tags(folder: Path) -> frozenset[str]:
    """Return the names of the `.tag` files that have another line than 0."""
    found = set()
    for path in folder.glob("*.tag"):
        try:
            marked = any(float(word) for word in re.split(r"[,\s]+", path.read_text().strip()) if word)
        except ValueError as error:
            raise DataError(f"'{path}': wanted 0 or 1 a frame ({error}); restore the file") from error
        if marked:
            found.add(path.stem)
    return frozenset(found)
