"""CCPD, the Chinese City Parking Dataset: photographs of parked cars, the label in the file's name.

    <root>/ccpd_base/025-95_113-154&383_386&473-386&473_177&454_154&383_363&402-0_0_22_27_27_33_16-37-15.jpg
    <root>/splits/train.txt   ccpd_base/025-95_113-...jpg, one a line (optional: SPLIT)

The fields are: share of the plate's area, tilt, box, corners, text, brightness, blur. <root> may also be a
folder of images itself. LMDB: the same paths as keys.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path, PurePosixPath

from mtltrack.core.errors import ConfigError, DataError
from mtltrack.core.registry import DATASETS
from mtltrack.data.annotations import decode_text
from mtltrack.data.datasets.plate_stills import Box, PlateStills
from mtltrack.data.images import images_in
from mtltrack.data.sequences import PlateLabel, SequenceInfo
from mtltrack.data.stores import open_store

WITHOUT_PLATES = "ccpd_np"  # nothing there says where the car is
WANTED = "area-tilt-x1&y1_x2&y2-corners-0_0_22_27_27_33_16-brightness-blur.jpg"
NO_CHARACTER = "O"
_POINT = re.compile(r"(-?\d+)&(-?\d+)")


@lru_cache(maxsize=1)
def character_tables() -> dict[str, str]:
    """Return the characters that numbers stand for: `province`, `letter` and `other` (third place and on)."""
    text = (
        resources.files("mtltrack.data.datasets").joinpath("ccpd_characters.csv").read_text(encoding="utf-8")
    )
    return {row["place"]: row["characters"] for row in csv.DictReader(text.splitlines())}


def parse_name(name: str, where: str) -> tuple[Box, str | None]:
    """Read the label in a file's name.

    Args:
        name: of the file, without folder.
        where: how to call it in a message.

    Returns:
        The plate's box xyxy in pixels, and its text; None where a number stands for "no character".

    Raises:
        DataError: the name has another form, or a number no character.
    """
    fields = PurePosixPath(name).stem.split("-")
    points = _POINT.findall(fields[2]) if len(fields) == 7 else []
    if len(points) != 2 or not re.fullmatch(r"\d+(_\d+){6,7}", fields[4]):
        raise DataError(
            f"{where}: the name isn't a label of CCPD; wanted {WANTED}. Take the file out, or name it so."
        )
    (x1, y1), (x2, y2) = ((float(x), float(y)) for x, y in points)
    if x2 <= x1 or y2 <= y1:
        raise DataError(f"{where}: the plate's box {fields[2]} has no area. Take the file out.")
    tables = character_tables()
    text = ""
    for place, number in enumerate(int(word) for word in fields[4].split("_")):
        table = tables[("province", "letter")[place] if place < 2 else "other"]
        if number >= len(table):
            raise DataError(
                f"{where}: number {number} at place {place + 1} of the text {fields[4]} stands for no "
                f"character (0 to {len(table) - 1}). Take the file out."
            )
        text += table[number]
    return (x1, y1, x2, y2), None if NO_CHARACTER in text else text


@DATASETS.register_module()
class Ccpd(PlateStills):
    """Each photograph is a sequence of one frame.

    Args:
        root: the folder or LMDB.
        split: a list below splits/, without .txt; None for every image.
        folders: names of folders below the root; None for all but `ccpd_np`, whose cars have no plates. Not
            together with SPLIT, whose lists name folders themselves.

    Raises:
        ConfigError: both SPLIT and FOLDERS.
        DataError: a folder or a list isn't there, or there are no images. A name that is no label is an
            error when its image is drawn.
    """

    labelled_tasks = ("plate", "ocr")

    def __init__(
        self, root: str | Path, split: str | None = None, folders: Sequence[str] | None = None
    ) -> None:
        super().__init__(open_store(root))
        self.name = "ccpd"
        if split is not None and folders is not None:
            raise ConfigError(
                "Ccpd takes SPLIT or FOLDERS, not both: a list names the folders of its images."
            )
        self._keys = self._listed(split) if split is not None else self._found(folders)
        self.names = [key.replace("/", "-").rsplit(".", 1)[0] for key in self._keys]
        self._require_names(f"images named {WANTED}")

    def _listed(self, split: str) -> list[str]:
        key = f"splits/{split}.txt"
        if not self.store.exists(key):
            lists = [name.removesuffix(".txt") for name in self.store.list("splits")]
            raise DataError(
                f"SPLIT: there is no {self.store.locate(key)}. There: {', '.join(lists) or 'no lists'}. "
                "Correct SPLIT, or leave it out for every image."
            )
        text = decode_text(self.store.read(key), self.store.locate(key))
        return [line.strip() for line in text.splitlines() if line.strip()]

    def _found(self, folders: Sequence[str] | None) -> list[str]:
        entries = self.store.list()
        for folder in folders or ():
            if folder not in entries:
                raise DataError(
                    f"FOLDERS names '{folder}', which isn't in {self.store.locate('')}. There: "
                    f"{', '.join(entries[:20]) or 'nothing'}."
                )
        keys = [] if folders is not None else images_in(self.store)
        for folder in [name for name in entries if name != WITHOUT_PLATES] if folders is None else folders:
            keys += images_in(self.store, folder)
        return keys

    def _load(self, i: int) -> SequenceInfo:
        key = self._keys[i]
        where = self.store.locate(key)
        box_xyxy, text = parse_name(PurePosixPath(key).name, where)
        return self._still(i, PlateLabel(box_xyxy, text, where), box_xyxy, "cn")

    def _image_key(self, i: int, frame: int) -> str:  # noqa: ARG002  # a still image has one frame
        return self._keys[i]
