"""Parking lots photographed every few minutes, in the layout of PKLot (de Almeida et al., 2015).

    <root>/<...>/2013-04-15_07_05_01.xml   <parking><space id="1" occupied="1"><contour><point x="" y=""/>...
    <root>/<...>/2013-04-15_07_05_01.jpg   (or .png; or the XML in bounding_boxes/ and the image in frames/)

The names of the files are their time stamps. A folder of XML files is one camera's day; its sequences are
called <folder>/<id of the space>.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.core.registry import DATASETS
from mtltrack.core.stopping import StopRule, overlap_with_zone, stopped_seconds
from mtltrack.core.zones import check_polygon
from mtltrack.data.datasets.base import StoredSequences
from mtltrack.data.images import IMAGE_SUFFIXES
from mtltrack.data.recent import Recent
from mtltrack.data.sequences import SequenceInfo
from mtltrack.data.stores import open_store

TIME_FORMAT = "%Y-%m-%d_%H_%M_%S"
LABELS, IMAGES = "bounding_boxes", "frames"  # folders of the two kinds, where they are apart
_COMMENT, _SPACE = re.compile(rb"<!--.*?-->", re.DOTALL), re.compile(rb"<space\b")
_DEPTH = 4  # folders below the root: lot, weather, day


class _Space(NamedTuple):
    contour: np.ndarray  # (V, 2) frame pixels
    occupied: bool | None  # None where the file doesn't say


class _Day(NamedTuple):
    """A camera's photographs in order of time: keys of the images, seconds since the first, spaces by id."""

    images: list[str]
    seconds: np.ndarray
    spaces: list[dict[str, _Space]]


@DATASETS.register_module()
class PkLot(StoredSequences):
    """Each parking space that is occupied at some time is a sequence, and its own zone.

    The target is whatever stands in the space: present where the space is occupied, in the box around the
    space's contour. That box isn't the vehicle's, so it is no label for the box head; it only says where to
    look. Alerts and stopped seconds follow the hard rule on occupancy and time stamps. A vehicle that is
    exchanged for another between two photographs can't be told from one that stayed.

    Args:
        root: the folder or LMDB.
        seconds: how long a vehicle may stand.
        name: what messages call the data set.

    Raises:
        DataError: a file's name is no time, its XML or a contour is broken, an image is missing; each names
            the file. Or there are no occupied spaces.
    """

    labelled_tasks = ("alert",)
    rule_arguments: ClassVar[dict[str, str]] = {"seconds": "SECONDS"}

    def __init__(self, root: str | Path, seconds: float = 120.0, name: str = "pklot") -> None:
        super().__init__(open_store(root))
        self.name = name
        self.rule = StopRule(seconds=seconds)
        self._folders: list[str] = []
        self._places: list[tuple[int, str]] = []  # number of the folder and id of the space
        self._days: Recent[_Day] = Recent(32)
        for folder in self._label_folders("", _DEPTH):
            self._add(folder)
        self._require_names(f"<{TIME_FORMAT}>.xml with an occupied space")

    def _label_folders(self, folder: str, depth: int) -> Iterator[str]:
        """Yield the folders that hold XML files, in natural order."""
        names = self.store.list(folder)
        if any(name.endswith(".xml") for name in names):
            yield folder
        elif depth:
            for name in names:
                if "." not in name:
                    yield from self._label_folders(f"{folder}/{name}" if folder else name, depth - 1)

    def _add(self, folder: str) -> None:
        number = len(self._folders)
        self._folders.append(folder)
        path = PurePosixPath(folder)
        parts = path.parent.parts if path.name == LABELS else path.parts
        found: dict[str, bool] = {}
        for spaces in self._days.get(number, self._read_day).spaces:
            for identity, space in spaces.items():
                found[identity] = found.get(identity, False) or bool(space.occupied)
        for identity, used in found.items():
            if used:
                self.names.append("/".join([*parts, identity]))
                self._places.append((number, identity))

    def _read_day(self, number: int) -> _Day:
        folder = self._folders[number]
        keys = [
            f"{folder}/{name}" if folder else name
            for name in self.store.list(folder)
            if name.endswith(".xml")
        ]
        order = sorted((self._time(key), key) for key in keys)
        seconds = np.array([(time - order[0][0]).total_seconds() for time, _ in order])
        return _Day(
            [self._image_of(key) for _, key in order], seconds, [self._spaces(key) for _, key in order]
        )

    def _time(self, key: str) -> datetime:
        try:
            return datetime.strptime(PurePosixPath(key).stem, TIME_FORMAT)
        except ValueError as error:
            raise DataError(
                f"{self.store.locate(key)}: the name of the file must be its time, like "
                "2013-04-15_07_05_01.xml. Rename the file, or take it out."
            ) from error

    def _image_of(self, key: str) -> str:
        path = PurePosixPath(key)
        folders = [path.parent.parent / IMAGES] if path.parent.name == LABELS else [path.parent]
        for folder in folders:
            for suffix in IMAGE_SUFFIXES:
                image = str(folder / f"{path.stem}{suffix}")
                if self.store.exists(image):
                    return image
        raise DataError(
            f"{self.store.locate(key)}: has no image: looked for {path.stem} ({', '.join(IMAGE_SUFFIXES)}) "
            f"in {self.store.locate(str(folders[0]))}. Restore the image, or take the XML file out."
        )

    def _spaces(self, key: str) -> dict[str, _Space]:
        """Read one photograph's spaces, by id."""
        where = self.store.locate(key)
        data = self.store.read(key)
        try:
            root = ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            line = error.position[0]
            raise DataError(f"{where}:{line}: broken XML ({error}). Fetch the file again.") from error
        spaces: dict[str, _Space] = {}
        lines = _lines_of_spaces(data)
        for number, element in enumerate(root.iter("space")):
            line = lines[number] if number < len(lines) else 1
            identity = element.get("id", "")
            place = f"{where}:{line}: space '{identity}'"
            if not identity or identity in spaces:
                raise DataError(f"{place} needs an id of its own. Correct the file.")
            spaces[identity] = _Space(_contour(element, place), _occupied(element, place))
        return spaces

    def _load(self, i: int) -> SequenceInfo:
        number, identity = self._places[i]
        day = self._days.get(number, self._read_day)
        spaces = [photograph.get(identity) for photograph in day.spaces]
        zone = next(space.contour for space in spaces if space is not None)
        boxes = np.zeros((len(spaces), 4))  # xyxy
        occupied = np.zeros(len(spaces), dtype=bool)
        for frame, space in enumerate(spaces):
            if space is not None:
                boxes[frame] = *space.contour.min(axis=0), *space.contour.max(axis=0)
                occupied[frame] = bool(space.occupied)
        stopped = stopped_seconds(boxes, occupied, day.seconds, self.rule)
        alerts = {
            int(frame): self.rule.is_red(float(stopped[frame]), overlap_with_zone(boxes[frame], zone))
            for frame in np.flatnonzero(occupied)
        }
        return SequenceInfo(
            name=self.names[i],
            boxes_xywh=np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
            visible=occupied,
            timestamps=day.seconds,
            alerts=alerts,
            zones={f"space {identity}": zone},
            stopped=stopped,
            box_labelled=False,
        )

    def _image_key(self, i: int, frame: int) -> str:
        return self._days.get(self._places[i][0], self._read_day).images[frame]


def _lines_of_spaces(data: bytes) -> list[int]:
    """Return the line, from 1, of each space of an XML file; the parser doesn't keep them."""
    shown = _COMMENT.sub(lambda comment: b"\n" * comment[0].count(b"\n"), data)
    return [shown.count(b"\n", 0, found.start()) + 1 for found in _SPACE.finditer(shown)]


def _contour(element: ElementTree.Element, where: str) -> np.ndarray:
    points = []
    for point in element.iterfind("contour/*"):
        try:
            points.append([float(point.get("x", "")), float(point.get("y", ""))])
        except ValueError as error:
            raise DataError(
                f"{where}: wanted a point with numbers x and y, found {point.attrib}. Correct the file."
            ) from error
    return check_polygon(points, where)


def _occupied(element: ElementTree.Element, where: str) -> bool | None:
    value = element.get("occupied")
    if value not in (None, "0", "1"):
        raise DataError(f"{where}: occupied must be 0 or 1, found '{value}'. Correct the file.")
    return None if value is None else value == "1"
