"""LaSOT's extension: 150 sequences, ten of each of 15 classes that LaSOT hasn't.

    <root>/<class>/<seq>/{img/*.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}

The layout is LaSOT's. A frame is visible unless the target is fully occluded or out of view. It is scored by
the common rules: those that the published analysis has for LaSOT alone (hidden frames have infinite centre
errors) don't hold here.
"""

from __future__ import annotations

from pathlib import Path

from mtltrack.data.stores import FolderStore
from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.lasot import collect
from mtltrack.evaluation.benchmarks.lists import listed
from mtltrack.evaluation.benchmarks.sequence import Benchmark

LAYOUT = (
    "<class>/<seq>/{img/*.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}, such as "
    "atv/atv-1/..., or <seq>/..."
)


def load(root: Path) -> Benchmark:
    """Return the sequences of the extension that are there."""
    collection = Collection("lasot_extension_subset", root, LAYOUT)
    return collect(collection, FolderStore(root), listed("lasot_extension_subset"))
