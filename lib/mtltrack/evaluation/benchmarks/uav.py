"""UAV123: 123 sequences from the air, parts of 91 recordings.

    <root>/data_seq/UAV123/<recording>/000001.jpg ...
    <root>/anno/UAV123/<name>.txt            x,y,w,h a frame, NaN,NaN,NaN,NaN where the target can't be seen
    <root>/anno/UAV123/att/<name>.txt        optional: 12 numbers, 1 for each attribute that the sequence has

A recording's parts are `<recording>_<k>`; the list (`uav.csv`) says their first and last image, and the
attributes where no file does. Results are named `uav_<name>`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from mtltrack.evaluation.benchmarks.attributes import read_attribute_flags
from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.lists import listed
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.results import read_boxes

LAYOUT = "data_seq/UAV123/<recording>/*.jpg and anno/UAV123/<name>.txt with x,y,w,h a line"
ATTRIBUTES = ("SV", "ARC", "LR", "FM", "FOC", "POC", "OV", "BC", "IV", "VC", "CM", "SOB")


def load(root: Path) -> Benchmark:
    """Return the sequences of UAV123 that are there; a frame whose box is NaN isn't visible."""
    collection = Collection("uav", root, LAYOUT, "uav")
    annotations = root / "anno" / "UAV123"
    lacking = []
    for name, entry in listed("uav").items():
        path = annotations / f"{name}.txt"
        if not path.is_file():
            lacking.append(name)
            continue
        folder = root / "data_seq" / "UAV123" / re.sub(r"_\d+$", "", name)
        flags = annotations / "att" / f"{name}.txt"
        if flags.is_file():
            entry = replace(entry, attributes=read_attribute_flags(flags, ATTRIBUTES))
        boxes = read_boxes(path)
        visible = np.isfinite(boxes).all(axis=1)
        images = collection.images(name, folder)
        collection.add(f"uav_{name}", images, boxes, listed=entry, folder=folder, visible=visible)
    collection.lacking(lacking, len(listed("uav")))
    return collection.build(annotations)
