"""Compare this project with reference outputs of the published HIPTrack and OSTrack.

Every reference file in the folder is recognised by its form, re-created from the recipe and compared. Exit
status 1 when a difference is too large, a decision differs, a file is damaged or of no known form, or nothing
was found.

    python tools/check_parity.py --reference ../shared/parity
    python tools/check_parity.py --reference ../shared/parity --only ost256_d4.pt functions.pt
    python tools/check_parity.py --reference ../shared/parity --matmul onednn
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from parity import configs, evaluation, functions, functions_data, keys, runs, track, train
from parity.models import parse_case
from parity.report import Report

from mtltrack.core.kernels import DEFAULT, KERNELS, kernel_for, using

Compare = Callable[[Report], None]


@dataclass
class Job:
    """One reference file.

    Attributes:
        path: the file.
        compare: the comparison that its form calls for; None where the form isn't known.
        damage: why the file can't be read, None when it can.
    """

    path: Path
    compare: Compare | None
    damage: str | None = None


def load(path: Path) -> Any:
    """Read a reference, JSON or a tensor file (nothing in it is executed)."""
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    return torch.load(path, weights_only=True)


def recognise(path: Path, content: Any) -> Compare | None:
    """Tell by its content, then its name, how a reference file is compared."""
    if not isinstance(content, dict):
        return None
    names = set(map(str, content))
    if names and names <= set(functions.COMPARISONS) | set(functions_data.KEYS):
        return lambda report: compare_functions(content, report)
    if names and all(isinstance(run, dict) and "frames" in run and "init" in run for run in content.values()):
        return lambda report: runs.compare_runs(content, report)
    if keys.is_key_list(content):
        return lambda report: keys.compare_keys(path.name, content, report)
    if {"MODEL", "TRAIN", "DATA", "TEST"} <= names:
        return lambda report: configs.compare_config(content, report)
    return recognise_model(path, content)


def recognise_model(path: Path, content: dict[str, Any]) -> Compare | None:
    """Recognise a model's tracking and training files; its family, size and depth stand in the name."""
    case = parse_case(path.stem)
    if case is None:
        return None
    if "frames" in content and "template_box" in content:
        return lambda report: track.compare_tracking(case, content, report)
    if "cases" in content:
        return lambda report: train.compare_training(case, content, report)
    if "frames" in content:
        return lambda report: compare_ostrack(case, content, report)
    return None


def compare_ostrack(case: Any, content: dict[str, Any], report: Report) -> None:
    """Compare an OSTrack file: its frames, and its training where it has one."""
    track.compare_plain(case, content, report)
    if content.get("train"):
        train.compare_training(case, content["train"], report)


def compare_functions(content: dict[str, Any], report: Report) -> None:
    """Compare every entry of a file of single functions."""
    for name, entry in content.items():
        if name in functions.COMPARISONS:
            functions.COMPARISONS[name](entry, report)
    functions_data.compare(content, report)


def find_jobs(folder: Path, only: list[str]) -> list[Job]:
    """List the reference files of `folder` (not its sub-folders) with their comparisons."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".pt", ".json"))
    return [find_job(path) for path in paths if not only or path.name in only]


def find_job(path: Path) -> Job:
    """Read a reference file and find its comparison; the other files are compared whatever it holds."""
    try:
        return Job(path, recognise(path, load(path)))
    except Exception as error:  # what a damaged file raises depends on where the damage is; it is reported
        first = str(error).splitlines()[0] if str(error) else "no reason given"
        return Job(path, None, f"{type(error).__name__}: {first}")


def run_job(job: Job) -> Report:
    """Run one comparison; an exception in it is a failure of that file."""
    report = Report(job.path.name)
    assert job.compare is not None
    try:
        job.compare(report)
    except Exception as error:  # the other files are still compared
        report.failures.append(f"{type(error).__name__}: {error}")
        traceback.print_exc()
    if report.values + report.decisions == 0:
        report.failures.append("nothing was compared")
    return report


def table_of(reports: list[tuple[Report, float]]) -> Table:
    """Lay the reports out, one row a file."""
    table = Table(title="parity with the published trackers")
    for column in ("file", "values", "max abs", "max rel", "decisions", "differing", "seconds", "verdict"):
        table.add_column(column, justify="left" if column in ("file", "verdict") else "right")
    for report, seconds in reports:
        table.add_row(
            report.name,
            f"{report.values:,}",
            f"{report.absolute:.2e}",
            f"{report.relative:.2e}",
            str(report.decisions),
            str(len(report.differing)),
            f"{seconds:.1f}",
            "equal" if report.passed else "DIFFERS",
        )
    return table


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, required=True, help="folder of reference outputs")
    parser.add_argument(
        "--only", nargs="+", default=[], help="names of the files to compare, and eval; default all"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; the references were made with 2")
    parser.add_argument(
        "--matmul",
        choices=["auto", *KERNELS],
        default=DEFAULT,
        help="kernel of the models' float32 products, as TEST.MATMUL; onednn packs weights too (default)",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if not options.reference.is_dir():
        print(
            f"no folder {options.reference}: give the folder of reference outputs with --reference",
            file=sys.stderr,
        )
        return 1
    choice = kernel_for(options.matmul, torch.device("cpu"))
    print(choice.sentence())
    with using(choice.kernel):
        return compare_folder(options.reference, options.only)


def compare_folder(folder: Path, only: list[str]) -> int:
    """Compare every reference in `folder`, print the table, return the exit status."""
    console = Console(width=120)
    jobs = find_jobs(folder, only)
    reports: list[tuple[Report, float]] = []
    evaluated = folder / "eval"
    if evaluated.is_dir() and (not only or evaluated.name in only):
        compare_evaluation = lambda report: evaluation.compare(evaluated, report)  # noqa: E731
        jobs.append(Job(evaluated, compare_evaluation))
    for job in jobs:
        if job.compare is not None:
            start = time.perf_counter()
            report = run_job(job)
            reports.append((report, time.perf_counter() - start))
            console.print(
                f"{report.name}: {'equal' if report.passed else 'DIFFERS'} ({reports[-1][1]:.1f} s)"
            )
    return conclude(console, jobs, reports)


def conclude(console: Console, jobs: list[Job], reports: list[tuple[Report, float]]) -> int:
    """Print table, failures and totals; return the exit status."""
    console.print(table_of(reports))
    for report, _ in reports:
        for sentence in [
            *report.failures[:20],
            *(f"decision differs: {name}" for name in report.differing[:20]),
        ]:
            console.print(f"[red]{report.name}[/]: {escape(sentence)}", highlight=False)
    damaged = [job for job in jobs if job.damage is not None]
    for job in damaged:
        console.print(f"[red]{job.path.name}[/]: can't be read: {escape(str(job.damage))}", highlight=False)
    unknown = [job.path.name for job in jobs if job.compare is None and job.damage is None]
    values = sum(report.values for report, _ in reports)
    console.print(
        f"files found {len(jobs)}, compared {len(reports)}, damaged {len(damaged)}, "
        f"not understood {len(unknown)}"
        + (f" ({', '.join(unknown)})" if unknown else "")
        + f"; {values:,} values and {sum(report.decisions for report, _ in reports):,} decisions compared"
    )
    if not reports:
        console.print("[red]no reference file of a known form was compared[/]")
        return 1
    return 0 if not unknown and not damaged and all(report.passed for report, _ in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
