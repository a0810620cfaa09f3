"""Break trainings in every way that this project promises to survive, and write what came of it as a table.

    .venv/bin/python tools/fault_drill.py --short
    .venv/bin/python tools/fault_drill.py --out output/drill
    .venv/bin/python tools/fault_drill.py --only resume signals

Each part runs in a process of its own, so that one that dies is a line of the table and not the end of it;
--jobs parts run at a time. --short makes few trials of everything, in less than two minutes on two free
cores; without it the numbers are those of docs/reliability.md, up to an hour. Writes <out>/drill.json
and <out>/drill.md; the exit status is 1 when a check failed. Needs no GPU and no data.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from tools.drill.row import Row  # noqa: E402

from mtltrack.cli.command import run_command  # noqa: E402
from mtltrack.core.errors import ConfigError  # noqa: E402

PARTS = {  # module below tools/drill -> what it breaks
    "resume": "exact resume",
    "files": "checkpoints, hostile files",
    "signals": "signals",
    "not_finite": "numbers that aren't",
    "labels": "labels out of range",
    "data_faults": "data",
    "workers": "loader processes",
    "storage": "LMDBs and disks",
    "ranks": "several processes",
    "memory": "out of memory",
    "typos": "configuration",
}
LONGEST = 5400  # seconds that a part may take


@dataclass(frozen=True)
class Outcome:
    """What a part of the drill found, and how long it took."""

    part: str
    rows: tuple[Row, ...]
    seconds: float


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fault_drill.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="few trials of everything, under two minutes")
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "output" / "drill", help="folder of the tables (output/drill)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="parts at a time (2)")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # how the drill calls itself
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run_part(part: str, short: bool, rows: Path) -> int:
    """Make one part of the drill in this process and write what it found."""
    module = importlib.import_module(f"tools.drill.{part}")
    with tempfile.TemporaryDirectory(prefix=f"drill_{part}_") as folder:
        found: list[Row] = module.run(short, Path(folder))
    rows.write_text(json.dumps([asdict(row) for row in found]), encoding="utf-8")
    return 0


def drill_part(part: str, short: bool) -> Outcome:
    """Make one part of the drill in a process of its own."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="drill_rows_") as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--part", part, "--rows", str(rows)]
        try:
            done = subprocess.run(
                [*command, *(["--short"] if short else [])],
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                check=False,
                timeout=LONGEST,
            )
            ending, said = f"exit status {done.returncode}", done.stderr.strip().splitlines()
        except subprocess.TimeoutExpired:
            ending, said = f"not over after {LONGEST} s", []
        found = (
            tuple(Row(**row) for row in json.loads(rows.read_text(encoding="utf-8")))
            if rows.is_file()
            else ()
        )
    if not found:
        last = said[-1] if said else "nothing said"
        found = (Row(f"part {part}", "rows of the table", f"{ending}: {last}", False),)
    return Outcome(part, found, time.monotonic() - started)


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the table as docs/reliability.md holds it."""
    lines = ["| | broken | wanted | found |", "|---|---|---|---|"]
    for outcome in outcomes:
        title = PARTS[outcome.part]
        for row in outcome.rows:
            cells = (text.replace("|", "\\|") for text in (row.check, row.wanted, row.found))
            lines.append(f"| {title} | {' | '.join(cells)}{'' if row.passed else ' **FAILED**'} |")
            title = ""
    return "\n".join(lines) + "\n"


def screen_table(outcome: Outcome) -> Table:
    table = Table(title=f"{PARTS[outcome.part]}, {outcome.seconds:.0f} s", title_justify="left")
    for name in ("broken", "wanted", "found", ""):
        table.add_column(name, overflow="fold")
    for row in outcome.rows:
        table.add_row(
            row.check, row.wanted, row.found, "[green]held[/]" if row.passed else "[bold red]FAILED[/]"
        )
    return table


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if arguments.part is not None:
        return run_part(arguments.part, arguments.short, arguments.rows)
    parts = list(PARTS) if arguments.only is None else arguments.only
    unknown = [part for part in parts if part not in PARTS]
    if arguments.jobs < 1:
        raise ConfigError(f"--jobs is {arguments.jobs}; at least one part must run")
    if unknown:
        raise ConfigError(f"--only {' '.join(unknown)}: no part of the drill; choose of {', '.join(PARTS)}")
    console = Console()
    console.print(f"{len(parts)} parts, {arguments.jobs} at a time: {', '.join(parts)}", highlight=False)
    started = time.monotonic()
    outcomes = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for outcome in pool.map(lambda part: drill_part(part, arguments.short), parts):
            outcomes.append(outcome)
            console.print(screen_table(outcome))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "drill.md").write_text(markdown(outcomes), encoding="utf-8")
    content = [asdict(outcome) for outcome in outcomes]
    (arguments.out / "drill.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    rows = [row for outcome in outcomes for row in outcome.rows]
    failed = sum(not row.passed for row in rows)
    seconds = time.monotonic() - started
    console.print(f"{len(rows) - failed} of {len(rows)} checks held, {seconds:.0f} s", highlight=False)
    console.print(f"written {arguments.out / 'drill.md'}\nwritten {arguments.out / 'drill.json'}")
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
