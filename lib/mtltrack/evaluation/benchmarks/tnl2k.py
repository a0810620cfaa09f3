"""TNL2K: tracking by natural language; its test split of 700 sequences, started with a box.

    <root>/<seq>/imgs/*                      jpg or png
    <root>/<seq>/groundtruth.txt             x,y,w,h a frame, 0,0,0,0 where the target is absent
    <root>/<seq>/attributes.txt              optional: 17 numbers, 1 for each attribute that the sequence has
    <root>/<seq>/language.txt                the sentence, which isn't used

The folders are the list. `attributes.txt` may have a number for "all" before the 17. A frame whose box has no
area isn't visible.
"""

from __future__ import annotations

from pathlib import Path

from mtltrack.data.annotations import decode_text
from mtltrack.evaluation.benchmarks.attributes import read_attribute_flags
from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.results import read_boxes

LAYOUT = "<seq>/imgs/* and <seq>/groundtruth.txt with x,y,w,h a line"
SEQUENCES = 700
ATTRIBUTES = (
    *("CM", "ROT", "DEF", "FOC", "IV", "OV", "POC", "VC", "SV"),
    *("BC", "MB", "ARC", "LR", "FM", "AS", "TC", "MS"),
)


def load(root: Path) -> Benchmark:
    """Return the sequences of TNL2K's test split that are there."""
    collection = Collection("tnl2k", root, LAYOUT)
    for folder in collection.folders(root):
        path = folder / "groundtruth.txt"
        if not path.is_file():
            continue
        boxes = read_boxes(path)
        collection.add(
            folder.name,
            collection.images(folder.name, folder / "imgs"),
            boxes,
            folder=folder,
            visible=(boxes[:, 2:] > 0).all(axis=1),
            attributes=_attributes(folder / "attributes.txt"),
        )
    if collection.sequences:
        collection.count(SEQUENCES)
    return collection.build()


def _attributes(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    count = len(decode_text(path.read_bytes(), str(path)).replace(",", " ").split())
    if count == len(ATTRIBUTES) + 1:
        return read_attribute_flags(path, ("all", *ATTRIBUTES)) - {"all"}
    return read_attribute_flags(path, ATTRIBUTES)
