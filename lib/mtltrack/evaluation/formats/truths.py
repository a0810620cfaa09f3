"""Ground truth for results of any program: a folder of text files, or the JSON that pysot and others use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.data.images import IMAGE_FOLDERS, images_in
from mtltrack.data.stores import FolderStore
from mtltrack.evaluation.benchmarks.attributes import read_attribute_names
from mtltrack.evaluation.benchmarks.reading import annotation_files, read_got10k_flags, target_name
from mtltrack.evaluation.formats.content import boxes_of, is_json, parse_json, read_text
from mtltrack.evaluation.report import Truth
from mtltrack.evaluation.results import parse_boxes


def load_truths(path: Path, images: Path | None = None) -> list[Truth]:
    """Return the ground truth that `--ground-truth` names.

    Args:
        path: a folder of `<seq>.txt` or of `<seq>/groundtruth*.txt` (then with what lies beside it: images,
            where there are as many as boxes, `attrs.txt`, `absence.label` and `cover.label`), or a JSON file,
            packed by gzip or not:
            `{seq: {"gt_rect": [[x, y, w, h], ...], "img_names": [...], "attr": [...]}}`.
        images: `img_names` are below it, or the sequences' images in `<seq>/`; without it below the folder of
            the ground truth. Images that aren't there are only missing in the report.

    Raises:
        DataError: it can't be read, or holds no ground truth.
    """
    if images is not None and not images.is_dir():
        raise DataError(f"--images '{images}' is no folder")
    if path.is_file():
        return _from_json(path, images or path.parent)
    if not path.is_dir():
        raise DataError(f"--ground-truth '{path}' is neither a folder nor a file")
    return _from_folder(path, images)


def _from_folder(folder: Path, images: Path | None) -> list[Truth]:
    files = {
        target_name(place, file, found): file
        for place in sorted(item for item in folder.iterdir() if item.is_dir())
        for found in [annotation_files(place)]
        for file in found
    }
    # beside folders of sequences a text file is a list of them
    files = files or {item.stem: item for item in sorted(folder.glob("*.txt"))}
    if not files:
        raise DataError(f"'{folder}' holds neither <seq>.txt nor <seq>/groundtruth.txt")
    return [_from_file(name, file, folder, images) for name, file in files.items()]


def _from_file(name: str, file: Path, folder: Path, images: Path | None) -> Truth:
    boxes = parse_boxes(read_text(file), file)
    own = None if file.parent == folder else file.parent
    place = (own or folder / name) if images is None else images / (name if own is None else own.name)
    frames = _images_of(place) if place.is_dir() else ()
    attributes = own / "attrs.txt" if own is not None else None
    return Truth(
        name,
        boxes,
        frames=frames if len(frames) == len(boxes) else (),
        attributes=read_attribute_names(attributes) if attributes and attributes.is_file() else frozenset(),
        **({} if own is None else read_got10k_flags(own, len(boxes))),
    )


def _images_of(folder: Path) -> tuple[Path, ...]:
    store = FolderStore(folder)
    for place in (*IMAGE_FOLDERS, ""):
        if keys := images_in(store, place):
            return tuple(folder / key for key in keys)
    return ()


def _from_json(path: Path, images: Path) -> list[Truth]:
    text = read_text(path)
    if not is_json(text):
        raise DataError(
            f"--ground-truth '{path}' is one file, but no JSON; give the folder of the text files"
        )
    content = parse_json(text, path)
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"'{path}': wanted {{sequence: {{'gt_rect': [[x, y, w, h], ...]}}}} of all sequences")
    return [_from_entry(name, entry, path, images) for name, entry in content.items()]


def _from_entry(name: str, entry: Any, path: Path, images: Path) -> Truth:
    where = f"'{path}', '{name}'"
    if not isinstance(entry, Mapping) or "gt_rect" not in entry:
        found = f"the keys {', '.join(entry)}" if isinstance(entry, Mapping) else repr(entry)[:60]
        raise DataError(f"{where}: wanted an object with 'gt_rect'; found {found}")
    boxes = boxes_of(entry["gt_rect"], f"{where}, gt_rect")
    names: list[str] = entry.get("img_names") or []
    if names and len(names) != len(boxes):
        raise DataError(f"{where}: {len(boxes)} boxes in gt_rect, but {len(names)} img_names")
    there = bool(names) and (images / names[0]).is_file()
    frames = tuple(images / image for image in names) if there else ()
    present = entry.get("absent")  # pysot's files for LaSOT say 1 where the target is there
    if present is not None and len(present) != len(boxes):
        raise DataError(f"{where}: {len(boxes)} boxes in gt_rect, but {len(present)} values in 'absent'")
    visible = None if present is None else np.asarray(present) == 1
    return Truth(name, boxes, visible=visible, frames=frames, attributes=frozenset(entry.get("attr") or ()))
