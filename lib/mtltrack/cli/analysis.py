"""`python tracking/analysis_results.py`: score result files, and report the scores."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from mtltrack.cli.analysis_sources import (
    choose_trackers,
    find_trackers,
    foreign_trackers,
    group_by_dataset,
    ranges_to_score,
    results_on,
    title_of,
    under_true_names,
    without,
)
from mtltrack.cli.analysis_tables import (
    attribute_table,
    condition_table,
    mean_table,
    sequence_table,
    task_table,
)
from mtltrack.cli.command import add_data_options, make_console, results_root, run_command, say, show
from mtltrack.core.errors import DataError
from mtltrack.evaluation.analysis import MOST_PICTURES, Analysis, analyse, show_worst
from mtltrack.evaluation.benchmarks import load_benchmark
from mtltrack.evaluation.formats import load_truths
from mtltrack.evaluation.provenance import load_records
from mtltrack.evaluation.report import Results, Rules, Truth, truths_of
from mtltrack.evaluation.report_files import KINDS, save
from mtltrack.evaluation.results import ResultFolder
from mtltrack.evaluation.task_tables import TaskScores, TaskTables

EXAMPLES = """examples:
  # every result below save_dir, on the data that it was made from
  python tracking/analysis_results.py
  python tracking/analysis_results.py --trackers hiptrack/hiptrack_cls ostrack/ostrack_256 --dataset lasot
  python tracking/analysis_results.py --dataset ../shared/data/sot --per-sequence --baseline \\
      --frames Crossing=81:120 --frames Car4_0001-0250=181:250
  python tracking/analysis_results.py --trackers hiptrack/hiptrack_mtl --dataset world/val --labels world/val
  # results of any program: text, OTB's or pysot's JSON, the GOT-10k toolkit's folders
  python tracking/analysis_results.py --results raw/STRUCK --ground-truth OTB100.json --without ClifBar
  python tracking/analysis_results.py --results results/GOT-10k --ground-truth val --protocol got10k
"""
PROTOCOLS = ("otb", "lasot", "uav", "got10k", "trackingnet")


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="analysis_results.py",
        description="Print AUC, OP50, OP75, precision (20 px), normalised precision (0.2) and mean IoU of "
        "result files, in percent, say which differences between trackers are inside the noise, and print a "
        "table for each task that has answers and labels; write all of it as CSV, JSON, LaTeX, plots and one "
        "HTML page.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_sources(parser)
    _add_rules(parser)
    _add_outputs(parser)
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--results",
        metavar="DIR",
        help="folder of one tracker's results or of several such folders, or one JSON file; "
        "without it <save_dir>/test/tracking_results",
    )
    parser.add_argument("--save_dir", help="without it that of local.yaml")
    parser.add_argument(
        "--ground-truth",
        metavar="DIR|JSON",
        help="instead of --dataset: a folder of <seq>.txt or <seq>/groundtruth.txt, or a JSON file "
        "{seq: {gt_rect, img_names, attr}} as pysot's; may be packed by gzip",
    )
    parser.add_argument(
        "--images", metavar="DIR", help="the images of --ground-truth, to show the worst frames"
    )
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
    add_data_options(parser)


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="whose rules hold with --ground-truth or a folder; otb without it; got10k adds AO and SR, "
        "trackingnet what its server computes (TN)",
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
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="SEQ",
        help="leave these sequences out, for every tracker",
    )
    parser.add_argument("--baseline", action="store_true", help="also score holding the first box still")


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--per-sequence", action="store_true", help="also print a table of the sequences")
    parser.add_argument("--out", metavar="DIR", help="where to write; without it the folder of the results")
    parser.add_argument(
        "--write",
        nargs="*",
        choices=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help=f"what to write, of {', '.join(KINDS)}; without it all, '--write' alone nothing",
    )
    parser.add_argument(
        "--worst",
        type=int,
        default=4,
        metavar="N",
        help=f"worst frames a tracker in the HTML page (4); of many trackers fewer, {MOST_PICTURES} in all",
    )


def run_analysis(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    console = make_console()
    if arguments.worst < 0:
        raise DataError(f"--worst must be 0 or more; found {arguments.worst}")
    if arguments.ground_truth is not None:
        _analyse_raw(console, arguments)
        return 0
    if arguments.images is not None:
        raise DataError("--images belongs to --ground-truth; the images of --dataset are known")
    root = results_root(arguments.results, arguments.save_dir)
    if arguments.dataset is None:
        for dataset, members in group_by_dataset(choose_trackers(root, arguments.trackers)).items():
            _analyse(console, arguments, root, dataset, members)
        return 0
    foreign = arguments.results is not None and not find_trackers(root)
    trackers = {} if foreign else choose_trackers(root, arguments.trackers)
    _analyse(console, arguments, root, arguments.dataset, trackers)
    return 0


def _analyse(
    console: Console,
    arguments: argparse.Namespace,
    root: Path,
    dataset: str,
    trackers: Mapping[str, Path],
) -> None:
    """Score results on a benchmark or a folder of sequences."""
    benchmark = load_benchmark(dataset, one_based=not arguments.zero_based)
    names = [sequence.name for sequence in benchmark.sequences]
    found = results_on(root, arguments.trackers, dataset, trackers, names)
    ranges = ranges_to_score(arguments, benchmark, found, dataset)
    benchmark = benchmark.select(None, ranges)
    notes = list(benchmark.notes)
    if ranges:
        listed = ", ".join(f"{name} {first} to {last}" for name, (first, last) in ranges.items())
        others = len(ranges) < len(benchmark.sequences)
        notes.append(f"frames: {listed}" + "; all of the other sequences" * others)
    protocol = arguments.protocol or benchmark.protocol
    truths = truths_of(benchmark)
    if arguments.dataset is None:  # whatever was tested, which may be one sequence of many
        tested = {
            name
            for folder in found.values()
            if isinstance(folder, ResultFolder)
            for name in load_records(folder).ranges(dataset)
            if folder.has(name)
        }
        truths = [truth for truth in truths if truth.name in tested]
    _report(console, arguments, benchmark.name, truths, found, rules_of(arguments, protocol), root, notes)


def _analyse_raw(console: Console, arguments: argparse.Namespace) -> None:
    """Score the results of any program against ground truth that is given as files."""
    if arguments.results is None:
        raise DataError("--ground-truth needs --results, the folder of the result files")
    if arguments.frames:
        raise DataError("--frames needs --dataset; cut the files of --ground-truth instead")
    if arguments.dataset is not None:
        raise DataError("--dataset and --ground-truth both say what is true; give one of them")
    root, given = (Path(path).expanduser() for path in (arguments.results, arguments.ground_truth))
    images = None if arguments.images is None else Path(arguments.images).expanduser()
    truths = load_truths(given, images)
    trackers = foreign_trackers(root, arguments.trackers, [truth.name for truth in truths], given)
    protocol = arguments.protocol or "otb"
    notes = []
    if protocol == "otb" and all(truth.name.startswith("GOT-10k") for truth in truths):
        notes.append("these are sequences of GOT-10k: --protocol got10k adds AO and SR")
    place = root if root.is_dir() else root.parent
    _report(
        console, arguments, title_of(given), truths, trackers, rules_of(arguments, protocol), place, notes
    )


def rules_of(arguments: argparse.Namespace, protocol: str) -> Rules:
    """Return the scoring rules that the options ask for."""
    return Rules(
        protocol=protocol,
        validity=arguments.validity,
        exclude_invalid=arguments.exclude_invalid,
        invalid_counts_as_hit=not arguments.correct_invalid,
        allow_partial=arguments.allow_partial,
        ao=protocol == "got10k",
    )


def _report(
    console: Console,
    arguments: argparse.Namespace,
    name: str,
    truths: list[Truth],
    trackers: Mapping[str, Results],
    rules: Rules,
    root: Path,
    notes: list[str],
) -> None:
    """Score, print and write."""
    results, renamed = under_true_names(trackers, truths)
    truths, left_out = without(truths, arguments.without)
    notes = [*notes, *renamed, *left_out]
    analysis = analyse(name, truths, results, rules, baseline=arguments.baseline, notes=notes)
    results = {item.tracker: results[item.tracker] for item in analysis.reports if item.tracker in results}
    analysis.tasks = score_all_tasks(arguments, truths, results)
    _print(console, arguments, analysis)
    out = root if arguments.out is None else Path(arguments.out).expanduser()
    confusions = _draw_conditions(console, analysis.tasks.get("cls", {}), out if arguments.write else None)
    if arguments.conditions is not None:
        for tracker in results:
            if tracker not in analysis.tasks.get("cls", {}):
                say(console, f"note: {tracker} said nothing of the conditions of labelled frames")
    if "html" in arguments.write or "json" in arguments.write:
        show_worst(analysis, truths, results, arguments.worst)
    for path in [*confusions.values(), *save(analysis, out, arguments.write, confusions)]:
        say(console, f"written {path}")


def _print(console: Console, arguments: argparse.Namespace, analysis: Analysis) -> None:
    for note in analysis.notes:
        say(console, f"note: {note}")
    show(console, mean_table(analysis.benchmark, analysis.reports, analysis.score, analysis.intervals))
    for comparison in analysis.comparisons:
        say(console, comparison.words())
    if analysis.attributes:
        show(console, attribute_table(analysis.attributes, analysis.score))
    if arguments.per_sequence:
        for report in analysis.reports:
            show(console, sequence_table(analysis.benchmark, report))
    for task, trackers in analysis.tasks.items():
        show(console, task_table(task, trackers, arguments.per_sequence))


def _draw_conditions(
    console: Console, trackers: Mapping[str, TaskScores], out: Path | None
) -> dict[str, Path]:
    """Print the table of scene conditions of each tracker; return its picture, in `out` if that is given."""
    pictures = {}
    for tracker, scores in trackers.items():
        from mtltrack.metrics.classification import plot_confusion

        assert scores.detail is not None
        show(console, condition_table(tracker, scores.detail))
        if out is not None:
            picture = out / f"conditions_{tracker.replace('/', '_')}.png"
            matrix, names = scores.detail.confusion(), scores.detail.class_names
            pictures[tracker] = plot_confusion(matrix, names, picture, tracker)
    return pictures


def score_all_tasks(
    arguments: argparse.Namespace, truths: Sequence[Truth], trackers: Mapping[str, Results]
) -> TaskTables:
    """Return the scores of every task that has answers and labels."""
    places = {option: getattr(arguments, option) for option in ("labels", "conditions")}
    said = (results.tasks(truth.name) for results in trackers.values() for truth in truths)
    if places == {"labels": None, "conditions": None} and not any(path.is_file() for path in said):
        return {}
    # here, because they bring torch, which takes seconds and which boxes alone don't need
    from mtltrack.evaluation.labelled import check_folder, labelled_results
    from mtltrack.evaluation.task_scores import score_cls, score_tasks

    labels, conditions = (
        None if given is None else check_folder(Path(given).expanduser(), f"--{option}")
        for option, given in places.items()
    )
    tables: dict[str, dict[str, TaskScores]] = {}
    for tracker, results in trackers.items():
        found = score_tasks(labelled_results(truths, results, labels))
        if conditions is not None:
            found.pop("cls", None)
            scored = score_cls(labelled_results(truths, results, conditions))
            found |= {} if scored is None else {"cls": scored}
        for task, scores in found.items():
            tables.setdefault(task, {})[tracker] = scores
    return tables


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run_analysis, build_parser().parse_args(argv))
