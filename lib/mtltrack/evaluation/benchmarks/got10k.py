"""GOT-10k: its validation and test splits (180 sequences each), and the part of the training split that the
published code calls ltrval.

    <root>/val/list.txt                      names of the sequences, one a line
    <root>/val/<seq>/00000001.jpg ...
    <root>/val/<seq>/groundtruth.txt         x,y,w,h a frame; pixels count from 0
    <root>/val/<seq>/absence.label           1 where the target is absent
    <root>/val/<seq>/cover.label             0 (hidden) to 8 (fully visible)
    <root>/test/...                          the same without labels; only the first box is public
    <root>/train/...                         the same as val
    <root>/got10k_val_split.txt              for ltrval: the lines of its sequences in train/list.txt, from 0

Without `list.txt` the folders are the list (not for ltrval). AUC and precision take every
frame by its box, as the published analysis does, whatever `absence.label` says; an absent target isn't
counted as lost. AO and SR leave out frames whose cover is 0. The list of ltrval isn't part of this package:
it is `ltr/data_specs/got10k_val_split.txt` of pytracking. Results of all splits go to the sub-folder
`got10k`; those of the test split are scored by its server.
"""

from __future__ import annotations

from pathlib import Path

from mtltrack.data.splits import read_split
from mtltrack.evaluation.benchmarks.collection import Collection
from mtltrack.evaluation.benchmarks.reading import image_files, read_got10k_flags
from mtltrack.evaluation.benchmarks.sequence import Benchmark
from mtltrack.evaluation.results import read_boxes

LTRVAL = "got10k_val_split.txt"
LAYOUTS = {
    "val": "val/list.txt and val/<seq>/{*.jpg, groundtruth.txt, absence.label, cover.label}",
    "test": "test/list.txt and test/<seq>/{*.jpg, groundtruth.txt with the first box}",
    "ltrval": "train/list.txt, train/<seq>/{*.jpg, groundtruth.txt, absence.label, cover.label} and "
    f"{LTRVAL} (from ltr/data_specs of pytracking: the lines of its sequences in train/list.txt, from 0)",
}
SEQUENCES = {"val": 180, "test": 180}


def load_val(root: Path) -> Benchmark:
    """Return GOT-10k's validation split."""
    return _load("val", root, root / "val")


def load_test(root: Path) -> Benchmark:
    """Return GOT-10k's test split, with the first boxes alone."""
    return _load("test", root, root / "test")


def load_ltrval(root: Path) -> Benchmark:
    """Return the part of GOT-10k's training split that the published code validates with."""
    return _load("ltrval", root, root / "train")


def _load(split: str, root: Path, place: Path) -> Benchmark:
    collection = Collection(f"got10k_{split}", root, LAYOUTS[split], "got10k")
    names = _names(collection, split, place)
    lacking = []
    for name in names:
        folder = place / name
        path = folder / "groundtruth.txt"
        if not path.is_file():
            lacking.append(name)
            continue
        boxes, images = read_boxes(path), image_files(folder)
        if split == "test":  # further lines, where somebody wrote them, aren't ground truth
            collection.add(name, images, boxes[:1], folder=folder)
            continue
        collection.add(name, images, boxes, folder=folder, **read_got10k_flags(folder, len(boxes)))
    collection.lacking(lacking, len(names))
    if collection.sequences and len(names) != SEQUENCES.get(split, len(names)):
        collection.count(SEQUENCES[split])
    return collection.build(place)


def _names(collection: Collection, split: str, place: Path) -> list[str]:
    listing = place / "list.txt"
    if split != "ltrval":
        if listing.is_file():
            return listing.read_text(encoding="utf-8-sig").split()
        return [path.name for path in collection.folders(place) if (path / "groundtruth.txt").is_file()]
    chosen = collection.root / LTRVAL
    for path in (listing, chosen):
        if not path.is_file():
            raise collection.missing("there is no file", path)
    return read_split(chosen, listing.read_text(encoding="utf-8-sig").split())
