"""Test data: named benchmarks and folders of sequences, see `load_benchmark`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.evaluation.benchmarks.known import LOADERS, load_known
from mtltrack.evaluation.benchmarks.reading import (
    annotation_files,
    folder_sequences,
    is_got10k,
    with_side_files,
)
from mtltrack.evaluation.benchmarks.sequence import Benchmark, FrameRanges, Sequence, parse_ranges

__all__ = ["Benchmark", "FrameRanges", "Sequence", "load_benchmark", "parse_ranges"]


def load_benchmark(
    dataset: str, ranges: FrameRanges | None = None, sequence: str | None = None, *, one_based: bool = True
) -> Benchmark:
    """Return the sequences that `--dataset`, `--frames` and `--sequence` name.

    Args:
        dataset: a benchmark's name, or a folder: of sequences in OTB's layout, or of one such sequence.
        ranges: sequence name -> first and last frame, counted from 1, both included.
        sequence: only this one: its name, or its number from 0.
        one_based: the pixels of a folder's ground truth count from 1 (OTB), but for sequences in GOT-10k's
            layout, which count from 0. Benchmarks are run as published: their numbers are handed to the
            tracker as they are.

    Raises:
        DataError: an unknown name, a missing folder, images and boxes that don't fit together.
    """
    if dataset in LOADERS:
        benchmark = load_known(dataset)
    else:
        benchmark = folder_benchmark(Path(dataset).expanduser(), one_based=one_based)
    return benchmark.select(sequence, ranges or {})


def folder_benchmark(folder: Path, *, one_based: bool = True) -> Benchmark:
    """Return the sequences of a folder: each sub-folder with `groundtruth*.txt`, or the folder itself.

    They come with the zones and time stamps that lie beside them.
    """
    if not folder.is_dir():
        raise DataError(
            f"--dataset '{folder}' is neither a benchmark nor a folder.{did_you_mean(str(folder), LOADERS)} "
            f"Benchmarks: {', '.join(LOADERS)}"
        )
    places = (
        [folder] if annotation_files(folder) else sorted(path for path in folder.iterdir() if path.is_dir())
    )
    sequences = []
    for place in places:
        from_one = one_based and not is_got10k(place)
        for item in folder_sequences(place):
            sequences.append(replace(with_side_files(item), one_based=from_one))
    if not sequences:
        splits = [name for name in ("train", "val", "test") if (folder / name).is_dir()]
        hint = f". Did you mean '{folder / splits[0]}'?" if splits else ""
        raise DataError(
            f"no sequence found in '{folder}': wanted <sequence>/groundtruth.txt (or groundtruth_rect.txt) "
            f"with a line x,y,w,h a frame, and the images in <sequence>/img or <sequence>{hint}"
        )
    return Benchmark(folder.resolve().name, tuple(sequences))
