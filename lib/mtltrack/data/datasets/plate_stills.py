"""What the data sets of photographed plates share: a vehicle's box where only its plate was annotated."""

from __future__ import annotations

import csv
import hashlib
from functools import lru_cache
from importlib import resources
from pathlib import PurePosixPath

import numpy as np

from mtltrack.core.errors import DataError
from mtltrack.data.datasets.base import StoredSequences
from mtltrack.data.images import image_size
from mtltrack.data.sequences import PlateLabel, SequenceInfo

Box = tuple[float, float, float, float]

VEHICLE_WIDTH = 1.8  # metres, of a car seen from the front or behind
SIZE_SPREAD = 0.2  # the width is multiplied by exp of up to this, either way
HEIGHT_SHARE = (0.65, 0.95)  # least and most height over width
PLATE_ACROSS = (0.3, 0.7)  # where the plate's centre may lie in the vehicle's box
PLATE_DOWN = (0.4, 0.85)


@lru_cache(maxsize=1)
def plate_sizes() -> dict[str, tuple[float, float]]:
    """Return name of the format -> width and height in metres."""
    text = resources.files("mtltrack.data.datasets").joinpath("plate_formats.csv").read_text(encoding="utf-8")
    return {
        row["format"]: (float(row["width_m"]), float(row["height_m"]))
        for row in csv.DictReader(text.splitlines())
    }


def nearest_format(box_xyxy: Box) -> str:
    """Return the format whose proportions are nearest to the box's."""
    ratio = (box_xyxy[2] - box_xyxy[0]) / (box_xyxy[3] - box_xyxy[1])
    sizes = plate_sizes()
    return min(sizes, key=lambda name: abs(np.log(ratio * sizes[name][1] / sizes[name][0])))


def vehicle_box(plate_xyxy: Box, plate_format: str, file_name: str) -> Box:
    """Return where a vehicle with this plate may be: a box to cut crops around, not a label.

    A plate of a known format tells the vehicle's scale: a car is 1.8 m wide. How much wider or narrower, how
    high, and where on it the plate hangs is drawn from the file's name and the plate's place, so that the
    plate isn't always at the same place of the crop; the same photograph gives the same box.

    Args:
        plate_xyxy: frame pixels.
        plate_format: a name of `plate_sizes`.
        file_name: of the photograph, without folders.

    Returns:
        x, y, w, h in frame pixels; it may reach beyond the frame.
    """
    key = f"{file_name} {plate_xyxy[0]:g} {plate_xyxy[1]:g}".encode()
    seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
    low, high = zip((-SIZE_SPREAD, SIZE_SPREAD), HEIGHT_SHARE, PLATE_ACROSS, PLATE_DOWN, strict=True)
    size, height, across, down = np.random.default_rng(seed).uniform(np.array(low), np.array(high))
    x1, y1, x2, y2 = plate_xyxy
    w = float((x2 - x1) * VEHICLE_WIDTH / plate_sizes()[plate_format][0] * np.exp(size))
    h = float(w * height)
    return float((x1 + x2) / 2 - across * w), float((y1 + y2) / 2 - down * h), w, h


class PlateStills(StoredSequences):
    """Base of photographs with annotated plates: each plate is a sequence of one frame, whose box says where
    to cut and isn't a label.
    """

    def _still(self, i: int, plate: PlateLabel, box_xyxy: Box, plate_format: str) -> SequenceInfo:
        """Return the sequence of one plate.

        Raises:
            DataError: the plate lies outside its image.
        """
        store, key = self._store(i), self._image_key(i, 0)
        width, height = image_size(store.read(key), store.locate(key))
        x1, y1, x2, y2 = box_xyxy
        if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:  # a pixel is for annotators that round
            raise DataError(
                f"{plate.where}: the plate x1={x1:g} y1={y1:g} x2={x2:g} y2={y2:g} reaches out of the image "
                f"{store.locate(key)}, which is {width} x {height} pixels. Correct the box."
            )
        file_name = PurePosixPath(key).name
        return SequenceInfo(
            name=self.names[i],
            boxes_xywh=np.array([vehicle_box(box_xyxy, plate_format, file_name)]),
            visible=np.ones(1, dtype=bool),
            is_video=False,
            whole_length=1,
            plates={0: plate},
            box_labelled=False,
            has_text=plate.text is not None,
        )
