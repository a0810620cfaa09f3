"""Writes tiny folders in the benchmarks' layouts: empty images, boxes that move by a pixel a frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_images(folder: Path, numbers: Iterable[int], digits: int = 4, suffix: str = "jpg") -> Path:
    """Write empty files, which nobody decodes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:0{digits}d}.{suffix}").touch()
    return folder


def write_boxes(path: Path, count: int, first: int = 1, separator: str = ",") -> Path:
    """Write `count` boxes whose x is the number of their image."""
    rows = [(number, 4, 10, 8) for number in range(first, first + count)]
    return write(path, "".join(separator.join(map(str, row)) + "\n" for row in rows))


def numbers_of(sequence: object) -> list[int]:
    """Return the numbers in the names of a sequence's images."""
    return [int(image.stem) for image in sequence.frames]  # type: ignore[attr-defined]
