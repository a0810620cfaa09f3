"""Measure how gradients come through designs of backbones, and compare with the textbook ranking.

Stacks of blocks of equal depth (3x3 convolutions on the longest path; linear layers of the ViT) and equal
width get random weights, a random input and a random gradient at the output. What is told is log10 of
|gradient at the input| / |gradient at the output|, and of the first block's weight gradient to the last
one's: 0 is kept, -3 has shrunk a thousandfold, 3 has grown so. A design's score is the distance from 0, and a
pair of designs is decided where their scores are two standard errors apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import product
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from flow.designs import DESIGNS
from flow.measure import Measured, Setting, Sizes, measure_all
from flow.output import draw, save_files
from flow.present import (
    MEASURES,
    design_table,
    flow_table,
    pair_table,
    ranking_table,
    statements,
)
from rich.console import Console

from mtltrack.cli.command import make_console, run_command, say
from mtltrack.core.errors import ConfigError

DEPTHS, GAINS, SEEDS, WIDTH = [4, 8, 16, 32, 64], [0.5, 0.7, 1.0, 1.4], 5, 64
QUICK = {"depths": [4, 8, 16], "gains": [0.7, 1.0], "seeds": 2, "width": 16}
BATCH, SIDE = 4, 8

EXAMPLES = """examples:
  python tools/gradient_flow.py
  python tools/gradient_flow.py --quick
  python tools/gradient_flow.py --designs plain elan --depths 16 128 --gains 1 --norms none
  python tools/gradient_flow.py --out output/gradient_flow --picture docs/gradient_flow.png

--out writes gradient_flow.csv and gradient_flow.json. See docs/gradient_flow.md
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gradient_flow.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--designs", nargs="+", default=list(DESIGNS), help=f"of {', '.join(DESIGNS)} (all)")
    parser.add_argument("--depths", nargs="+", type=int, help="layers, multiples of 4 (4 8 16 32 64)")
    parser.add_argument(
        "--gains", nargs="+", type=float, help="of the weights, in Kaiming's for ReLU (0.5 0.7 1 1.4)"
    )
    parser.add_argument(
        "--norms",
        nargs="+",
        choices=["own", "none"],
        default=["own", "none"],
        help="own: batch norm with the statistics of the batch, layer norm in the ViT (own none)",
    )
    parser.add_argument("--seeds", type=int, help="how many, 0 and up (5)")
    parser.add_argument("--width", type=int, help="channels between blocks (64)")
    parser.add_argument("--quick", action="store_true", help="small and few, tables alone: does it work?")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the CSV and the JSON file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the ratios over depth into it")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1: the sizes are small)")
    options = parser.parse_args(arguments)
    usual = QUICK if options.quick else {"depths": DEPTHS, "gains": GAINS, "seeds": SEEDS, "width": WIDTH}
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def settings_of(options: argparse.Namespace) -> list[Setting]:
    """Return what is to be measured.

    Raises:
        ConfigError: an option makes no sense.
    """
    if options.seeds < 2:
        raise ConfigError(f"--seeds {options.seeds}: at least 2 are needed to tell a difference from chance")
    for gain in options.gains:
        if not 0 < gain < float("inf"):
            raise ConfigError(f"--gains {gain:g}: must be above 0 and finite")
    designs, depths = dict.fromkeys(options.designs), sorted(set(options.depths))
    norms, gains = dict.fromkeys(options.norms), sorted(set(options.gains))
    return [Setting(d, n == "own", g, depth) for n, g, depth, d in product(norms, gains, depths, designs)]


def tell(console: Console, found: list[Measured], *, sentences: bool) -> None:
    """Print the tables and, where `sentences` are wanted, what follows from them."""
    for measure in MEASURES:
        console.print(flow_table(found, measure))
    ranked = {m.setting.design for m in found if DESIGNS[m.setting.design].tier is not None}
    if len({DESIGNS[name].tier for name in ranked}) < 2:
        say(console, "nothing to compare: the textbook ranking orders no two of these designs")
        return
    for measure in MEASURES:
        if measure == "weight_decades" and max(m.setting.depth for m in found) == 4:
            continue  # one block is the first and the last
        console.print(ranking_table(found, measure))
        console.print(pair_table(found, measure))
    for line in statements(found) if sentences else ():
        say(console, line)


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    torch.set_num_threads(options.threads)
    settings, sizes = settings_of(options), Sizes(BATCH, options.width, SIDE)
    console, began = make_console(), time.process_time()
    console.print(design_table(list(dict.fromkeys(options.designs)), options.width))
    with console.status("") as status:
        found = measure_all(settings, sizes, options.seeds, status.update)
    tell(console, found, sentences=not options.quick)
    if options.out is not None:
        save_files(found, sizes, options.out)
        say(console, f"wrote {options.out / 'gradient_flow.csv'} and gradient_flow.json beside it")
    if options.picture is not None:
        draw(found, options.picture)
        say(console, f"wrote {options.picture}")
    seconds = time.process_time() - began
    say(console, f"{len(settings)} settings, {options.seeds} seeds, {seconds:.0f} s of processor time")
    return 0


def main(arguments: list[str] | None = None) -> int:
    return run_command(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
