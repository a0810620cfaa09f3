"""Run the demo for several seeds and compare its tracking with holding the first box still.

    .venv/bin/python tools/three_seeds.py [--seeds 0 1 2] [--out output/three_seeds] [--rendered] [--reuse]

Prints the mean IoU of each test sequence (percent, over the frames that training did not see). The exit
status is not 0 when a seed doesn't beat the box held still on every sequence.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
SCORE = "mIoU"

Scores = dict[str, float]  # sequence -> mean IoU in [0, 1]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the demo for several seeds, print mean IoU.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (0 1 2)")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "three_seeds", help="for all runs")
    parser.add_argument("--rendered", action="store_true", help="never take real sequences")
    parser.add_argument("--reuse", action="store_true", help="take the scores of seeds that were run before")
    return parser.parse_args(arguments)


def run_demo(seed: int, folder: Path, rendered: bool) -> None:
    """Run the demo; its output goes to `<folder>/demo.log`."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "demo.log"
    command = ["bash", str(ROOT / "tools" / "demo.sh"), "--seed", str(seed), "--out", str(folder.resolve())]
    command += ["--no-video", *(["--rendered"] if rendered else [])]
    print(f"seed {seed}: running, log in {log}", flush=True)
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise SystemExit(f"seed {seed} failed with status {done.returncode}; the end of {log}:\n{last}")
    print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)


def read_scores(folder: Path) -> tuple[Scores, Scores] | None:
    """Return the tracker's scores and those of the box held still, None where there are none yet."""
    files = sorted((folder / "test" / "tracking_results").glob("analysis_*.json"))
    if not files:
        return None
    newest = max(files, key=lambda path: path.stat().st_mtime)
    tracker, still = json.loads(newest.read_text(encoding="utf-8"))["trackers"]
    return overlaps(tracker), overlaps(still)


def overlaps(report: dict[str, Any]) -> Scores:
    """Return the mean overlap of each sequence."""
    return {name: row[SCORE] for name, row in report["sequences"].items()}


def scores_table(still: Scores, by_seed: dict[int, Scores]) -> Table:
    """Return the table: a row a sequence, a column a seed."""
    table = Table(title="mean IoU, percent", title_justify="left")
    table.add_column("sequence")
    table.add_column("first box held still", justify="right")
    for seed in by_seed:
        table.add_column(f"seed {seed}", justify="right")
    for name, held in still.items():
        cells = [f"{100 * scores[name]:.1f}" for scores in by_seed.values()]
        table.add_row(name, f"{100 * held:.1f}", *cells)
    return table


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    by_seed: dict[int, Scores] = {}
    still: Scores = {}
    for seed in options.seeds:
        folder = options.out / f"seed{seed}"
        found = read_scores(folder) if options.reuse else None
        if found is None:
            run_demo(seed, folder, options.rendered)
            found = read_scores(folder)
        if found is None:
            raise SystemExit(f"the demo wrote no scores (analysis_*.json) below {folder}")
        by_seed[seed], still = found
    Console().print(scores_table(still, by_seed))
    worse = [
        f"seed {seed} on {name}"
        for seed, scores in by_seed.items()
        for name, held in still.items()
        if not scores[name] > held
    ]
    if worse:
        print(f"not better than holding the first box still: {', '.join(worse)}")
        return 1
    print("every seed beats holding the first box still on every sequence")
    return 0


if __name__ == "__main__":
    sys.exit(main())
