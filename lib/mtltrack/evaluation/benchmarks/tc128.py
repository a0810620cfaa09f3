"""TempleColor-128: 129 targets in colour, 78 of them (named `..._ce...`) not in OTB.

    <root>/<Seq>/img/0001.jpg ...
    <root>/<Seq>/<Seq>_gt.txt                x,y,w,h a frame
    <root>/<Seq>/<Seq>_frames.txt            first,last: the numbers of the images that count

`tc128` is all of it, `tc128ce` the 78 that OTB hasn't; both read the same folder. Every frame has a target.
The list (`tc128.csv`) knows the attributes, those of OTB.
"""

from __future__ import annotations

from pathlib import Path

from mtltrack.core.errors import DataError
from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.lists import Listed, listed
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.results import parse_numbers, read_boxes

LAYOUT = "<Seq>/img/*.jpg, <Seq>/<Seq>_gt.txt with x,y,w,h a line and <Seq>/<Seq>_frames.txt with first,last"


def load(root: Path) -> Benchmark:
    """Return all sequences of TempleColor-128 that are there."""
    return _load("tc128", root)


def load_ce(root: Path) -> Benchmark:
    """Return the sequences of TempleColor-128 that OTB hasn't."""
    return _load("tc128ce", root)


def _load(name: str, root: Path) -> Benchmark:
    collection = Collection(name, root, LAYOUT)
    known = {_key(item): entry for item, entry in listed("tc128").items()}
    wanted = [item for item in listed("tc128") if name == "tc128" or "_ce" in item]
    found = set()
    for folder in collection.folders(root):
        path = next(iter(sorted(folder.glob("*_gt.txt"))), None)
        if path is None or (name == "tc128ce" and "_ce" not in folder.name):
            continue
        first, last = _range(path)
        boxes = read_boxes(path)
        if len(boxes) != last - first + 1:
            raise DataError(
                f"'{path}' has {len(boxes)} boxes, but the _frames.txt beside it says images {first} to "
                f"{last}, which are {last - first + 1}; restore the wrong one"
            )
        attributes = known.get(_key(folder.name), Listed("")).attributes
        entry = Listed(folder.name, first, last, attributes)
        images = collection.images(folder.name, folder / "img")
        collection.add(folder.name, images, boxes, listed=entry, folder=folder)
        found.add(_key(folder.name))
    collection.lacking([item for item in wanted if _key(item) not in found], len(wanted))
    return collection.build()


def _key(name: str) -> str:
    """Return a name in a form that is the same for Jogging1, Jogging_1 and Jogging-1."""
    return name.replace("_", "").replace("-", "").lower()


def _range(truth: Path) -> tuple[int, int]:
    """Return the first and last image of the sequence whose boxes are in `truth`."""
    path = truth.with_name(truth.name.replace("_gt.txt", "_frames.txt"))
    if not path.is_file():
        raise DataError(f"'{path}' is missing; wanted a line first,last: the images of '{truth.name}'")
    first, last = (int(value) for value in parse_numbers(path, 2)[0])
    if not 0 <= first <= last:
        raise DataError(f"'{path}' says {first},{last}; wanted first,last with first not after last")
    return first, last
