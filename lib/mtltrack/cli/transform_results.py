"""`python tracking/transform_got10k.py` and `transform_trackingnet.py`: archives for the servers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mtltrack.cli.command import make_console, results_root, run_command, say
from mtltrack.core.errors import DataError
from mtltrack.core.paths import dataset_root
from mtltrack.evaluation.benchmarks.known import LOADERS
from mtltrack.evaluation.results import SUBFOLDERS, ResultFolder, parse_numbers
from mtltrack.evaluation.submission import SERVERS, Expected, Server, check_names, collect, write_archive

EXAMPLES = """examples:
  python tracking/transform_{key}.py --tracker_name hiptrack --cfg_name hiptrack
  python tracking/transform_{key}.py --tracker_name hiptrack --cfg_name hiptrack --runid 1 --out send.zip
  python tracking/transform_{key}.py --results raw/mine --out mine.zip --dataset-root /data/{key}
"""


def build_parser(key: str) -> argparse.ArgumentParser:
    """Return a command's arguments; `key` names the server, see `SERVERS`."""
    server = SERVERS[key]
    content = "boxes and times" if server.with_times else "boxes"
    files = "<seq>.txt and <seq>_time.txt" if server.with_times else "<seq>.txt"
    parser = argparse.ArgumentParser(
        prog=f"transform_{key}.py",
        description=f"Pack result files into the archive that {server.title}'s server takes: the {content} "
        f"of its {len(server.names())} test sequences. Everything is checked before anything is written; "
        "the results stay as they are.",
        epilog=EXAMPLES.format(key=key),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tracker_name", help="the model: hiptrack, ostrack")
    parser.add_argument("--cfg_name", help="name of the configuration")
    parser.add_argument(
        "--runid", type=int, help="results of <cfg_name>_<runid as three digits>, see tracking/test.py"
    )
    parser.add_argument(
        "--results",
        help="folder of results, without it <save_dir>/test/tracking_results; without --tracker_name the "
        f"folder of the {files} themselves",
    )
    parser.add_argument("--save_dir", help="without it that of local.yaml")
    parser.add_argument(
        "--out", help=f"the archive; without it {key}_submit.zip beside the folder of the <seq>.txt"
    )
    parser.add_argument(
        "--dataset-root",
        metavar="DIR",
        help=f"the data set, which tells the sequences' lengths; without it roots.{server.benchmark} of "
        "local.yaml",
    )
    parser.add_argument(
        "--ground-truth",
        metavar="DIR|JSON",
        help='tells the lengths where there is no data set: {"<seq>": frames, ...}, or a folder of <seq>.txt '
        "with a line for each frame, such as results that the server took before",
    )
    parser.add_argument(
        "--without-lengths",
        action="store_true",
        help="check names and numbers only: there is neither a data set nor a list of lengths",
    )
    return parser


def lengths_of(server: Server, path: Path) -> Expected:
    """Read `--ground-truth`: a JSON of lengths, or a folder of files with a line for each frame.

    Raises:
        DataError: it is neither, or the files hold the first box alone.
    """
    source = f"'{path}'"
    if path.is_file():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f'--ground-truth {source} is no JSON of {{"<seq>": frames}}: {error}') from error
        if not isinstance(content, dict):
            raise DataError(f'--ground-truth {source}: wanted {{"<seq>": frames, ...}}, found a list')
        for name, frames in content.items():
            if not isinstance(frames, int) or isinstance(frames, bool) or frames < 1:
                raise DataError(
                    f"--ground-truth {source}: '{name}' has {frames!r} frames; wanted a whole number, "
                    "at least 1"
                )
        return Expected(content, source)
    if not path.is_dir():
        raise DataError(f"--ground-truth {source} is neither a file nor a folder")
    boxes = {}
    for name in server.names():
        places = (path / f"{name}.txt", path / server.box_file(name), path / name / "groundtruth.txt")
        file = next((place for place in places if place.is_file()), None)
        if file is not None:
            boxes[name] = parse_numbers(file, 4)
    if not boxes:
        first = server.names()[0]
        forms = " or ".join(dict.fromkeys((f"{first}.txt", server.box_file(first))))
        raise DataError(
            f"--ground-truth {source} holds no file of {server.title}'s test sequences, such as {forms}"
        )
    if all(len(values) == 1 for values in boxes.values()):
        raise DataError(
            f"the files of --ground-truth {source} hold one box each, the public first one, which doesn't "
            "tell how long the sequences are; name the data set by --dataset-root"
        )
    return Expected(
        {name: len(values) for name, values in boxes.items()},
        source,
        {name: values[0] for name, values in boxes.items() if len(values)},
    )


def lengths_on_disk(server: Server, root: Path) -> Expected:
    """Return names, lengths and first boxes of a data set.

    Raises:
        DataError: it can't be read, see `mtltrack.evaluation.benchmarks`.
    """
    if not root.is_dir():
        raise DataError(f"--dataset-root '{root}' is no folder")
    sequences = LOADERS[server.benchmark](root).sequences
    return Expected(
        {sequence.name: len(sequence) for sequence in sequences},
        f"the data set in '{root}'",
        {sequence.name: sequence.boxes_xywh[0] for sequence in sequences},
    )


def find_expected(server: Server, arguments: argparse.Namespace) -> Expected:
    """Return what the archive must hold, by the flags, or by the data set of local.yaml.

    Raises:
        DataError: flags that exclude each other, or none and no data set.
    """
    flags = ("--dataset-root", "--ground-truth", "--without-lengths")
    values = (arguments.dataset_root, arguments.ground_truth, arguments.without_lengths)
    given = [flag for flag, value in zip(flags, values, strict=True) if value]
    if len(given) > 1:
        raise DataError(f"give one of {' and '.join(given)}: each says how long the sequences are")
    if arguments.without_lengths:
        return Expected(dict.fromkeys(server.names()), "the list of names")
    if arguments.ground_truth:
        return lengths_of(server, Path(arguments.ground_truth).expanduser())
    if arguments.dataset_root:
        return lengths_on_disk(server, Path(arguments.dataset_root).expanduser())
    try:
        root = dataset_root(server.benchmark)
    except DataError as error:
        raise DataError(
            f"the lengths of {server.title}'s sequences come from the data set: {error} Or name it by "
            "--dataset-root, give the lengths by --ground-truth, or skip this check by --without-lengths"
        ) from error
    return lengths_on_disk(server, root)


def results_folder(server: Server, arguments: argparse.Namespace) -> ResultFolder:
    """Return the folder of the `<seq>.txt`.

    Raises:
        DataError: the flags don't name one.
    """
    if arguments.tracker_name and arguments.cfg_name:
        return ResultFolder.of(
            results_root(arguments.results, arguments.save_dir),
            arguments.tracker_name,
            arguments.cfg_name,
            arguments.runid,
            server.benchmark,
        )
    if arguments.tracker_name or arguments.cfg_name:
        raise DataError("--tracker_name and --cfg_name belong together")
    if not arguments.results:
        raise DataError("name the results by --tracker_name and --cfg_name, or their folder by --results")
    if arguments.runid is not None:
        raise DataError("--runid belongs to --tracker_name and --cfg_name; --results alone names the folder")
    return ResultFolder(Path(arguments.results).expanduser())


def run_transform(arguments: argparse.Namespace) -> int:
    """Run a command and return its exit status."""
    console = make_console()
    server = SERVERS[arguments.server]
    folder = results_folder(server, arguments)
    expected = find_expected(server, arguments)
    check_names(server, expected)
    submission = collect(server, folder, expected)
    if arguments.out:
        out = Path(arguments.out).expanduser()
    else:
        beside = folder.path.resolve()
        out = beside.parent / f"{SUBFOLDERS[server.benchmark]}_submit.zip"
    if out.suffix != ".zip":
        raise DataError(f"--out '{out}' must end in .zip: the server takes nothing else")
    size = write_archive(out, server, submission)
    for note in submission.notes:
        print(f"note: {note}", file=sys.stderr)
    frames = sum(map(len, submission.boxes.values()))
    say(console, f"{len(submission.boxes)} sequences, {frames} boxes of {folder.path}")
    say(console, f"checked against {expected.source}, and read again: {out} ({size / 1e6:.2f} MB)")
    return 0


def main(server: str, argv: Sequence[str] | None = None) -> int:
    """Run the command line of one server, see `SERVERS`."""
    arguments = build_parser(server).parse_args(argv)
    arguments.server = server
    return run_command(run_transform, arguments)
