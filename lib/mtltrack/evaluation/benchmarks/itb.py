"""ITB, the informative tracking benchmark: sequences in folders by scenario.

    <root>/<scenario>/<seq>/*.jpg
    <root>/<scenario>/<seq>/groundtruth.txt  x,y,w,h a frame

The folders are the list. A sequence's scenario is its attribute. Every frame has a target.
"""

from __future__ import annotations

import re
from pathlib import Path

from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.reading import image_files
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.results import read_boxes

LAYOUT = "<scenario>/<seq>/*.jpg and <scenario>/<seq>/groundtruth.txt with x,y,w,h a line"


def load(root: Path) -> Benchmark:
    """Return the sequences of ITB that are there."""
    collection = Collection("itb", root, LAYOUT)
    for scenario in collection.folders(root):
        attributes = frozenset([re.sub(r"\W+", "_", scenario.name)])
        for folder in collection.folders(scenario):
            path = folder / "groundtruth.txt"
            if path.is_file():
                images = image_files(folder)
                collection.add(folder.name, images, read_boxes(path), folder=folder, attributes=attributes)
    return collection.build()
