"""Finding images, annotation files and what else lies beside a sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence as Items
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.core.zones import read_zones
from mtltrack.data.annotations import decode_text, parse_flags
from mtltrack.data.images import images_in, sequence_images
from mtltrack.data.sidecar_checks import timestamp_faults
from mtltrack.data.sidecars import read_sidecar
from mtltrack.data.stores import FolderStore
from mtltrack.evaluation.benchmarks.attributes import read_attribute_names
from mtltrack.evaluation.benchmarks.sequence import Sequence
from mtltrack.evaluation.benchmarks.stored import Frame
from mtltrack.evaluation.results import read_boxes

GOT10K_FILES = ("meta_info.ini", "absence.label")
"""A sequence's folder with one of these is in GOT-10k's layout, whose pixels count from 0."""


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order."""
    return [folder / name for name in images_in(FolderStore(folder))]


def annotation_files(folder: Path) -> list[Path]:
    """Return a sequence's ground truth: one file, or one for each target (`groundtruth_rect.1.txt`, ...)."""
    for name in ("groundtruth_rect.txt", "groundtruth.txt"):
        if (folder / name).is_file():
            return [folder / name]
    numbered = sorted(
        path for path in folder.glob("groundtruth*.txt") if re.search(r"\.\d+\.txt$", path.name)
    )
    if numbered:
        return numbered
    files = sorted(folder.glob("groundtruth*.txt"))
    if len(files) > 1:
        raise DataError(
            f"'{folder}' has several ground truth files ({', '.join(path.name for path in files)}); "
            "name the right one groundtruth.txt"
        )
    return files


def read_flags(path: Frame, frames: int) -> NDArray[np.int64]:
    """Return the flags (frames,) of a file that holds them one a line or all in one line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read '{path}': {error.strerror or error}") from error
    return parse_flags(decode_text(data, str(path)), str(path), frames, "the ground truth beside it")


def read_got10k_flags(folder: Path, frames: int) -> dict[str, NDArray[Any]]:
    """Return what GOT-10k says of each frame of a sequence, where its files are there.

    Returns:
        "visible" (frames,) bool, False where `absence.label` says that the target is absent, and "cover"
        (frames,) int64, from 0 (hidden) to 8 (fully visible), of `cover.label`.
    """
    found: dict[str, NDArray[Any]] = {}
    if (path := folder / "absence.label").is_file():
        found["visible"] = read_flags(path, frames) == 0
    if (path := folder / "cover.label").is_file():
        found["cover"] = read_flags(path, frames)
    return found


def with_side_files(sequence: Sequence) -> Sequence:
    """Return a sequence with what else lies in its folder.

    `zones.json` holds zones, `<sequence>.jsonl` time stamps, `attrs.txt` attributes (OTB's layout);
    `absence.label` and `cover.label` (GOT-10k's layout) say in which frames the target is absent or hidden.

    Raises:
        DataError: one of the files can't be read or doesn't fit; it names file and line.
    """
    folder = sequence.folder
    if folder is None:
        return sequence
    found: dict[str, Any] = {**read_got10k_flags(folder, len(sequence))}
    if (folder / "zones.json").is_file():
        found["zones"] = read_zones(folder / "zones.json")
    if (path := folder / f"{sequence.name}.jsonl").is_file():
        found["timestamps"] = _timestamps(path, sequence)
    if (path := folder / "attrs.txt").is_file():
        found["attributes"] = read_attribute_names(path)
    return replace(sequence, **found)


def is_got10k(folder: Path) -> bool:
    """Return whether a sequence's folder is in GOT-10k's layout."""
    return any((folder / name).is_file() for name in GOT10K_FILES)


def _timestamps(path: Path, sequence: Sequence) -> NDArray[np.float64] | None:
    """Return the time stamps (N,) of a side-car file; None when it has none.

    Raises:
        DataError: some frames have one and some have none, or they don't increase.
    """
    content = read_sidecar(path)
    frames = range(sequence.first_frame, sequence.first_frame + len(sequence))
    lacking = [frame for frame in frames if frame not in content.timestamps]
    if len(lacking) == len(frames):
        return None
    if lacking:
        raise DataError(
            f"{path}: frame {lacking[0]} has no timestamp, but others have. Give every frame one, or none."
        )
    for fault in timestamp_faults(content, path):
        raise DataError(fault)
    return np.array([content.timestamps[frame] for frame in frames])


def folder_sequences(folder: Path) -> list[Sequence]:
    """Return the sequence or, for several ground truth files, sequences of one folder in OTB's layout."""
    files = annotation_files(folder)
    images = tuple(folder / key for key in sequence_images(FolderStore(folder))) if files else ()
    sequences = []
    for path in files:
        sequences.append(Sequence(target_name(folder, path, files), images, read_boxes(path), folder=folder))
    return sequences


def target_name(folder: Path, path: Path, files: Items[Path]) -> str:
    """Return what the sequence of one of a folder's `annotation_files` is called: as the folder, or
    `<folder>-<k>` where there are several targets.
    """
    target = re.search(r"\.(\d+)\.txt$", path.name)
    return f"{folder.name}-{target[1]}" if target and len(files) > 1 else folder.name
