"""Checks of a folder of labels: everything that is wrong with it, and what each of its sequences has.

Training meets a wrong label when it draws it; this reads them all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mtltrack.core.alphabets import encode_text
from mtltrack.core.conditions import condition_names, normal_index
from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.core.rle import check_mask_size
from mtltrack.core.zones import check_polygon, line_of_zone, parse_zones
from mtltrack.data.images import image_size, sequence_images
from mtltrack.data.labelled import ZONES_FILE, read_mask, sidecar_path
from mtltrack.data.labels import with_normal
from mtltrack.data.sidecar_checks import alert_faults, sidecar_name, timestamp_faults
from mtltrack.data.sidecars import KNOWN_KEYS, SidecarFile, parse_sidecar
from mtltrack.data.stores import Store, open_store
from mtltrack.data.value_checks import check_in_frame

PARTS = ("", "train/", "val/", "test/", "frames/")  # folders below which a data set may hold its sequences


@dataclass
class SequenceLabels:
    """What a sequence has.

    Attributes:
        name: of its folder.
        frames: frames with a line.
        conditions: name of the condition -> frames that show it; empty where no frame is labelled.
        masks: frames with a mask.
        plates: frames with a plate.
        plateless: frames that are said to show no plate.
        texts: frames with a text.
        alerts: frames with the alert on.
        calm: frames with the alert off.
        zones: number of polygons.
        seconds: from the first time stamp to the last; None without time stamps.
        faults: what is wrong, each with its file and line.
    """

    name: str
    frames: int = 0
    conditions: Counter[str] = field(default_factory=Counter)
    masks: int = 0
    plates: int = 0
    plateless: int = 0
    texts: int = 0
    alerts: int = 0
    calm: int = 0
    zones: int = 0
    seconds: float | None = None
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """What labels are checked against.

    Attributes:
        alphabet: the characters that plate texts may have.
        columns: columns of the reader (TASKS.ocr.COLUMNS).
        images: the data set's folder or LMDB; None: images are looked for beside the labels.
    """

    alphabet: str
    columns: int = 24
    images: Path | None = None


def check_labels(folder: str | Path, rules: Rules) -> Iterator[SequenceLabels]:
    """Read and check the labels of all sequences of a folder, one after the other.

    Args:
        folder: as CLS_ANN_DIR: <sequence>/<sequence>.jsonl and perhaps <sequence>/zones.json.
        rules: what to check against.

    Raises:
        DataError: there is no such folder, or no labels in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"the folder {folder} doesn't exist. Give the folder of the labels, as CLS_ANN_DIR.")
    names = [entry.name for entry in sorted(folder.iterdir()) if _is_labelled(entry)]
    if not names:
        deeper = sorted({str(path.parent.parent) for path in folder.glob("*/*/*.jsonl")})
        raise DataError(
            f"{folder} has no labels: wanted <sequence>/<sequence>.jsonl in it (docs/data.md)."
            + (f" There are some in {', '.join(deeper)}." if deeper else "")
        )
    store = None if rules.images is None else open_store(rules.images)
    return (check_sequence(folder, name, rules, store) for name in names)


def _is_labelled(folder: Path) -> bool:
    return folder.is_dir() and (any(folder.glob("*.jsonl")) or (folder / ZONES_FILE).is_file())


def check_sequence(folder: Path, name: str, rules: Rules, store: Store | None = None) -> SequenceLabels:
    """Read and check the labels of one sequence.

    Args:
        folder: of all labels.
        name: of the sequence's folder in it.
        rules: what to check against.
        store: the data set's images; None: those in the sequence's own folder, if there are any.
    """
    path = sidecar_path(folder, name)
    content, faults = parse_sidecar(path) if path.is_file() else (SidecarFile(), _missing(path))
    zones, zone_faults = read_all_zones(path.parent / ZONES_FILE)
    images = _Images(path, content, store)
    faults += [
        *_name_faults(content, path),
        *_key_faults(content, path),
        *_stamp_faults(content, path, len(images.keys)),
        *zone_faults,
        *([] if zone_faults else alert_faults(content, zones, path)),
        *images.faults,
        *_mask_faults(content, path, images),
        *_plate_faults(content, path, images, rules),
    ]
    return _summary(name, content, len(zones), faults)


def _summary(name: str, content: SidecarFile, zones: int, faults: list[str]) -> SequenceLabels:
    stamps = content.timestamps.values()
    plates = content.plates.values()
    return SequenceLabels(
        name=name,
        frames=len(content.lines),
        conditions=_count_conditions(content),
        masks=len(content.masks),
        plates=sum(plate["bbox"] is not None for plate in plates),
        plateless=sum(plate["bbox"] is None for plate in plates),
        texts=sum(plate["text"] is not None for plate in plates),
        alerts=sum(content.alerts.values()),
        calm=sum(not alert for alert in content.alerts.values()),
        zones=zones,
        seconds=max(stamps) - min(stamps) if stamps else None,
        faults=sorted(faults, key=_line_number),
    )


def _count_conditions(content: SidecarFile) -> Counter[str]:
    counts: Counter[str] = Counter()
    names = np.array(condition_names())
    for frame, flags in content.flags.items():
        shown = with_normal(flags[None])[0]
        shown[normal_index()] &= frame not in content.unknown
        counts.update(names[shown].tolist())
    return counts


def _line_number(fault: str) -> tuple[str, int]:
    """Return file and line that a message begins with, to sort by."""
    file, _, rest = fault.partition(": ")[0].rpartition(":")
    return (file, int(rest)) if rest.isdigit() else (fault, 0)


def _missing(path: Path) -> list[str]:
    others = sorted(path.parent.glob("*.jsonl"))
    if not others:
        return []  # zones alone: for testing
    return [f"{others[0]}: isn't looked at: the labels of '{path.parent.name}' must be called {path.name}."]


def _name_faults(content: SidecarFile, path: Path) -> list[str]:
    return [
        f"{path}:{line}: sequence_name is '{name}', but the file stands for the sequence "
        f"'{path.parent.name}'. Put the file where its own sequence is looked for, or correct the name."
        for name, line in content.names.items()
        if sidecar_name(name) != path.parent.name
    ]


def _key_faults(content: SidecarFile, path: Path) -> list[str]:
    """Return a message for each key that looks like a misspelt one; other keys are free to be there."""
    near = {key: did_you_mean(key, KNOWN_KEYS) for key in content.other_keys}
    return [
        f"{path}:{content.other_keys[key]}: the key '{key}' isn't read.{hint} Rename it if so."
        for key, hint in near.items()
        if hint
    ]


def _stamp_faults(content: SidecarFile, path: Path, images: int) -> list[str]:
    """Return a message for each wrong time stamp, and for each frame, also without a line, that lacks one."""
    frames = {*content.lines, *range(1, images + 1)} if content.timestamps else set()
    lines = {frame: f":{content.lines[frame]}" for frame in content.lines}
    return timestamp_faults(content, path) + [
        f"{path}{lines.get(frame, '')}: frame {frame} has no timestamp, but others have. Give every frame "
        "one, or none."
        for frame in sorted(frames - set(content.timestamps))
    ]


def read_all_zones(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the zones of a file that are polygons, and what is wrong with the others; none if no file."""
    if not path.is_file():
        return {}, []
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return dict(parse_zones(text, str(path))), []
    except DataError as error:
        whole = str(error)
    try:
        content = json.loads(text)
    except ValueError:
        return {}, [whole]
    zones: dict[str, Any] = {}
    faults: list[str] = []
    for name, points in content.items() if isinstance(content, dict) else ():
        try:
            zones[name] = check_polygon(points, f"{path}:{line_of_zone(text, name)}: zone '{name}'")
        except DataError as error:
            faults.append(str(error))
    return zones, faults or [whole]


class _Images:
    """The images of a sequence, as far as they are there.

    Args:
        path: of the labels.
        content: what they say.
        store: the data set; None: images are looked for beside the labels, and needn't be there.
    """

    def __init__(self, path: Path, content: SidecarFile, store: Store | None) -> None:
        self.store = open_store(path.parent) if store is None else store
        places = [""] if store is None else _places(next(iter(content.names), path.parent.name))
        masks = {mask for mask in content.masks.values() if isinstance(mask, str)}
        self.keys = [key for key in self._found(places) if store is not None or key not in masks]
        self.faults: list[str] = []
        if store is not None and not self.keys:
            looked = ", ".join(self.store.locate(place) for place in places)
            self.faults.append(f"{path}: the images of the sequence aren't there: looked in {looked}.")
        last = max(content.lines, default=0)
        if self.keys and last > len(self.keys):
            self.faults.append(
                f"{path}:{content.lines[last]}: frame_id {last} is beyond the sequence, which has "
                f"{len(self.keys)} images ({self.store.locate(self.keys[0])} and on)."
            )

    def _found(self, places: Iterable[str]) -> list[str]:
        for place in places:
            try:
                return sequence_images(self.store, place)
            except DataError:  # none there
                continue
        return []

    def size(self, frame: int) -> tuple[int, int] | None:
        """Return width and height of a frame, counted from 1; None without its image."""
        if not 1 <= frame <= len(self.keys):
            return None
        key = self.keys[frame - 1]
        return image_size(self.store.read(key), self.store.locate(key))


def _places(name: str) -> list[str]:
    """Return the folders that a data set may hold a sequence in; LaSOT's stand below their class."""
    return [*(part + name for part in PARTS), f"{name.rpartition('-')[0]}/{name}"]


def _mask_faults(content: SidecarFile, path: Path, images: _Images) -> list[str]:
    """Check each mask against its frame; without images, against the sequence's first mask."""
    faults: list[str] = []
    first: tuple[int, int] | None = None
    for frame, entry in sorted(content.masks.items()):
        where = f"{path}:{content.lines[frame]}"
        try:
            mask = read_mask(entry, path.parent, where)
            size = images.size(frame)
            if size is not None:
                check_mask_size(mask, size, where)
        except DataError as error:
            faults.append(str(error))
            continue
        found = (mask.shape[1], mask.shape[0])
        first = first or found
        if size is None and found != first:
            faults.append(
                f"{where}: the mask is {found[0]} x {found[1]} pixels, but the sequence's first is "
                f"{first[0]} x {first[1]}. Make one of them anew."
            )
    return faults


def _plate_faults(content: SidecarFile, path: Path, images: _Images, rules: Rules) -> list[str]:
    faults: list[str] = []
    for frame, plate in sorted(content.plates.items()):
        where = f"{path}:{content.lines[frame]}"
        try:
            if plate["text"] is not None:
                encode_text(plate["text"], rules.alphabet, rules.columns, where)
            size = None if plate["bbox"] is None else images.size(frame)
        except DataError as error:
            faults.append(str(error))
            continue
        if size is None:
            continue
        try:
            check_in_frame(plate["bbox"], size, f"{where}: the plate's bbox")
        except DataError as error:
            faults.append(str(error))
    return faults
