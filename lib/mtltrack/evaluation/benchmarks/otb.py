"""OTB-100 (also called OTB-2015): 98 videos with 100 targets.

    <root>/<Seq>/img/0001.jpg ...            in Board five digits
    <root>/<Seq>/groundtruth_rect.txt        x,y,w,h a frame; commas, tabs or spaces; pixels count from 1
    <root>/<Seq>/groundtruth_rect.<k>.txt    the k-th target of Human4, Jogging and Skating2
    <root>/<Seq>/attrs.txt                   optional: attributes, such as SV, OCC, DEF

The targets of one video are named `<Seq>_<k>`, as OSTrack names them; of Human4 only the second is in the
benchmark. The list (`otb.csv`) says the first and last image: David begins with image 300, BlurCar1 with 247,
BlurCar4 with 18, BlurCar3 with 3, Tiger1 with 6 (its file has boxes of the first five images as well, which
don't count). Every frame has a target.

Attributes are those beside the sequence, else those of the benchmark's own toolkit; the lists on its web site
name more for some sequences (Crossing: FM and OPR).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from mtltrack.evaluation.benchmarks.attributes import read_attribute_names
from mtltrack.evaluation.benchmarks.collection import Collection, some
from mtltrack.evaluation.benchmarks.lists import listed
from mtltrack.evaluation.benchmarks.reading import annotation_files
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.results import read_boxes

LAYOUT = (
    "<Seq>/img/*.jpg and <Seq>/groundtruth_rect.txt with x,y,w,h a line "
    "(groundtruth_rect.1.txt, ... for several targets)"
)


def load(root: Path) -> Benchmark:
    """Return the sequences of OTB-100 that are there."""
    collection = Collection("otb", root, LAYOUT)
    there = {folder.name for folder in collection.folders(root) if annotation_files(folder)}
    lacking, known = [], set()
    for name, entry in listed("otb").items():
        target = re.fullmatch(r"(.+)_(\d)", name)
        folder = root / (target[1] if target else name)
        known.add(folder.name)
        path = folder / f"groundtruth_rect.{target[2]}.txt" if target else next(iter(_truth(folder)), None)
        if path is None or not path.is_file():
            lacking.append(name)
            continue
        if (folder / "attrs.txt").is_file():
            entry = replace(entry, attributes=read_attribute_names(folder / "attrs.txt"))
        images = collection.images(name, folder / "img")
        collection.add(name, images, read_boxes(path), listed=entry, folder=folder)
    collection.lacking(lacking, len(listed("otb")))
    if others := sorted(there - known):
        collection.notes.append(f"not of OTB-100, left out: {some(others)}")
    return collection.build()


def _truth(folder: Path) -> list[Path]:
    return annotation_files(folder) if folder.is_dir() else []
