"""Results of any tracker: which files below a folder are whose, and the boxes in them.

| layout | what it is |
|---|---|
| `<seq>.txt` | lines x, y, w, h, separated by tabs, commas, semicolons or spaces |
| `<seq>.json` | the OTB toolkit's: a list with one object with `res`; or a bare list of boxes |
| `<seq>/<seq>_001.txt` | the GOT-10k toolkit's, with `<seq>/<seq>_time.txt` |
| one JSON file | `{seq: [[x, y, w, h], ...]}`, or objects with `res` |

Each of these is one tracker when it is the folder that was given, and several in its sub-folders.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.evaluation.formats.content import boxes_of, is_json, parse_json, read_text
from mtltrack.evaluation.formats.names import match_names
from mtltrack.evaluation.results import ResultFolder, parse_boxes, speed_of

Array = NDArray[np.float64]

DEPTH = 3  # folders below the one that is given in which trackers are looked for
_SUFFIXES = re.compile(r"\.(txt|csv|json)(\.gz)?$")
_OURS = re.compile(r"^(run\.json|analysis_.*|\..*)$|_time\.txt$|\.jsonl$|_confidence\.txt$")


@dataclass(frozen=True)
class BoxSource:
    """Where one sequence's boxes stand.

    Attributes:
        path: the file.
        content: the sequence's part of a JSON file, None for a file that is yet to be read.
        times: file of the seconds a frame, or None.
        rival: another file with the same sequence's name, or None.
    """

    path: Path
    content: Any = None
    times: Path | None = None
    rival: Path | None = None

    def boxes(self, sequence: str) -> Array:
        """Return the boxes (N, 4) x, y, w, h; `DataError` names file and line, or box."""
        if self.rival is not None:
            raise DataError(
                f"'{self.path}' and '{self.rival.name}' beside it both are of '{sequence}'; remove one"
            )
        if self.content is not None:
            return _json_boxes(self.content, f"'{self.path}', '{sequence}'")
        text = read_text(self.path)
        if is_json(text):
            return _json_boxes(parse_json(text, self.path), f"'{self.path}'")
        return parse_boxes(text, self.path)

    def fps(self) -> float | None:
        """Return frames a second, None where nobody noted it."""
        if self.times is not None:
            return speed_of(self.times)
        run = self.content
        if run is None and self.path.name.endswith((".json", ".json.gz")):
            run = parse_json(read_text(self.path), self.path)
        run = run[0] if isinstance(run, list) and len(run) == 1 else run
        fps = run.get("fps") if isinstance(run, dict) else None
        return float(fps) if isinstance(fps, (int, float)) and fps > 0 else None


@dataclass(frozen=True)
class FoundResults:
    """One tracker's results, as `ResultFolder` gives them, of any layout.

    Attributes:
        path: folder or file of the tracker.
        sources: sequence -> where its boxes stand.
    """

    path: Path
    sources: Mapping[str, BoxSource]

    def has(self, sequence: str) -> bool:
        """Whether there are boxes of a sequence."""
        return sequence in self.sources

    def read(self, sequence: str) -> Array:
        """Return the boxes (N, 4) x, y, w, h of a sequence."""
        return self.sources[sequence].boxes(sequence)

    def where(self, sequence: str) -> Path:
        """File of a sequence's boxes."""
        return self.sources[sequence].path

    def fps(self, sequence: str) -> float | None:
        """Return frames a second, None where nobody noted it."""
        return self.sources[sequence].fps()

    def tasks(self, sequence: str) -> Path:
        """File of what other heads said, which only this program's results have."""
        source = self.sources.get(sequence)
        folder = self.path if source is None else source.path.parent
        return ResultFolder(folder).tasks(sequence)

    def named_as(self, sequences: Iterable[str]) -> tuple[FoundResults, list[str]]:
        """Return the results under the names of the ground truth, and notes about what is called otherwise
        or isn't known to it (see `match_names`).
        """
        matched, taken, unknown = match_names(sequences, self.sources)
        more = [f"and {len(taken) - 3} more names that are written otherwise"] if len(taken) > 3 else []
        notes = [", ".join([*taken[:3], *more])] if taken else []
        if unknown:
            notes.append(f"{len(unknown)} result(s) of no sequence of the ground truth ({_listed(unknown)})")
        return replace(self, sources={name: self.sources[found] for name, found in matched.items()}), notes


def find_results(
    root: Path, sequences: Collection[str], truth: Path | None = None
) -> dict[str, FoundResults]:
    """Return tracker -> results, for the tracker or trackers of a folder or a JSON file.

    A folder is a tracker's when some file in it is called as a sequence is (`match_names`); others, which may
    hold a note or a list beside the trackers, are looked into. A tracker is called as its folder is, or by
    the way to it from `root`.

    Args:
        root: where to look.
        sequences: names of the ground truth.
        truth: folder of the ground truth, which is no tracker when it lies beside them.

    Raises:
        DataError: there are none, or of other sequences only.
    """
    if root.is_file():
        return {_stem(root): _one_file(root)}
    if not root.is_dir():
        raise DataError(f"--results '{root}' is neither a folder nor a file")
    others: list[str] = []
    found = {
        name: results
        for name, results in _walk(root, (), sequences, others)
        if truth is None or results.path.resolve() != truth.resolve()
    }
    if found:
        return found
    if others:
        raise DataError(
            f"the results in '{root}' are of none of the ground truth's {len(sequences)} sequences: found "
            f"{_listed(others)}; wanted {_listed(sequences)}"
        )
    matlab = next(root.rglob("*.mat"), None)
    hint = f". '{matlab}' is MATLAB's: write its boxes as text" if matlab else ""
    raise DataError(
        f"no results in '{root}' or in its folders: wanted <seq>.txt with lines x, y, w, h, <seq>.json, or "
        f"<seq>/<seq>_001.txt as the GOT-10k toolkit writes them{hint}"
    )


def _walk(
    folder: Path, way: tuple[str, ...], sequences: Collection[str], others: list[str]
) -> Iterator[tuple[str, FoundResults]]:
    """Yield the trackers; names of files that are no sequence's go into `others`."""
    sources = _sources(folder)
    if match_names(sequences, sources)[0]:
        yield "/".join(way) or folder.resolve().name, FoundResults(folder, sources)
        return
    others += sources
    for place in sorted(path for path in folder.iterdir() if path.is_dir()) if len(way) < DEPTH else ():
        yield from _walk(place, (*way, place.name), sequences, others)


def _listed(names: Collection[str], limit: int = 5) -> str:
    return ", ".join(list(names)[:limit]) + (", ..." if len(names) > limit else "")


def _sources(folder: Path) -> dict[str, BoxSource]:
    """Return the sequences of a folder that is one tracker's, empty where it is none."""
    if is_sequence_folder(folder):
        return {}
    sources: dict[str, BoxSource] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and is_sequence_folder(path):
            times = path / f"{path.name}_time.txt"
            first = path / f"{path.name}_001.txt"
            sources[path.name] = BoxSource(first, times=times if times.is_file() else None)
        elif path.is_file() and _SUFFIXES.search(path.name) and not _OURS.search(path.name):
            times = path.with_name(f"{_stem(path)}_time.txt")
            rival = sources[_stem(path)].path if _stem(path) in sources else None
            sources[_stem(path)] = BoxSource(path, times=times if times.is_file() else None, rival=rival)
    return sources


def is_sequence_folder(folder: Path) -> bool:
    """Return whether a folder holds one sequence's results as the GOT-10k toolkit writes them."""
    return (folder / f"{folder.name}_001.txt").is_file()


def _stem(path: Path) -> str:
    return _SUFFIXES.sub("", path.name)


def _one_file(path: Path) -> FoundResults:
    """Return the results of a JSON file that holds every sequence."""
    text = read_text(path)
    content = parse_json(text, path) if is_json(text) else None
    if isinstance(content, list) and all(isinstance(run, dict) and "seqName" in run for run in content):
        content = {run["seqName"]: run for run in content}
    if not isinstance(content, dict) or "res" in content or not content:
        raise DataError(
            f"--results '{path}' is one file: wanted JSON {{sequence: [[x, y, w, h], ...]}} of all "
            "sequences, or give the folder in which it lies"
        )
    return FoundResults(path, {name: BoxSource(path, content=part) for name, part in content.items()})


def _json_boxes(content: Any, where: str) -> Array:
    """Return the boxes of a bare list, or of the OTB toolkit's object with `res`."""
    if isinstance(content, list) and content and all(isinstance(run, dict) for run in content):
        if len(content) != 1:
            kind = content[0].get("evalType", "")
            raise DataError(
                f"{where} holds {len(content)} runs{f' ({kind})' if kind else ''}; wanted one, of a one-pass "
                "evaluation (OPE)"
            )
        content = content[0]
    if isinstance(content, dict):
        if "res" not in content:
            raise DataError(f"{where}: wanted 'res' with the boxes; found the keys {', '.join(content)}")
        kind = content.get("resType", "rect")
        if kind != "rect":
            raise DataError(f"{where}: boxes of the kind '{kind}' can't be read; wanted 'rect', x, y, w, h")
        content = content["res"]
    return boxes_of(content, where)
