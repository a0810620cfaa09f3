"""`tools/check_labels.py`: check a folder of labels and say what each sequence has."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtltrack.cli.command import make_console, run_command, say
from mtltrack.core.alphabets import load_alphabet
from mtltrack.core.conditions import condition_names
from mtltrack.data.label_checks import Rules, SequenceLabels, check_labels

EXAMPLES = """examples:
  python tools/check_labels.py data/labels                        the folder named by CLS_ANN_DIR
  python tools/check_labels.py data/world/train                   labels beside their images
  python tools/check_labels.py data/labels --images data/got10k   masks and plates against the frames
  python tools/check_labels.py data/labels --alphabet chinese     texts against another alphabet

Every fault is printed with its file and line; the exit status is 1 when there is one."""
COLUMNS = ("frames", "conditions", "masks", "plates", "texts", "alerts", "zones", "duration")


def build_parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="check_labels.py",
        description="Check a folder of labels, <sequence>/<sequence>.jsonl and <sequence>/zones.json "
        "(docs/data.md), and say what each sequence has.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", help="the folder of the labels")
    parser.add_argument(
        "--alphabet",
        default="latin",
        help="characters that plate texts may have: a name as in TASKS.ocr.ALPHABET, or the characters; "
        "default latin",
    )
    parser.add_argument(
        "--columns", type=int, default=24, help="columns of the reader, TASKS.ocr.COLUMNS; default 24"
    )
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="the data set's folder or LMDB; without it, images are looked for beside the labels",
    )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    images = None if arguments.images is None else Path(arguments.images)
    rules = Rules(load_alphabet(arguments.alphabet), arguments.columns, images)
    console = make_console()
    found = list(check_labels(arguments.folder, rules))
    _print_table(console, found)
    faults = [fault for sequence in found for fault in sequence.faults]
    for fault in faults:
        say(console, fault)
    wrong = sum(bool(sequence.faults) for sequence in found)
    say(console, f"sequences: {len(found)}; faults: {len(faults)}, in {wrong} of them")
    return int(bool(faults))


def _print_table(console: Console, found: Sequence[SequenceLabels]) -> None:
    table = Table(title="labels")
    table.add_column("sequence")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "conditions" else "right")
    for sequence in found:
        style = "red" if sequence.faults else None
        table.add_row(escape(sequence.name), *_cells(sequence), style=style)
    console.print(table)


def _cells(labels: SequenceLabels) -> list[str]:
    """Return what stands in a row of the table; "" where there is no label."""
    conditions = ", ".join(
        f"{name} {labels.conditions[name]}" for name in condition_names() if labels.conditions[name]
    )
    return [
        str(labels.frames),
        conditions,
        str(labels.masks or ""),
        _share(labels.plates, labels.plateless),
        str(labels.texts or ""),
        _share(labels.alerts, labels.calm),
        str(labels.zones or ""),
        "" if labels.seconds is None else f"{labels.seconds:.1f} s",
    ]


def _share(count: int, others: int) -> str:
    return f"{count} of {count + others}" if count + others else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command(_run, build_parser().parse_args(arguments))
