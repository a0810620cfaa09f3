"""The benchmarks whose layout on the disk is known. Each function takes the root folder.

| name | layout below the root |
|---|---|
| otb | `<Seq>/img/*.jpg`, `<Seq>/groundtruth_rect[.k].txt` |
| lasot | `<class>/<seq>/{img/*.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}`, or `<seq>/...` |
| got10k_val, got10k_test | `val|test/<seq>/{*.jpg, groundtruth.txt, cover.label}` |
| trackingnet | `TEST/frames/<seq>/*.jpg`, `TEST/anno/<seq>.txt` (the first box) |
| uav | `data_seq/UAV123/<folder>/*.jpg`, `anno/UAV123/<name>.txt` |
| nfs | `sequences/<Seq>/*.jpg`, `anno/nfs_<Seq>.txt` (a line x, y, w, h a frame) |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from mtltrack.core.errors import DataError
from mtltrack.data.datasets.lasot import lasot_test_names
from mtltrack.evaluation.benchmarks.reading import (
    first_image_numbers,
    folder_sequences,
    image_files,
    pair,
    read_flags,
)
from mtltrack.evaluation.benchmarks.sequence import Benchmark, Sequence
from mtltrack.evaluation.results import read_boxes

Loader = Callable[[Path], Benchmark]


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"'{root}' is no folder, but the benchmark's sequences are looked for there")
    return sorted(path for path in root.iterdir() if path.is_dir())


def _benchmark(
    name: str, root: Path, sequences: Iterable[Sequence], protocol: str = "otb", notes: tuple[str, ...] = ()
) -> Benchmark:
    found = tuple(sequences)
    if not found:
        raise DataError(
            f"no sequence of '{name}' found in '{root}'; docs/evaluation.md shows the layout that is expected"
        )
    return Benchmark(name, found, protocol, notes)


def otb(root: Path) -> Benchmark:
    """OTB: every folder below the root that has ground truth."""
    sequences = [item for folder in _folders(root) for item in folder_sequences(folder, "otb")]
    notes = () if len(sequences) == 100 else (f"{len(sequences)} of OTB's 100 sequences are in {root}",)
    return _benchmark("otb", root, sequences, notes=notes)


def lasot(root: Path) -> Benchmark:
    """LaSOT's test split; a frame is visible unless it is fully occluded or out of view."""
    names = lasot_test_names()
    sequences = []
    for name in names:
        places = (root / name.rsplit("-", 1)[0] / name, root / name)
        folder = next((path for path in places if (path / "groundtruth.txt").is_file()), None)
        if folder is None:
            continue
        boxes = read_boxes(folder / "groundtruth.txt")
        flags = [read_flags(folder / file, len(boxes)) for file in ("full_occlusion.txt", "out_of_view.txt")]
        hidden = (flags[0] > 0) | (flags[1] > 0)
        sequence = pair(name, image_files(folder / "img"), boxes, folder=folder)
        sequences.append(replace(sequence, visible=~hidden))
    missing = len(names) - len(sequences)
    notes = (f"{missing} of LaSOT's {len(names)} test sequences are not in {root}",) if missing else ()
    return _benchmark("lasot", root, sequences, "lasot", notes)


def _got10k(root: Path, split: str) -> Benchmark:
    sequences = []
    for folder in _folders(root / split):
        if not (folder / "groundtruth.txt").is_file():
            continue
        images, boxes = tuple(image_files(folder)), read_boxes(folder / "groundtruth.txt")
        cover = read_flags(folder / "cover.label", len(boxes)) if (folder / "cover.label").is_file() else None
        # the server keeps the ground truth of the test split but its first line
        boxes = boxes[:1] if split == "test" else boxes
        sequences.append(Sequence(folder.name, images, boxes, cover=cover, folder=folder))
    return _benchmark(f"got10k_{split}", root, sequences)


def got10k_val(root: Path) -> Benchmark:
    """GOT-10k's validation split."""
    return _got10k(root, "val")


def got10k_test(root: Path) -> Benchmark:
    """GOT-10k's test split: only the first box is public, results are scored by its server."""
    return _got10k(root, "test")


def trackingnet(root: Path) -> Benchmark:
    """TrackingNet's test split: only the first box is public, results are scored by its server."""
    annotations = sorted((root / "TEST" / "anno").glob("*.txt"))
    sequences = [
        Sequence(
            path.stem,
            tuple(image_files(root / "TEST" / "frames" / path.stem)),
            read_boxes(path)[:1],
            folder=root / "TEST" / "frames" / path.stem,
        )
        for path in annotations
    ]
    return _benchmark("trackingnet", root, sequences)


def uav(root: Path) -> Benchmark:
    """UAV123; parts of one recording are named `<folder>_<k>`, results `uav_<name>`."""
    starts = first_image_numbers("uav")
    sequences = []
    for path in sorted((root / "anno" / "UAV123").glob("*.txt")):
        images = root / "data_seq" / "UAV123" / re.sub(r"_\d+$", "", path.stem)
        if not images.is_dir():
            raise DataError(f"'{path}' needs the images of '{images}', which is no folder")
        boxes, first = read_boxes(path), starts.get(path.stem, 1)
        sequences.append(
            pair(f"uav_{path.stem}", image_files(images), boxes, folder=images, first_image=first)
        )
    return _benchmark("uav", root, sequences, "uav")


def nfs(root: Path) -> Benchmark:
    """Need for Speed at 30 frames a second; results are named `nfs_<Seq>`."""
    sequences = []
    for path in sorted((root / "anno").glob("nfs_*.txt")):
        images = root / "sequences" / path.stem.removeprefix("nfs_")
        if not images.is_dir():
            raise DataError(f"'{path}' needs the images of '{images}', which is no folder")
        sequences.append(pair(path.stem, image_files(images), read_boxes(path), folder=images, first_image=1))
    return _benchmark("nfs", root, sequences, "nfs")


LOADERS: dict[str, Loader] = {
    "otb": otb,
    "lasot": lasot,
    "got10k_val": got10k_val,
    "got10k_test": got10k_test,
    "trackingnet": trackingnet,
    "uav": uav,
    "nfs": nfs,
}
