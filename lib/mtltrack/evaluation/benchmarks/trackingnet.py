"""TrackingNet's test split: 511 sequences, of which only the first box is public.

    <root>/TEST/frames/<seq>/0.jpg ...
    <root>/TEST/anno/<seq>.txt               x,y,w,h of the first frame

The files in `anno` are the list. Results are scored by its server.
"""

from __future__ import annotations

from pathlib import Path

from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.results import read_boxes

LAYOUT = "TEST/frames/<seq>/*.jpg and TEST/anno/<seq>.txt with the first box x,y,w,h"
SEQUENCES = 511


def load(root: Path) -> Benchmark:
    """Return the sequences of TrackingNet's test split that are there."""
    collection = Collection("trackingnet", root, LAYOUT)
    annotations = root / "TEST" / "anno"
    for path in sorted(annotations.glob("*.txt")):
        folder = root / "TEST" / "frames" / path.stem
        collection.add(path.stem, collection.images(path.stem, folder), read_boxes(path)[:1], folder=folder)
    if collection.sequences:
        collection.count(SEQUENCES)
    return collection.build(annotations)
