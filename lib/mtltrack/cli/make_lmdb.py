"""`python tools/make_lmdb.py`: pack a data set's folder into an LMDB."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mtltrack.cli.command import run_command
from mtltrack.data.pack import PackResult, pack_folder, verify_lmdb
from mtltrack.data.pack import Progress as Report

EXAMPLES = """examples (the names on the right are those that local.yaml and --use_lmdb 1 expect):
  python tools/make_lmdb.py data/lasot   data/lasot_lmdb
  python tools/make_lmdb.py data/got10k  data/got10k_lmdb          keys train/... and val/...
  python tools/make_lmdb.py data/coco    data/coco_lmdb            keys annotations/... and images/...
  python tools/make_lmdb.py data/vid     data/vid_lmdb             with its cache.json
  for n in 0 1 2 3 4 5 6 7 8 9 10 11; do
    python tools/make_lmdb.py data/trackingnet/TRAIN_$n data/trackingnet_lmdb/TRAIN_${n}_lmdb
  done
  python tools/make_lmdb.py my_videos my_videos_lmdb               FolderSequences reads it as its ROOT

The LMDB is written to <lmdb>.partial and gets its name when it is complete and checked. An interrupted run
goes on where it stopped: start it again with the same arguments. Files that have the size
and time of change they had when packed are kept unread; others are read, and written if bytes differ."""
LINE_EVERY = 10.0  # seconds between two lines where there is no terminal


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="make_lmdb.py",
        description="Pack all files of a folder into an LMDB: relative paths as keys, file bytes as values.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", help="the data set's folder")
    parser.add_argument("lmdb", help="folder of the LMDB, outside of the other one")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare every value with its file by SHA-256; without it, what this run read by SHA-256 and "
        "what it kept unread by size",
    )
    parser.add_argument(
        "--verify-only", action="store_true", help="compare as --verify does and write nothing"
    )
    return parser


@contextmanager
def reporting(console: Console) -> Iterator[Report]:
    """Give a function that shows progress: a bar on a terminal, a line now and then elsewhere."""
    if not console.is_terminal:
        yield _line_reporter(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, int] = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=total)
            bar.update(tasks[phase], completed=done)  # type: ignore[arg-type]  # a TaskID is an int

        yield show


def _line_reporter(console: Console) -> Report:
    last: dict[str, float] = {}

    def show(phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - last.get(phase, now - LINE_EVERY) >= LINE_EVERY:
            last[phase] = now
            console.print(f"{phase}: {done} of {total} files")

    return show


def _run(arguments: argparse.Namespace) -> int:
    console = Console()
    with reporting(console) as report:
        if arguments.verify_only:
            result = verify_lmdb(arguments.folder, arguments.lmdb, report)
        else:
            result = pack_folder(arguments.folder, arguments.lmdb, arguments.verify, report)
    console.print(_summary(result, arguments), soft_wrap=True)
    return 0


def _summary(result: PackResult, arguments: argparse.Namespace) -> str:
    what = (
        "all by SHA-256"
        if arguments.verify or arguments.verify_only
        else "unread ones by size, the others by SHA-256"
    )
    return (
        f"{arguments.lmdb}: {result.files} files, {result.size / 1e6:.1f} MB "
        f"({result.written} written, {result.kept} were there{_rule(result)}); verified, {what}"
    )


def _rule(result: PackResult) -> str:
    """Say by what rule files were kept."""
    rules = (
        (result.unchanged, "of the size and time of change they had when packed"),
        (result.compared, "of the same bytes"),
    )
    parts = [f"{count} {rule}" for count, rule in rules if count]
    return f": {', '.join(parts)}" if parts else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command(_run, build_parser().parse_args(arguments))
