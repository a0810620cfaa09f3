"""Folders of plate crops with their texts: still images that one plate fills.

    <root>/<labels>     comma-separated lines: file name, any further columns, TEXT (UTF-8; CRLF is fine)
    <root>/<file name>

LMDB: the same paths as keys.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from mtltrack.core.alphabets import normalise_text
from mtltrack.core.errors import ConfigError, DataError, did_you_mean
from mtltrack.core.registry import DATASETS
from mtltrack.data.annotations import decode_text
from mtltrack.data.datasets.base import StoredSequences
from mtltrack.data.images import image_size
from mtltrack.data.sequences import PlateLabel, SequenceInfo
from mtltrack.data.stores import open_store
from mtltrack.data.synthetic.plate_photos import still_plate

SPLITS = ("train", "test", "all")


class _Row(NamedTuple):
    file: str
    text: str
    line: int


@DATASETS.register_module()
class PlateCrops(StoredSequences):
    """Crops of plates; the whole image is the plate, and it takes the target's place.

    The box of a target isn't labelled: there is no vehicle around. Pictures with the same text fall into the
    same part of a split, because they may show the same plate.

    Args:
        root: the folder or LMDB.
        labels: name of the file with the texts.
        split: "train", "test" or "all".
        test_every: every so many-th text, in the order of its first line, is for the test; at least 2.
        name: what messages call the data set.

    Raises:
        ConfigError: an unknown split, or `test_every` below 2.
        DataError: a line without file or text, a picture that isn't there, or nothing in this split.
    """

    labelled_tasks = ("ocr",)

    def __init__(
        self,
        root: str | Path,
        labels: str = "groundtruth.csv",
        split: str = "all",
        test_every: int = 5,
        name: str = "plate_crops",
    ) -> None:
        super().__init__(open_store(root))
        if split not in SPLITS or test_every < 2:
            raise ConfigError(
                f"PlateCrops needs SPLIT of {', '.join(SPLITS)} and TEST_EVERY of at least 2; found "
                f"'{split}' and {test_every}.{'' if split in SPLITS else did_you_mean(split, SPLITS)}"
            )
        self.name = name
        self.labels = labels
        rows = self._read_rows()
        number = {text: i for i, text in enumerate(dict.fromkeys(row.text for row in rows))}

        def is_wanted(row: _Row) -> bool:
            return split == "all" or (number[row.text] % test_every == test_every - 1) == (split == "test")

        self._rows = [row for row in rows if is_wanted(row)]
        self.names = [row.file for row in self._rows]
        self._require_names(f"lines for the split '{split}' in {labels}")

    def _read_rows(self) -> list[_Row]:
        where = self.store.locate(self.labels)
        rows = []
        lines = decode_text(self.store.read(self.labels), where).splitlines()
        for number, fields in enumerate(csv.reader(lines), start=1):
            if not fields:
                continue
            row = _Row(fields[0].strip(), normalise_text(fields[-1]), number)
            if len(fields) < 2 or not row.file or not row.text:
                raise DataError(
                    f"{where}:{number}: wanted 'file name,TEXT', found '{','.join(fields)}'. "
                    "Correct the line, or take it out."
                )
            if not self.store.exists(row.file):
                raise DataError(
                    f"{where}:{number}: the picture {self.store.locate(row.file)} doesn't exist. "
                    "Restore it, or take the line out."
                )
            rows.append(row)
        return rows

    def text(self, i: int) -> str:
        """Return what the plate of picture `i` says."""
        return self._rows[i].text

    def _load(self, i: int) -> SequenceInfo:
        row = self._rows[i]
        width, height = image_size(self.store.read(row.file), self.store.locate(row.file))
        where = f"{self.store.locate(self.labels)}:{row.line}"
        plate = PlateLabel((0.0, 0.0, float(width), float(height)), row.text, where)
        return still_plate(row.file, (height, width), plate)

    def _image_key(self, i: int, frame: int) -> str:  # noqa: ARG002  # a still image has one frame
        return self._rows[i].file
