"""VOT2022, the short-term challenge: 62 sequences; here run in one pass from the first frame.

    <root>/<seq>/color/00000001.jpg ...
    <root>/<seq>/groundtruth.txt             x,y,w,h (VOT-STb2022) or a mask m... (VOT-STs2022) a frame
    <root>/<seq>/<attribute>.tag             optional: 0 or 1 a frame

The layout is VOT2018's, but for the ground truth; `vot22.csv` is the list. The box of a mask is the one
around its pixels; the mask itself isn't scored here. For accuracy, robustness and EAO run the VOT toolkit.
"""

from __future__ import annotations

from pathlib import Path

from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.benchmarks.vot18 import collect

LAYOUT = (
    "<seq>/color/*.jpg and <seq>/groundtruth.txt with x,y,w,h or a mask m... a line; or sequences/<seq>/..."
)


def load(root: Path) -> Benchmark:
    """Return the sequences of VOT2022 that are there."""
    return collect(Collection("vot22", root, LAYOUT), root)
