"""LaSOT's test split (protocol II): 280 sequences, four of each of 70 classes; from a folder or an LMDB.

    <root>/<class>/<seq>/img/00000001.jpg ...
    <root>/<class>/<seq>/groundtruth.txt     x,y,w,h a frame
    <root>/<class>/<seq>/full_occlusion.txt  0 or 1 a frame, on one line
    <root>/<class>/<seq>/out_of_view.txt     the same
    <root>/att/<seq>.txt                     optional: 14 numbers, 1 for each attribute (annos/att)

The class may be left out: `<root>/<seq>/...`. `lasot_lmdb` reads the same paths as keys of an LMDB
(`tools/make_lmdb.py`). A frame is visible unless the target is fully occluded or out of view. `lasot.csv`
knows the attributes where no file does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mtltrack.data.splits import lasot_test_names
from mtltrack.data.stores import FolderStore, LmdbStore, Store
from mtltrack.evaluation.benchmarks.attributes import read_attribute_flags
from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.lists import Listed, listed
from mtltrack.evaluation.benchmarks.reading import read_flags
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.benchmarks.stored import file_in, frames_in
from mtltrack.evaluation.results import read_boxes

LAYOUT = (
    "<class>/<seq>/{img/*.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}, such as "
    "airplane/airplane-1/..., or <seq>/..."
)
LMDB_LAYOUT = f"an LMDB (data.mdb) with these keys: {LAYOUT}"
ATTRIBUTES = (
    *("IV", "POC", "DEF", "MB", "CM", "ROT", "BC"),
    *("VC", "SV", "FOC", "FM", "OV", "LR", "ARC"),
)


def load(root: Path) -> Benchmark:
    """Return the sequences of LaSOT's test split that are in a folder."""
    collection = Collection("lasot", root, LAYOUT, "lasot")
    return collect(collection, FolderStore(root), lasot_test_names())


def load_lmdb(root: Path) -> Benchmark:
    """Return the sequences of LaSOT's test split that are in an LMDB."""
    collection = Collection("lasot_lmdb", root, LMDB_LAYOUT, "lasot")
    if not (root / "data.mdb").is_file():
        raise collection.missing("there is no LMDB, that is no file", root / "data.mdb")
    return collect(collection, LmdbStore(root), lasot_test_names())


def collect(collection: Collection, store: Store, names: Iterable[str]) -> Benchmark:
    """Return the sequences of a list that are in a store in LaSOT's layout."""
    names, lacking, known = list(names), [], listed("lasot")
    for name in names:
        places = (f"{name.rpartition('-')[0]}/{name}", name)
        place = next((item for item in places if store.exists(f"{item}/groundtruth.txt")), None)
        if place is None:
            lacking.append(name)
            continue
        boxes = read_boxes(file_in(store, f"{place}/groundtruth.txt"))
        hidden = [
            read_flags(file_in(store, f"{place}/{file}"), len(boxes)) > 0
            for file in ("full_occlusion.txt", "out_of_view.txt")
        ]
        flags, entry = f"att/{name}.txt", known.get(name, Listed(name))
        if store.exists(flags):
            entry = replace(entry, attributes=read_attribute_flags(file_in(store, flags), ATTRIBUTES))
        collection.add(
            name,
            frames_in(store, f"{place}/img"),
            boxes,
            folder=store.root / place if isinstance(store, FolderStore) else None,
            visible=~(hidden[0] | hidden[1]),
            listed=entry,
        )
    collection.lacking(lacking, len(names))
    return collection.build()
