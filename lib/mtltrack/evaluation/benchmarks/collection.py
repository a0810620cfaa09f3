"""Puts a benchmark together: pairs images with boxes, and notes what differs from the benchmark's list."""

from __future__ import annotations

import re
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.data.stores import natural_key
from mtltrack.evaluation.benchmarks.lists import Listed
from mtltrack.evaluation.benchmarks.reading import image_files
from mtltrack.evaluation.benchmarks.sequence import Benchmark, Sequence
from mtltrack.evaluation.benchmarks.stored import Frame

_SHOWN = 5


def frame_number(image: Frame) -> int:
    """Return the last number in the name of an image, 0 without one."""
    digits = re.findall(r"\d+", image.stem)
    return int(digits[-1]) if digits else 0


def some(names: Items[str]) -> str:
    """Return the first names, and that there are more."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


class Collection:
    """The sequences of one benchmark, as they are found.

    Args:
        name: of the benchmark.
        root: its folder, or its LMDB.
        layout: what is expected below the root, for messages.
        protocol: whose scoring rules hold.
    """

    def __init__(self, name: str, root: Path, layout: str, protocol: str = "otb") -> None:
        self.name, self.root, self.layout, self.protocol = name, root, layout, protocol
        self.sequences: list[Sequence] = []
        self.notes: list[str] = []
        self._cut: list[str] = []
        self._other_length: list[str] = []

    def missing(self, what: str, place: object) -> DataError:
        """Return an error that says what is missing at a place, and what is expected where."""
        return DataError(
            f"{self.name}: {what} {place}. Below its root, which is roots.{self.name} in local.yaml (now "
            f"{self.root}), is expected: {self.layout}"
        )

    def folders(self, place: Path) -> list[Path]:
        """Return the folders directly below a place, in natural order; raises DataError without the place."""
        if not place.is_dir():
            raise self.missing("there is no folder", place)
        found = [path for path in place.iterdir() if path.is_dir()]
        return sorted(found, key=lambda path: natural_key(path.name))

    def images(self, name: str, folder: Path) -> list[Path]:
        """Return the images of a sequence's folder; raises DataError when there is no such folder."""
        if not folder.is_dir():
            raise self.missing(f"the images of '{name}' are missing, there is no folder", folder)
        return image_files(folder)

    def add(
        self,
        name: str,
        images: Items[Frame],
        boxes_xywh: NDArray[np.float64],
        *,
        listed: Listed | None = None,
        folder: Path | None = None,
        **more: Any,
    ) -> None:
        """Pair images with boxes.

        Images outside of the range that the benchmark's list gives are left out, and boxes before it as well
        where the file begins with image 1. Images after the last box are left out, with a note.

        Args:
            name: of the sequence.
            images: in order.
            boxes_xywh: (N, 4).
            listed: what the benchmark says of the sequence.
            folder: for messages and side files.
            more: further attributes of `Sequence`; arrays have one entry a box.

        Raises:
            DataError: there are fewer images than boxes.
        """
        listed = listed or Listed(name)
        boxes, chosen = boxes_xywh, list(images)
        if listed.first > 1 and len(boxes) == listed.last:  # one for each image from the first on
            boxes = boxes[listed.first - 1 :]
            more = {
                key: value[listed.first - 1 :] if isinstance(value, np.ndarray) else value
                for key, value in more.items()
            }
        last = np.inf if listed.last is None else listed.last
        inside = [image for image in chosen if listed.first <= frame_number(image) <= last]
        if (listed.first > 1 or listed.last is not None) and (
            len(inside) == len(boxes) or len(chosen) != len(boxes)
        ):  # else they were numbered anew
            chosen = inside
        if len(boxes) > 1 and len(chosen) > len(boxes):
            self._cut.append(f"'{name}' ({len(chosen)} images, {len(boxes)} boxes)")
            chosen = chosen[: len(boxes)]
        more.setdefault("attributes", listed.attributes)
        sequence = Sequence(name, tuple(chosen), boxes, folder=folder, **more)
        if listed.frames is not None and len(sequence) != listed.frames:
            self._other_length.append(f"'{name}' ({len(sequence)}, not {listed.frames})")
        self.sequences.append(sequence)

    def lacking(self, names: Items[str], total: int) -> None:
        """Note which sequences of the benchmark's list aren't there."""
        if names:
            self.notes.append(f"{len(names)} of the {total} sequences are not in {self.root}: {some(names)}")

    def count(self, wanted: int) -> None:
        """Note that the benchmark has another number of sequences."""
        if len(self.sequences) != wanted:
            self.notes.append(f"{len(self.sequences)} sequences in {self.root}, the benchmark has {wanted}")

    def build(self, place: Path | None = None) -> Benchmark:
        """Return the benchmark.

        Args:
            place: where sequences were looked for; the root by default.

        Raises:
            DataError: there are no sequences, or two of one name.
        """
        if not self.sequences:
            raise self.missing("no sequence was found in", place or self.root)
        names = [sequence.name for sequence in self.sequences]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(
                f"{self.name}: two sequences in {self.root} are called '{twice[0]}', and would write to one "
                "result file; rename the folder of one"
            )
        if self._cut:
            self.notes.append(f"images after the last box are left out: {some(self._cut)}")
        if self._other_length:
            self.notes.append(
                f"{len(self._other_length)} sequences have another number of frames than in the benchmark; "
                f"scores over them can't be compared with published ones: {some(self._other_length)}"
            )
        return Benchmark(self.name, tuple(self.sequences), self.protocol, tuple(self.notes))
