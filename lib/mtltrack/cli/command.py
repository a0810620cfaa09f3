"""What the commands share: how errors end them, and options that several have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtltrack.core.errors import MtltrackError
from mtltrack.core.paths import local_settings


def run_command(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command and return its exit status; an error that the user can mend is one message, status 1."""
    try:
        return command(arguments)
    except MtltrackError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 1


def make_console() -> Console:
    """Return where to print; a file or a pipe has room for wide tables."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def show(console: Console, table: Table) -> None:
    """Print a table with all its columns; a terminal that is too narrow breaks its lines."""
    needed = console.measure(table, options=console.options.update(width=10_000)).maximum
    if needed > console.width:
        console = Console(width=needed, file=console.file, force_terminal=console.is_terminal)
    console.print(table)


def say(console: Console, text: str) -> None:
    """Print a line as it is, without mark-up and without breaking it."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def results_root(results: str | None, save_dir: str | None) -> Path:
    """Return the folder of result files: `results`, or test/tracking_results below `save_dir`."""
    if results is not None:
        return Path(results).expanduser()
    base = Path(save_dir).expanduser() if save_dir is not None else local_settings().save_dir
    return base / "test" / "tracking_results"


def dataset_key(dataset: str) -> str:
    """Return `--dataset` as it is remembered: a folder as its absolute path, a benchmark's name as it is."""
    path = Path(dataset).expanduser()
    return str(path.resolve()) if path.is_dir() else dataset


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add `--frames` and `--zero-based`."""
    parser.add_argument(
        "--frames",
        metavar="SEQ=FIRST:LAST",
        action="append",
        default=[],
        help="use only these frames of a sequence, counted from 1, both included; repeatable",
    )
    parser.add_argument(
        "--zero-based",
        action="store_true",
        help="the pixels of a folder's ground truth count from 0; without it they count from 1, as OTB's do",
    )
