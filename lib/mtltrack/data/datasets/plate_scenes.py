"""Photographs of vehicles with their plates, in the layout of the openalpr benchmarks.

    <root>/us/car16.jpg    (or .png; <root> may also be such a folder itself)
    <root>/us/car16.txt    car16.jpg <tab> x <tab> y <tab> w <tab> h <tab> 002HHM

One line a plate, its box in 0-based pixels of the named image; the text may be missing. A folder named us,
eu, br or cn tells the plates' size, else their proportions do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mtltrack.core.alphabets import normalise_text
from mtltrack.core.errors import ConfigError, DataError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.data.annotations import decode_text
from mtltrack.data.datasets.plate_stills import Box, PlateStills, nearest_format, plate_sizes
from mtltrack.data.sequences import PlateLabel, SequenceInfo
from mtltrack.data.stores import open_store

SPLITS = ("train", "test", "all")


class _Plate(NamedTuple):
    image_key: str
    box_xyxy: Box
    text: str | None
    where: str


@DATASETS.register_module()
class PlateScenes(PlateStills):
    """Each plate of each photograph is a sequence of one frame; `us/car16.jpg` gives `us-car16`, further
    plates of it `us-car16-2`, `us-car16-3`.

    Every TEST_EVERY-th photograph, in the order of folders and names, is for testing, the others for
    training. Photographs with a plate of the same text go together: it is the same vehicle.

    Args:
        root: the folder or LMDB.
        split: "train", "test" or "all".
        test_every: at least 2.
        folders: names of folders below the root; None for all that hold label files.

    Raises:
        ConfigError: an unknown split, or TEST_EVERY below 2.
        DataError: a line can't be read or names an image that isn't there; the message says which. Or there
            are no photographs.
    """

    labelled_tasks = ("plate", "ocr")

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        test_every: int = 4,
        folders: Sequence[str] | None = None,
    ) -> None:
        super().__init__(open_store(root))
        self.name = "plate_scenes"
        if split not in SPLITS or test_every < 2:
            raise ConfigError(
                f"PlateScenes needs SPLIT train, test or all, and TEST_EVERY of at least 2; found {split!r} "
                f"and {test_every}.{'' if split in SPLITS else did_you_mean(split, SPLITS)}"
            )
        keys = self._label_keys(folders)
        groups: dict[str, int] = {}  # text of a plate -> its photograph's number
        count = 0
        self._plates: list[_Plate] = []
        for key in keys:
            plates = self._read(key)
            known = [groups[plate.text] for plate in plates if plate.text in groups]
            number = known[0] if known else count
            count += not known
            groups.update({plate.text: number for plate in plates if plate.text is not None})
            if split == "all" or (number % test_every == test_every - 1) == (split == "test"):
                self._add(key, plates)
        self._require_names(f"<image>.txt beside an image ({split} part)")

    def _label_keys(self, folders: Sequence[str] | None) -> list[str]:
        """Return the label files of the root itself and of the folders in it, in order."""
        entries = self.store.list()
        for folder in folders or ():
            if folder not in entries:
                raise DataError(
                    f"FOLDERS names '{folder}', which isn't in {self.store.locate('')}. There: "
                    f"{', '.join(entries[:20]) or 'nothing'}."
                )
        keys = [] if folders is not None else [name for name in entries if name.endswith(".txt")]
        for folder in entries if folders is None else folders:
            keys += [f"{folder}/{name}" for name in self.store.list(folder) if name.endswith(".txt")]
        return keys

    def _add(self, key: str, plates: Sequence[_Plate]) -> None:
        stem = key[: -len(".txt")].replace("/", "-")
        for number, plate in enumerate(plates, start=1):
            self.names.append(stem if number == 1 else f"{stem}-{number}")
            self._plates.append(plate)

    def _read(self, key: str) -> list[_Plate]:
        """Read a label file."""
        name = self.store.locate(key)
        lines = decode_text(self.store.read(key), name).splitlines()
        return [
            self._parse(line, key, f"{name}, line {number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]

    def _parse(self, line: str, key: str, where: str) -> _Plate:
        fields = [field.strip() for field in line.split("\t")]
        try:
            x, y, w, h = (float(value) for value in fields[1:5])
        except ValueError as error:
            raise DataError(
                f"{where}: wanted file, x, y, w, h and the text, separated by tabs; found {line!r}. "
                "Correct the line."
            ) from error
        if not (math.isfinite(x + y + w + h) and w > 0 and h > 0):
            raise DataError(
                f"{where}: the plate's box has no area (w and h must be above 0): {line!r}. Correct it."
            )
        image_key = str(PurePosixPath(key).parent / fields[0])
        if not self.store.exists(image_key):
            raise DataError(
                f"{where}: the image {self.store.locate(image_key)} doesn't exist. Restore it, or take the "
                "line out."
            )
        text = normalise_text("".join(fields[5:])) or None
        return _Plate(image_key, (x, y, x + w, y + h), text, where)

    def _load(self, i: int) -> SequenceInfo:
        plate = self._plates[i]
        folder = PurePosixPath(plate.image_key).parent.name or Path(self.store.locate("")).name
        plate_format = folder if folder in plate_sizes() else nearest_format(plate.box_xyxy)
        label = PlateLabel(plate.box_xyxy, plate.text, plate.where)
        return self._still(i, label, plate.box_xyxy, plate_format)

    def _image_key(self, i: int, frame: int) -> str:  # noqa: ARG002  # a still image has one frame
        return self._plates[i].image_key
