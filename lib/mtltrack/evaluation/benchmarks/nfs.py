"""Need for Speed at 30 frames a second: 100 sequences.

    <root>/sequences/<Seq>/00001.jpg ...
    <root>/anno/nfs_<Seq>.txt                x,y,w,h a frame, separated by tabs, commas or spaces

The list (`nfs.csv`) says the last image. Results are named `nfs_<Seq>`. Every frame has a target.
"""

from __future__ import annotations

from pathlib import Path

from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.lists import listed
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.results import read_boxes

LAYOUT = "sequences/<Seq>/*.jpg and anno/nfs_<Seq>.txt with x,y,w,h for each frame of 30 a second"


def load(root: Path) -> Benchmark:
    """Return the sequences of Need for Speed that are there."""
    collection = Collection("nfs", root, LAYOUT, "nfs")
    lacking = []
    for name, entry in listed("nfs").items():
        path = root / "anno" / f"nfs_{name}.txt"
        if not path.is_file():
            lacking.append(name)
            continue
        folder = root / "sequences" / name
        images = collection.images(name, folder)
        collection.add(f"nfs_{name}", images, read_boxes(path), listed=entry, folder=folder)
    collection.lacking(lacking, len(listed("nfs")))
    return collection.build(root / "anno")
