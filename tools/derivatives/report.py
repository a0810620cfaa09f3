"""Running checks, and what they found as a table and as JSON."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from derivatives.comparison import Check, Outcome
from derivatives.held import DECLARED


@dataclass
class Result:
    """A check and what it found.

    Attributes:
        check: the check.
        outcome: None where it raised.
        failure: the exception, or None.
        seconds: that it took.
    """

    check: Check
    outcome: Outcome | None
    failure: str | None
    seconds: float

    @property
    def passed(self) -> bool:
        return self.outcome is not None and self.outcome.error <= self.check.tolerance

    def as_dict(self) -> dict[str, Any]:
        """Return plain types; an error that isn't finite is null."""
        found = self.outcome or Outcome(math.inf, 0)
        return {
            "name": self.check.name,
            "against": self.check.against,
            "error": found.error if math.isfinite(found.error) else None,
            "tolerance": self.check.tolerance,
            "compared": found.compared,
            "note": found.note,
            "held": found.held,
            "failure": self.failure,
            "seconds": round(self.seconds, 3),
            "passed": self.passed,
        }


def run_check(check: Check) -> Result:
    """Run one check; what it raises is its result, and the others still run."""
    began = time.perf_counter()
    outcome, failure = None, None
    try:
        outcome = check.run()
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    return Result(check, outcome, failure, time.perf_counter() - began)


def run_checks(checks: Iterable[Check], told: Callable[[str], None]) -> list[Result]:
    """Run checks one after the other; `told` hears of each that starts."""
    results = []
    for check in checks:
        told(check.name)
        results.append(run_check(check))
    return results


def table_of(results: Sequence[Result]) -> Table:
    """Lay the results out, one row a check."""
    table = Table(title="derivatives")
    for column in ("check", "compared with", "numbers", "largest relative error", "tolerance", "verdict"):
        table.add_column(column, justify="right" if column in ("numbers", "tolerance") else "left")
    for result in results:
        found = "-" if result.outcome is None else f"{result.outcome.error:.1e}"
        table.add_row(
            result.check.name,
            result.check.against,
            "-" if result.outcome is None else f"{result.outcome.compared:,}",
            found,
            f"{result.check.tolerance:.0e}",
            "equal" if result.passed else "[red]DIFFERS[/]",
        )
    return table


def notes_of(results: Sequence[Result]) -> list[str]:
    """Return what a row can't hold: failures, where the largest error stands, what was held constant."""
    lines, places = [], set()
    for result in results:
        outcome = result.outcome or Outcome(math.inf, 0)
        text = "; ".join(part for part in (result.failure, outcome.note) if part)
        if text:
            lines.append(f"{result.check.name}: {text}")
        places.update(outcome.held)
    if places:
        lines.append("held constant, declared to carry no gradient:")
        for place in sorted(places):
            lines.append(f"  {place}: {DECLARED[place].reason if place in DECLARED else 'NOT DECLARED'}")
    return lines


def write_report(results: Sequence[Result], path: Path) -> None:
    """Write the results as JSON."""
    content = {
        "torch": torch.__version__,
        "passed": all(result.passed for result in results),
        "checks": [result.as_dict() for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
