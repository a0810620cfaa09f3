"""`python tracking/analysis_results.py`: print the scores of result files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mtltrack.cli.analysis_tables import condition_table, mean_table, sequence_table, task_table
from mtltrack.cli.command import add_data_options, dataset_key, make_console, results_root, run_command, say
from mtltrack.core.errors import DataError, did_you_mean
from mtltrack.evaluation.benchmarks import Benchmark, FrameRanges, load_benchmark, parse_ranges
from mtltrack.evaluation.labelled import check_folder, labelled_results
from mtltrack.evaluation.provenance import load_records
from mtltrack.evaluation.report import Rules, Truth, evaluate, truths_in, truths_of
from mtltrack.evaluation.report_files import save
from mtltrack.evaluation.results import SUBFOLDERS, ResultFolder
from mtltrack.evaluation.task_scores import TaskScores, score_cls, score_tasks
from mtltrack.metrics.classification import plot_confusion

EXAMPLES = """examples:
  # every result below save_dir, on the data that it was made from
  python tracking/analysis_results.py
  python tracking/analysis_results.py --trackers hiptrack/hiptrack_cls ostrack/ostrack_256 --dataset lasot
  python tracking/analysis_results.py --dataset ../shared/data/sot --per-sequence --baseline \\
      --frames Crossing=81:120 --frames Car4_0001-0250=181:250
  python tracking/analysis_results.py --trackers hiptrack/hiptrack_mtl --dataset world/val --labels world/val
  python tracking/analysis_results.py --results raw/STRUCK --ground-truth raw/gt --allow-partial
"""
TaskTables = dict[str, dict[str, TaskScores]]  # task -> tracker -> scores


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="analysis_results.py",
        description="Print AUC, OP50, OP75, precision (20 px), normalised precision (0.2) and mean IoU of "
        "result files, in percent, and a table for each task that has answers and labels; write all of it as "
        "CSV and JSON beside the results.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--trackers",
        nargs="+",
        metavar="NAME/PARAM",
        help="trackers below the folder of results, such as hiptrack/hiptrack_cls; "
        "without it all that are found",
    )
    parser.add_argument(
        "--dataset", "--dataset_name", dest="dataset", help="a benchmark or a folder of sequences"
    )
    parser.add_argument("--results", help="folder of results; without it <save_dir>/test/tracking_results")
    parser.add_argument("--save_dir", help="without it that of local.yaml")
    parser.add_argument(
        "--ground-truth",
        metavar="DIR",
        help="folder of <seq>.txt; --results is then a folder of <seq>.txt, or of such folders",
    )
    parser.add_argument(
        "--protocol", help="whose rules hold with --ground-truth or a folder: otb (default), lasot, uav"
    )
    add_data_options(parser)
    parser.add_argument("--per-sequence", action="store_true", help="also a table of the sequences")
    parser.add_argument("--baseline", action="store_true", help="also score holding the first box still")
    parser.add_argument(
        "--labels",
        metavar="DIR",
        help="labels <DIR>/<seq>/<seq>.jsonl to score conditions, masks, plates, texts and alerts against; "
        "without it those in the folders of the sequences, where there are any",
    )
    parser.add_argument(
        "--conditions",
        metavar="DIR",
        help="labels of the scene conditions alone, in the place of those of --labels "
        "(DATA.TRAIN.CLS_ANN_DIR)",
    )
    parser.add_argument(
        "--exclude-invalid", action="store_true", help="divide by the frames with a target only"
    )
    parser.add_argument(
        "--validity",
        choices=("size", "all"),
        default="size",
        help="a frame has a target when its true w, h > 0 (size), or x, y, w, h > 0 (all)",
    )
    parser.add_argument(
        "--correct-invalid",
        action="store_true",
        help="count frames without a target as misses in the precision curves; the published analysis counts "
        "them as hits",
    )
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="score the sequences that every tracker has; too long results are cut, too short ones padded",
    )
    return parser


def find_trackers(root: Path) -> dict[str, Path]:
    """Return `name/param` -> folder for every folder of results below `root`."""
    if not root.is_dir():
        raise DataError(
            f"no results: '{root}' is no folder. Make some by python tracking/test.py, "
            "or give --results or --save_dir"
        )
    found = {}
    for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
        places = [folder, *(folder / name for name in set(SUBFOLDERS.values()))]
        if any(ResultFolder(place).sequences() for place in places):
            found[f"{folder.parent.name}/{folder.name}"] = folder
    return found


def choose_trackers(root: Path, wanted: Sequence[str] | None) -> dict[str, Path]:
    """Return the trackers of `--trackers`, or all."""
    found = find_trackers(root)
    if not found:
        raise DataError(f"no result files <tracker>/<param>/<seq>.txt below '{root}'")
    if wanted is None:
        return found
    for name in wanted:
        if name not in found:
            raise DataError(
                f"no results of the tracker '{name}' below '{root}'.{did_you_mean(name, found)} "
                f"Found: {', '.join(found)}"
            )
    return {name: found[name] for name in wanted}


def run_analysis(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    if arguments.ground_truth is not None:
        return _analyse_raw(console, arguments)
    root = results_root(arguments.results, arguments.save_dir)
    trackers = choose_trackers(root, arguments.trackers)
    if arguments.dataset is not None:
        groups = {arguments.dataset: trackers}
    else:
        groups = group_by_dataset(trackers)
    for dataset, members in groups.items():
        _analyse(console, arguments, root, dataset, members)
    return 0


def group_by_dataset(trackers: dict[str, Path]) -> dict[str, dict[str, Path]]:
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


def tested_ranges(folders: dict[str, ResultFolder], dataset: str) -> FrameRanges:
    """Return the frames that each sequence with results was tested on, the same for all trackers."""
    found: FrameRanges = {}
    for folder in folders.values():
        for name, frames in load_records(folder).ranges(dataset_key(dataset)).items():
            if not folder.boxes(name).is_file():
                continue
            if found.setdefault(name, frames) != frames:
                raise DataError(
                    f"the trackers were tested on different frames of '{name}' of '{dataset}': "
                    f"{found[name][0]} to {found[name][1]}, and {frames[0]} to {frames[1]}; choose trackers "
                    "by --trackers, or give --frames and --allow-partial"
                )
    return found


def ranges_to_score(
    arguments: argparse.Namespace, benchmark: Benchmark, folders: dict[str, ResultFolder], dataset: str
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


def _analyse(
    console: Console, arguments: argparse.Namespace, root: Path, dataset: str, trackers: dict[str, Path]
) -> None:
    folders = {name: ResultFolder(path / SUBFOLDERS.get(dataset, "")) for name, path in trackers.items()}
    benchmark = load_benchmark(dataset, one_based=not arguments.zero_based)
    ranges = ranges_to_score(arguments, benchmark, folders, dataset)
    benchmark = benchmark.select(None, ranges)
    for note in benchmark.notes:
        say(console, f"note: {note}")
    if ranges:
        listed = ", ".join(f"{name} {first} to {last}" for name, (first, last) in ranges.items())
        others = len(ranges) < len(benchmark.sequences)
        say(console, f"frames: {listed}" + "; all of the other sequences" * others)
    rules = rules_of(arguments, arguments.protocol or benchmark.protocol, ao=dataset.startswith("got10k"))
    truths = truths_of(benchmark)
    if arguments.dataset is None:  # whatever was tested, which may be one sequence of many
        tested = {
            name
            for folder in folders.values()
            for name in load_records(folder).ranges(dataset)
            if folder.boxes(name).is_file()
        }
        truths = [truth for truth in truths if truth.name in tested]
    _report(console, arguments, benchmark.name, truths, folders, rules, root)


def _analyse_raw(console: Console, arguments: argparse.Namespace) -> int:
    if arguments.results is None:
        raise DataError("--ground-truth needs --results, the folder of the result files")
    if arguments.frames:
        raise DataError("--frames needs --dataset; cut the files of --ground-truth instead")
    root = Path(arguments.results).expanduser()
    if not root.is_dir():
        raise DataError(f"--results '{root}' is no folder")
    if ResultFolder(root).sequences():
        folders = {root.resolve().name: ResultFolder(root)}
    else:
        places = sorted(path for path in root.iterdir() if path.is_dir())
        folders = {path.name: ResultFolder(path) for path in places if ResultFolder(path).sequences()}
    if not folders:
        raise DataError(f"no <seq>.txt in '{root}' or in its folders")
    truths = truths_in(Path(arguments.ground_truth).expanduser())
    rules = rules_of(arguments, arguments.protocol or "otb", ao=False)
    _report(console, arguments, Path(arguments.ground_truth).resolve().name, truths, folders, rules, root)
    return 0


def rules_of(arguments: argparse.Namespace, protocol: str, *, ao: bool) -> Rules:
    """Return the scoring rules that the options ask for."""
    return Rules(
        protocol=protocol,
        validity=arguments.validity,
        exclude_invalid=arguments.exclude_invalid,
        invalid_counts_as_hit=not arguments.correct_invalid,
        allow_partial=arguments.allow_partial,
        ao=ao,
    )


def _report(
    console: Console,
    arguments: argparse.Namespace,
    name: str,
    truths: list[Truth],
    folders: dict[str, ResultFolder],
    rules: Rules,
    root: Path,
) -> None:
    reports = evaluate(truths, folders, rules, baseline=arguments.baseline)
    for note in dict.fromkeys(note for report in reports for note in report.notes):
        say(console, f"note: {note}")
    console.print(mean_table(name, reports))
    if arguments.per_sequence:
        for report in reports:
            console.print(sequence_table(name, report))
    tasks = score_all_tasks(arguments, truths, folders)
    for task, trackers in tasks.items():
        console.print(task_table(task, trackers, arguments.per_sequence))
    for tracker, scores in tasks.get("cls", {}).items():
        _report_conditions(console, tracker, scores, root)
    if arguments.conditions is not None:
        for tracker in folders:
            if tracker not in tasks.get("cls", {}):
                say(console, f"note: {tracker} said nothing of the conditions of labelled frames")
    for path in save(reports, name, rules, root, tasks):
        say(console, f"written {path}")


def score_all_tasks(
    arguments: argparse.Namespace, truths: Sequence[Truth], folders: dict[str, ResultFolder]
) -> TaskTables:
    """Return the scores of every task that has answers and labels."""
    places = {}
    for option in ("labels", "conditions"):
        given = getattr(arguments, option)
        places[option] = None if given is None else check_folder(Path(given).expanduser(), f"--{option}")
    tables: TaskTables = {}
    for tracker, folder in folders.items():
        found = score_tasks(labelled_results(truths, folder, places["labels"]))
        if places["conditions"] is not None:
            found.pop("cls", None)
            conditions = score_cls(labelled_results(truths, folder, places["conditions"]))
            found |= {} if conditions is None else {"cls": conditions}
        for task, scores in found.items():
            tables.setdefault(task, {})[tracker] = scores
    return tables


def _report_conditions(console: Console, tracker: str, scores: TaskScores, root: Path) -> None:
    """Print the table of classes of a tracker, and draw its confusion matrix."""
    metric = scores.detail
    assert metric is not None
    console.print(condition_table(tracker, metric))
    picture = root / f"conditions_{tracker.replace('/', '_')}.png"
    say(console, f"written {plot_confusion(metric.confusion(), metric.class_names, picture, tracker)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run_analysis, build_parser().parse_args(argv))
