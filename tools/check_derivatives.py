"""Check every derivative of this project in float64: against central differences and against formulas.

losses      every loss against central differences
forms       the losses' gradients as formulas, and LayerNorm's, against automatic differentiation
layers      the differentiable crop, overlap with polygons, the soft clock, soft-argmax, ...
exclusions  what is declared to have another gradient: straight-through gates, the start of a clip's clock
edges       equal, disjoint and empty boxes, empty masks, p at 0 and 1, impossible texts (in float32)
network     reduced-size models: every loss term, every stage, along random directions

The error is relative to the larger of the two numbers, and to a thousandth of the largest of its tensor at
least. What the code detaches is held constant in the differences too, and listed. Exit status 1 when an error
is above its tolerance or a check fails.

    python tools/check_derivatives.py
    python tools/check_derivatives.py --only losses forms/giou --report output/derivatives.json
    python tools/check_derivatives.py --only 'network/hiptrack*'
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

sys.path.insert(0, str(Path(__file__).resolve().parent))

from derivatives import edges, forms, layers, losses, network
from derivatives.comparison import Check
from derivatives.report import notes_of, run_checks, table_of, write_report

GROUPS = (losses, forms, layers, edges, network)


def choose(checks: list[Check], only: list[str]) -> list[Check]:
    """Return the checks of which a name, a group or a pattern is in `only`; all where it is empty.

    Raises:
        ValueError: one of `only` names no check.
    """
    chosen = []
    for wanted in only:
        found = [c for c in checks if fnmatch(c.name, wanted) or c.name.split("/")[0] == wanted]
        if not found:
            names = ", ".join(check.name for check in checks)
            raise ValueError(f"--only {wanted}: no check of that name or group; there are {names}")
        chosen += found
    return [check for check in checks if not only or check in chosen]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="checks, groups or patterns; default all")
    parser.add_argument("--report", type=Path, help="write the results to this JSON file")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1: the sizes are small)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        checks = choose([check for group in GROUPS for check in group.checks()], options.only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    console = Console(width=132)
    with console.status("") as status:
        results = run_checks(checks, status.update)
    console.print(table_of(results))
    for line in notes_of(results):
        console.print(escape(line), highlight=False, soft_wrap=True)
    failed = [result.check.name for result in results if not result.passed]
    console.print(
        f"{len(results)} checks, {len(failed)} failed" + (f": {', '.join(failed)}" if failed else ""),
        highlight=False,
    )
    if options.report is not None:
        write_report(results, options.report)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
