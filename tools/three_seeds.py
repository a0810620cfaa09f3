"""Run the demo for several seeds and compare its tracking with holding the first box still.

    .venv/bin/python tools/three_seeds.py [--seeds 0 1 2] [--out output/three_seeds] [--rendered] [--reuse]

Prints the mean IoU of each test sequence (percent, over the frames that training did not see). The exit
status is not 0 when a seed doesn't beat the box held still on every sequence. --reuse takes scores of the
same data only: real sequences or rendered ones, whichever a run would take now.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mtltrack.core.paths import test_data_root

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = """examples:
  python tools/three_seeds.py
  python tools/three_seeds.py --seeds 3 4 --out output/more_seeds
  python tools/three_seeds.py --rendered --reuse
"""
SCORE = "mIoU"
REAL_CONFIG = "hiptrack_cls_tiny"  # trains on the real sequences alone
REAL, RENDERED = "sot", "val"  # what the demo calls its test data
REAL_SEQUENCES = ("Crossing", "Car4_0001-0250")

Scores = dict[str, float]  # sequence -> mean IoU in [0, 1]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run the demo for several seeds, print mean IoU.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (0 1 2)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "output" / "three_seeds", help="for all runs (output/three_seeds)"
    )
    parser.add_argument("--rendered", action="store_true", help="never take real sequences")
    parser.add_argument("--reuse", action="store_true", help="take the scores of seeds that were run before")
    return parser.parse_args(arguments)


def run_demo(seed: int, folder: Path, rendered: bool) -> None:
    """Run the demo; its output goes to `<folder>/demo.log`."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "demo.log"
    command = ["bash", str(ROOT / "tools" / "demo.sh"), "--seed", str(seed), "--out", str(folder.resolve())]
    command += ["--no-video", *(["--rendered"] if rendered else ["--config", REAL_CONFIG])]
    print(f"seed {seed}: running, log in {log}", flush=True)
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise SystemExit(f"seed {seed} failed with status {done.returncode}; the end of {log}:\n{last}")
    print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)


def demo_data(rendered: bool) -> str:
    """Return which data the demo takes: real sequences if they are there, unless rendered ones are wanted."""
    real = all((test_data_root() / REAL / name).is_dir() for name in REAL_SEQUENCES)
    return REAL if real and not rendered else RENDERED


def read_scores(folder: Path, data: str) -> tuple[Scores, Scores] | None:
    """Return the scores on `data` of the tracker and of the box held still, None where there are none yet."""
    path = folder / "test" / "tracking_results" / f"analysis_{data}.json"
    if not path.is_file():
        return None
    tracker, still = (overlaps(report) for report in json.loads(path.read_text(encoding="utf-8"))["trackers"])
    if not still or set(tracker) != set(still):
        raise SystemExit(f"{path} has no scores to compare: wanted the same sequences for tracker and box")
    return tracker, still


def overlaps(report: dict[str, Any]) -> Scores:
    """Return the mean overlap of each sequence, NaN where there is none."""
    return {name: math.nan if row[SCORE] is None else row[SCORE] for name, row in report["sequences"].items()}


def not_better(by_seed: dict[int, Scores], still: Scores) -> list[str]:
    """Return where a seed doesn't beat the box held still."""
    return [
        f"seed {seed} on {name}"
        for seed, scores in by_seed.items()
        for name, held in still.items()
        if not scores[name] > held
    ]


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
    data = demo_data(options.rendered)
    by_seed: dict[int, Scores] = {}
    still: Scores = {}
    for seed in options.seeds:
        folder = options.out / f"seed{seed}"
        found = read_scores(folder, data) if options.reuse else None
        if found is None:
            run_demo(seed, folder, options.rendered)
            found = read_scores(folder, data)
        if found is None:
            raise SystemExit(f"the demo wrote no scores (analysis_{data}.json) below {folder}")
        by_seed[seed], held = found
        if still and held != still:
            raise SystemExit(f"the scores below {folder} were made on other frames; run without --reuse")
        still = held
    Console().print(scores_table(still, by_seed))
    worse = not_better(by_seed, still)
    if worse:
        print(f"not better than holding the first box still: {', '.join(worse)}")
        return 1
    print("every seed beats holding the first box still on every sequence")
    return 0


if __name__ == "__main__":
    sys.exit(main())
