"""Whose results `analysis_results.py` scores, and on which frames."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mtltrack.cli.command import dataset_key
from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.evaluation.benchmarks import Benchmark, FrameRanges, parse_ranges
from mtltrack.evaluation.formats import FoundResults, find_results
from mtltrack.evaluation.formats.finding import is_sequence_folder
from mtltrack.evaluation.provenance import load_records
from mtltrack.evaluation.report import Results, Truth
from mtltrack.evaluation.results import SUBFOLDERS, ResultFolder

TRUTH_FOLDERS = ("gt", "groundtruth", "ground_truth", "annos", "anno")


def find_trackers(root: Path) -> dict[str, Path]:
    """Return `name/param` -> folder for every folder of results that `test.py` wrote below `root`."""
    if not root.is_dir():
        raise DataError(
            f"no results: '{root}' is no folder. Make some by python tracking/test.py, "
            "or give --results or --save_dir"
        )
    found = {}
    for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
        if is_sequence_folder(folder):
            continue
        places = [folder, *(folder / name for name in set(SUBFOLDERS.values()))]
        if any(ResultFolder(place).sequences() for place in places):
            found[f"{folder.parent.name}/{folder.name}"] = folder
    return found


def choose(found: Mapping[str, Path], wanted: Sequence[str] | None, root: Path) -> list[str]:
    """Return the trackers of `--trackers`, or all."""
    for name in wanted or ():
        if name not in found:
            raise DataError(
                f"no results of the tracker '{name}' below '{root}'.{did_you_mean(name, found)} "
                f"Found: {', '.join(found)}"
            )
    return list(dict.fromkeys(wanted)) if wanted is not None else list(found)


def choose_trackers(root: Path, wanted: Sequence[str] | None) -> dict[str, Path]:
    """Return the trackers of `--trackers`, or all, from what `test.py` wrote."""
    found = find_trackers(root)
    if not found:
        raise DataError(f"no result files <tracker>/<param>/<seq>.txt below '{root}'")
    return {name: found[name] for name in choose(found, wanted, root)}


def foreign_trackers(
    root: Path, wanted: Sequence[str] | None, sequences: Collection[str], truth: Path | None = None
) -> dict[str, FoundResults]:
    """Return the trackers of `--trackers`, or all, from results of any program for these sequences."""
    found = find_results(root, sequences, truth)
    return {name: found[name] for name in choose({name: root for name in found}, wanted, root)}


def results_on(
    root: Path,
    wanted: Sequence[str] | None,
    dataset: str,
    trackers: Mapping[str, Path],
    sequences: Collection[str],
) -> dict[str, Results]:
    """Return the results on one data set: those of `test.py`, or of another program where it wrote none."""
    if trackers:
        return {name: ResultFolder(path / SUBFOLDERS.get(dataset, "")) for name, path in trackers.items()}
    return {**foreign_trackers(root, wanted, sequences)}


def title_of(truth: Path) -> str:
    """Return what data is called whose ground truth is given: as its file or folder, or as the folder above
    one that only says that it holds ground truth.
    """
    truth = truth.resolve()
    if truth.name.lower() in TRUTH_FOLDERS and truth.parent.name:
        truth = truth.parent
    return truth.name.removesuffix(".gz").removesuffix(".json")


def under_true_names(
    trackers: Mapping[str, Results], truths: Sequence[Truth]
) -> tuple[dict[str, Results], list[str]]:
    """Return results of other programs under the names of the ground truth, and notes about the names."""
    found, notes = dict(trackers), []
    for name, results in trackers.items():
        if isinstance(results, FoundResults):
            found[name], said = results.named_as(truth.name for truth in truths)
            notes += [f"{name}: {note}" for note in said]
    return found, notes


def without(truths: Sequence[Truth], names: Collection[str]) -> tuple[list[Truth], list[str]]:
    """Return the ground truth but for the sequences of `--without`, and a note that says so."""
    known = [truth.name for truth in truths]
    for name in names:
        if name not in known:
            raise DataError(
                f"--without names '{name}', which is no sequence here.{did_you_mean(name, known)} "
                f"Sequences: {', '.join(known[:20])}{', ...' * (len(known) > 20)}"
            )
    left = [truth for truth in truths if truth.name not in names]
    if not left:
        raise DataError("--without names every sequence; leave one")
    return left, [f"left out by --without: {', '.join(names)}"] if names else []


def group_by_dataset(trackers: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """Return data set -> the trackers whose results say that they were made from it."""
    groups: dict[str, dict[str, Path]] = {}
    for name, folder in trackers.items():
        for place in [folder, *(folder / sub for sub in sorted(set(SUBFOLDERS.values())))]:
            for origin in load_records(ResultFolder(place)).sequences.values():
                groups.setdefault(origin.dataset, {})[name] = folder
    if not groups:
        raise DataError(
            f"the results of {', '.join(trackers)} don't say what they were made from; "
            "give --dataset NAME or FOLDER"
        )
    return groups


def tested_ranges(folders: Mapping[str, Results], dataset: str) -> FrameRanges:
    """Return the frames that each sequence with results was tested on, the same for all trackers."""
    found: FrameRanges = {}
    for folder in folders.values():
        if not isinstance(folder, ResultFolder):
            continue  # another program's, which notes no frames
        for name, frames in load_records(folder).ranges(dataset_key(dataset)).items():
            if not folder.has(name):
                continue
            if found.setdefault(name, frames) != frames:
                raise DataError(
                    f"the trackers were tested on different frames of '{name}' of '{dataset}': "
                    f"{found[name][0]} to {found[name][1]}, and {frames[0]} to {frames[1]}; choose trackers "
                    "by --trackers, or give --frames and --allow-partial"
                )
    return found


def ranges_to_score(
    arguments: argparse.Namespace, benchmark: Benchmark, folders: Mapping[str, Results], dataset: str
) -> FrameRanges:
    """Return the parts of sequences that are scored: those of `--frames`, or those that were tested.

    Raises:
        DataError: `--frames` are others than were tested, without `--allow-partial`.
    """
    given = parse_ranges(arguments.frames)
    if given and arguments.allow_partial:
        return given
    tested = tested_ranges(folders, dataset)
    for name, (first, last) in given.items():
        if name in tested and tested[name] != (first, last):
            raise DataError(
                f"--frames {name}={first}:{last}: the results were made on the frames {tested[name][0]} to "
                f"{tested[name][1]}; leave --frames out to score those"
            )
    whole = {item.name: (item.first_frame, item.first_frame + len(item) - 1) for item in benchmark.sequences}
    return given or {name: tested[name] for name in whole if tested.get(name, whole[name]) != whole[name]}
