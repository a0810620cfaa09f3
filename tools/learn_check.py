"""Do the heads learn? From nothing, on a small machine, in minutes.

    .venv/bin/python tools/learn_check.py overfit [--tasks seg plate]
    .venv/bin/python tools/learn_check.py generalise [--save_dir output/learn_check]

`overfit`: each head learns a few rendered clips by heart, in a small tracker of its own with only the heads
that it reads: J above 0.9, AP50 1.0, exact text 1.0, alert F1 1.0, conditions' macro F1 1.0. The exit status
is not 0 when a head fails.

`generalise`: trains a small tracker with every head by the normal command, then scores clips of scenes that
training didn't see (DATA.VAL), beside answers that never look at the picture: the mean box and mask, the most
frequent text, never an alert, each condition as often as it occurs in training.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from learning.generalise import Scores, score_validation, train
from learning.overfit import GOALS, Outcome, learn_by_heart

from mtltrack.cli.command import run_command

ROOT = Path(__file__).resolve().parents[1]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="learn_check.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("overfit", "generalise"))
    parser.add_argument("--script", default="hiptrack", help="the tracker (hiptrack)")
    parser.add_argument("--config", default="hiptrack_mtl_tiny", help="a configuration with heads")
    parser.add_argument("--seed", type=int, default=0, help="of weights and clips (0)")
    parser.add_argument("--tasks", nargs="+", choices=tuple(GOALS), help="overfit: only these heads")
    parser.add_argument("--clips", type=int, default=6, help="overfit: clips to learn (6)")
    parser.add_argument("--steps", type=int, default=600, help="overfit: most steps a head (600)")
    parser.add_argument(
        "--save_dir", type=Path, default=ROOT / "output" / "learn_check", help="generalise: for the run"
    )
    parser.add_argument("--reuse", action="store_true", help="generalise: score the run that is there")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="generalise: settings on top of the YAML",
    )
    parser.add_argument("--threads", type=int, default=1, help="of the matrix library (1)")
    return parser.parse_args(arguments)


def overfit(console: Console, arguments: argparse.Namespace) -> int:
    outcomes: list[Outcome] = []
    for task in arguments.tasks or GOALS:
        goal = GOALS[task]
        outcomes.append(
            learn_by_heart(
                task,
                script=arguments.script,
                config=arguments.config,
                clips=arguments.clips,
                steps=arguments.steps,
                seed=arguments.seed,
                tell=lambda steps, value, name=f"{task} {goal.metric}": console.print(
                    f"{name} {value:.3f} after {steps} steps", highlight=False
                ),
            )
        )
    title = f"{arguments.clips} rendered clips learnt by heart"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("head", "metric", "wanted", "reached", "steps", "seconds"):
        table.add_column(column, justify="left" if column in ("head", "metric") else "right")
    for outcome in outcomes:
        goal = GOALS[outcome.task]
        reached = f"{outcome.value:.3f}" + ("" if outcome.reached else " FAILED")
        row = (f"{goal.least:g}", reached, str(outcome.steps), f"{outcome.seconds:.0f}")
        table.add_row(outcome.task, goal.metric, *row)
    console.print(table)
    return 0 if all(outcome.reached for outcome in outcomes) else 1


def generalise(console: Console, arguments: argparse.Namespace) -> int:
    seconds = None
    if not arguments.reuse:
        seconds = train(arguments)
    found = score_validation(arguments)
    console.print(_comparison(found))
    if seconds is not None:
        console.print(f"trained in {seconds:.0f} s", highlight=False)
    path = arguments.save_dir / "generalise.json"
    path.write_text(json.dumps({"seconds": seconds, **vars(found)}, indent=1), encoding="utf-8")
    console.print(f"written {path}", highlight=False)
    return 0


def _comparison(found: Scores) -> Table:
    title = f"{found.clips} clips of unseen rendered scenes"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("metric", "tracker", "constant"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, value in found.tracker.items():
        constant = found.constant.get(name)
        table.add_row(name, f"{value:.3f}", "-" if constant is None else f"{constant:.3f}")
    return table


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    torch.set_num_threads(arguments.threads)
    console = Console()
    return overfit(console, arguments) if arguments.what == "overfit" else generalise(console, arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
