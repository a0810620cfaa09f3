"""Archives for the servers that score GOT-10k's and TrackingNet's test splits, checked before and after
writing.

| server | archive |
|---|---|
| GOT-10k | `<seq>/<seq>_001.txt` with x,y,w,h a line, `<seq>/<seq>_time.txt` with seconds a line |
| TrackingNet | `<seq>.txt` with x,y,w,h a line |

GOT-10k's own toolkit writes boxes with three digits after the point. TrackingNet's development kit rounds the
boxes to whole pixels itself, and finds a sequence's file by a part of its name: nothing else may be in the
archive.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtltrack.core.errors import DataError
from mtltrack.evaluation.provenance import load_records
from mtltrack.evaluation.results import ResultFolder, parse_numbers, read_boxes

Array = NDArray[np.float64]

BOX_DECIMALS = 3
TIME_DECIMALS = 6
MOST_FAULTS = 8  # that one message names
NEAR = 1.0  # pixels that the first box may be off: truncation, and pixels that count from 1
_YEAR_ZERO = (1980, 1, 1, 0, 0, 0)  # the same results make the same archive


@dataclass(frozen=True)
class Server:
    """What one server takes.

    Attributes:
        benchmark: its name as in `--dataset`.
        title: its name in messages.
        names: returns the names of its test sequences.
        with_times: seconds a frame belong to the archive.
    """

    benchmark: str
    title: str
    names: Callable[[], tuple[str, ...]]
    with_times: bool

    def box_file(self, sequence: str) -> str:
        """Name in the archive of a sequence's boxes."""
        return f"{sequence}/{sequence}_001.txt" if self.with_times else f"{sequence}.txt"

    def time_file(self, sequence: str) -> str:
        """Name in the archive of a sequence's seconds a frame."""
        return f"{sequence}/{sequence}_time.txt"


def got10k_names() -> tuple[str, ...]:
    """Return the names of GOT-10k's 180 test sequences."""
    return tuple(f"GOT-10k_Test_{number:06d}" for number in range(1, 181))


def trackingnet_names() -> tuple[str, ...]:
    """Return the names of TrackingNet's 511 test sequences."""
    text = resources.files(__package__).joinpath("trackingnet_test.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


SERVERS = {
    "got10k": Server("got10k_test", "GOT-10k", got10k_names, with_times=True),
    "trackingnet": Server("trackingnet", "TrackingNet", trackingnet_names, with_times=False),
}


@dataclass(frozen=True)
class Expected:
    """What an archive must hold.

    Attributes:
        lengths: sequence -> its frames; None where they aren't known.
        source: where that comes from, for messages.
        first_boxes: sequence -> (4,) the true first box x, y, w, h, where it is known.
    """

    lengths: Mapping[str, int | None]
    source: str
    first_boxes: Mapping[str, Array] = field(default_factory=dict)


@dataclass
class Submission:
    """Results that passed the checks.

    Attributes:
        boxes: sequence -> (N, 4) x, y, w, h.
        times: sequence -> (N,) seconds; empty where the server takes none.
        notes: what the user should know before sending them.
    """

    boxes: dict[str, Array]
    times: dict[str, Array]
    notes: list[str]


def listed(names: Iterable[str], limit: int = MOST_FAULTS, separator: str = ", ") -> str:
    """Join names, at most `limit` of them."""
    items = list(names)
    more = f"{separator}and {len(items) - limit} more" if len(items) > limit else ""
    return separator.join(items[:limit]) + more


def check_names(server: Server, expected: Expected) -> None:
    """Raise `DataError` unless `expected` has all of the server's sequences and no others."""
    official = server.names()
    missing = [name for name in official if name not in expected.lengths]
    others = sorted(set(expected.lengths) - set(official))
    if missing or others:
        parts = [f"lacks {len(missing)} of them: {listed(missing)}"] if missing else []
        parts += [f"has {len(others)} others: {listed(others)}"] if others else []
        raise DataError(
            f"{server.title}'s server scores {len(official)} test sequences, but {expected.source} "
            f"{' and '.join(parts)}. Complete it, or name another one (--dataset-root, --ground-truth)"
        )


def collect(server: Server, folder: ResultFolder, expected: Expected) -> Submission:
    """Read and check the results of every sequence.

    Args:
        server: what it takes.
        folder: holds `<seq>.txt` and `<seq>_time.txt`.
        expected: names and lengths.

    Raises:
        DataError: results are missing, have another length, or hold what is no box or no time, or come from
            several checkpoints. The message names up to eight faults, each with its file and line.
    """
    if not folder.path.is_dir():
        raise DataError(
            f"no results of {server.title}: '{folder.path}' is no folder. Make them by python "
            f"tracking/test.py <tracker_name> <cfg_name> --dataset {server.benchmark} --decimals 2"
        )
    faults = _missing(server, folder, expected) + _mixed(folder, expected)
    boxes: dict[str, Array] = {}
    times: dict[str, Array] = {}
    for name, length in expected.lengths.items():
        try:
            if folder.boxes(name).is_file():
                boxes[name] = _checked_boxes(folder.boxes(name), length, expected.source)
            if server.with_times and folder.times(name).is_file():
                times[name] = _checked_times(folder.times(name), folder.boxes(name), boxes.get(name))
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError(
            f"these results can't be sent to {server.title}'s server:\n  "
            f"{listed(faults, separator=chr(10) + '  ')}\nNothing was written"
        )
    return Submission(boxes, times, _notes(server, folder, expected, boxes))


def _missing(server: Server, folder: ResultFolder, expected: Expected) -> list[str]:
    """Name the files that aren't there."""
    faults = []
    names = [name for name in expected.lengths if not folder.boxes(name).is_file()]
    if names:
        faults.append(
            f"{len(names)} of {len(expected.lengths)} sequences have no results in '{folder.path}': "
            f"{listed(names)}; python tracking/test.py ... --dataset {server.benchmark} makes what is missing"
        )
    if server.with_times:
        names = [
            name
            for name in expected.lengths
            if folder.boxes(name).is_file() and not folder.times(name).is_file()
        ]
        if names:
            faults.append(
                f"{len(names)} sequences have boxes but no seconds a frame (<seq>_time.txt) in "
                f"'{folder.path}': {listed(names)}"
            )
    return faults


def _mixed(folder: ResultFolder, expected: Expected) -> list[str]:
    """Say if `run.json` tells of several checkpoints or configurations."""
    records = load_records(folder)
    used = [origin for name, origin in records.sequences.items() if name in expected.lengths]
    faults = []
    weights = dict.fromkeys(origin.weights for origin in used)
    if len(weights) > 1:
        files = [records.weights[key]["file"] for key in weights]
        faults.append(f"'{folder.path}' mixes results of {len(weights)} checkpoints: {listed(files)}")
    if len({origin.config for origin in used}) > 1:
        faults.append(f"'{folder.path}' mixes results of several configurations, see its run.json")
    return faults


def _checked_boxes(path: Path, length: int | None, source: str) -> Array:
    boxes = read_boxes(path)
    bad = ~np.isfinite(boxes).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"'{path}', line {row + 1}: {boxes[row].tolist()} is no box; wanted finite numbers")
    negative = (boxes[:, 2:] < 0).any(axis=1)
    if negative.any():
        row = int(np.argmax(negative))
        raise DataError(
            f"'{path}', line {row + 1}: the box {boxes[row].tolist()} has a negative size; wanted x, y, w, h"
        )
    if length is not None and len(boxes) != length:
        raise DataError(
            f"'{path}' has {len(boxes)} boxes, but the sequence has {length} frames ({source}); run it again "
            "(tracking/test.py ... --force)"
        )
    return boxes


def _checked_times(path: Path, box_file: Path, boxes: Array | None) -> Array:
    times = parse_numbers(path, 1)[:, 0]
    bad = ~np.isfinite(times) | (times < 0)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"'{path}', line {row + 1}: {times[row]} is no time; wanted seconds of 0 or more")
    if boxes is not None and len(times) != len(boxes):
        raise DataError(f"'{path}' has {len(times)} times, but '{box_file}' has {len(boxes)} boxes")
    return times


def _notes(server: Server, folder: ResultFolder, expected: Expected, boxes: Mapping[str, Array]) -> list[str]:
    notes = []
    others = [name for name in folder.sequences() if name not in expected.lengths]
    if others:
        notes.append(f"left out, since they aren't {server.title}'s test sequences: {listed(others)}")
    if boxes and all(np.array_equal(values[1:], np.trunc(values[1:])) for values in boxes.values()):
        notes.append(
            f"all boxes are whole numbers, as if cut to integers, which costs overlap: {server.title}'s "
            "server takes decimals. Make them by tracking/test.py --decimals 2 --force"
        )
    empty = {name: int((values[:, 2:] == 0).any(axis=1).sum()) for name, values in boxes.items()}
    empty = {name: count for name, count in empty.items() if count}
    if empty:
        notes.append(f"{sum(empty.values())} boxes without a size, in {listed(empty)}")
    off = [
        name
        for name, box in expected.first_boxes.items()
        if name in boxes and np.abs(boxes[name][0] - box).max() > NEAR
    ]
    if off:
        notes.append(
            f"the first box isn't the one that {expected.source} gives, in {listed(off)}: were these "
            "results made from that data?"
        )
    if any(length is None for length in expected.lengths.values()):
        notes.append(f"the numbers of boxes weren't checked: {expected.source} doesn't tell the lengths")
    return notes


def archive_entries(server: Server, submission: Submission) -> dict[str, str]:
    """Return the archive's files, name -> text."""
    entries = {}
    for name, boxes in submission.boxes.items():
        lines = (",".join(f"{value:.{BOX_DECIMALS}f}" for value in row) for row in boxes)
        entries[server.box_file(name)] = "".join(line + "\n" for line in lines)
        if server.with_times:
            seconds = submission.times[name]
            entries[server.time_file(name)] = "".join(f"{value:.{TIME_DECIMALS}f}\n" for value in seconds)
    return entries


def write_archive(path: Path, server: Server, submission: Submission) -> int:
    """Write the archive as a whole: it is read again and compared before it takes its name.

    Returns:
        Its bytes.

    Raises:
        DataError: it can't be written, or doesn't hold what it should.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"can't write '{path}': {error.strerror or error}") from error
    try:
        with zipfile.ZipFile(part, "w") as archive:
            for name, text in archive_entries(server, submission).items():
                info = zipfile.ZipInfo(name, _YEAR_ZERO)
                info.external_attr = 0o644 << 16
                archive.writestr(info, text, compress_type=zipfile.ZIP_DEFLATED)
        check_archive(part, server, submission)
        os.replace(part, path)
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"can't write '{path}': {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def check_archive(path: Path, server: Server, submission: Submission) -> None:
    """Read an archive as a server does and compare it with the results.

    Raises:
        DataError: it is damaged, or files or numbers differ.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = archive_entries(server, submission).keys()
            if sorted(archive.namelist()) != sorted(wanted):
                differing = sorted(set(archive.namelist()) ^ set(wanted))
                raise DataError(f"the archive '{path}' has other files than it should: {listed(differing)}")
            for name, boxes in submission.boxes.items():
                _compare(archive, server.box_file(name), boxes, BOX_DECIMALS)
                if server.with_times:
                    _compare(archive, server.time_file(name), submission.times[name][:, None], TIME_DECIMALS)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"the archive '{path}' can't be read again: {error}") from error


def _compare(archive: zipfile.ZipFile, name: str, wanted: Array, decimals: int) -> None:
    found = np.loadtxt(io.StringIO(archive.read(name).decode("utf-8")), delimiter=",", ndmin=2)
    if found.shape != wanted.shape or np.abs(found - wanted).max() > 0.51 * 10**-decimals:
        raise DataError(f"'{name}' of the archive doesn't hold the numbers of the results")
