"""What was measured, as tables and in words."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from flow.designs import DESIGNS
from flow.expected import expected_decades
from flow.measure import Measured, count_paths
from flow.ranking import AGREES, CONTRADICTS, UNDECIDED, Agreement, agreement, score_of, sentence, total

MEASURES = {"input_decades": "gradient at the input", "weight_decades": "weight gradient of the first block"}
NORMS = {True: "own", False: "none"}  # batch norm, layer norm in the transformer
Place = tuple[bool, float, int]  # norm, gain, depth


def places_of(found: Sequence[Measured]) -> list[Place]:
    return list(dict.fromkeys((m.setting.norm, m.setting.gain, m.setting.depth) for m in found))


def at(found: Sequence[Measured], place: Place) -> list[Measured]:
    """Return the designs that were measured at a place."""
    return [m for m in found if (m.setting.norm, m.setting.gain, m.setting.depth) == place]


def values_of(measured: Measured, measure: str) -> list[float]:
    return [getattr(flow, measure) for flow in measured.flows]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation; where a value isn't finite, the first such and nan."""
    for value in values:
        if not math.isfinite(value):
            return value, math.nan
    return statistics.fmean(values), statistics.stdev(values)


def textbook() -> str:
    """Return the ranking in words, the worst first."""
    tiers = sorted({design.tier for design in DESIGNS.values() if design.tier is not None})
    groups = [", ".join(name for name, design in DESIGNS.items() if design.tier == tier) for tier in tiers]
    return " < ".join(groups)


def agreements(found: Sequence[Measured], measure: str) -> dict[Place, Agreement]:
    """Compare the scores at each place with the textbook ranking.

    Of a single block the first is the last, and its weights say nothing.
    """
    tiers = {name: design.tier for name, design in DESIGNS.items() if design.tier is not None}
    result = {}
    for place in places_of(found):
        scores = {m.setting.design: score_of(values_of(m, measure)) for m in at(found, place)}
        if measure == "input_decades" or any(score.mean > 0 for score in scores.values()):
            result[place] = agreement(scores, tiers)
    return result


def make_table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right" if table.columns else "left")
    return table


def design_table(designs: Sequence[str], width: int) -> Table:
    """Tell what the designs are and how long the ways of a gradient through a block are."""
    table = make_table(
        f"One block of each design, {width} channels; textbook ranking: {textbook()}",
        ("design", "block", "layers, longest path", "shortest", "and 1x1", "weights"),
    )
    for name in designs:
        paths = count_paths(name, width)
        numbers = (paths.longest, paths.shortest, paths.shortest_all, paths.parameters)
        table.add_row(name, DESIGNS[name].summary, *map(str, numbers))
    return table


def flow_table(found: Sequence[Measured], measure: str) -> Table:
    """Lay out the decades at the largest depth, below them what is expected of wide networks."""
    depth = max(m.setting.depth for m in found)
    designs = list(dict.fromkeys(m.setting.design for m in found))
    named = "at the output" if measure == "input_decades" else "of the last"
    title = f"log10 of {MEASURES[measure]} to that {named}, {depth} layers, mean and deviation over seeds"
    table = make_table(title, ("norm", "gain", *designs))
    for norm, gain, _ in (place for place in places_of(found) if place[2] == depth):
        row = {m.setting.design: m for m in at(found, (norm, gain, depth))}
        cells = [flow_cell(values_of(row[name], measure)) for name in designs]
        table.add_row(NORMS[norm], f"{gain:g}", *cells)
        expected = [expected_decades(row[name].setting) for name in designs]
        if measure == "input_decades" and any(value is not None for value in expected):
            told = ("" if value is None else f"{value:+.2f}       " for value in expected)
            table.add_row("", "expected", *told, style="dim")
    return table


def flow_cell(values: Sequence[float]) -> str:
    mean, spread = mean_and_deviation(values)
    if math.isfinite(mean):
        return f"{mean:+.2f} ({spread:.2f})"
    return "overflow" if mean > 0 else "zero"


def ranking_table(found: Sequence[Measured], measure: str) -> Table:
    """Lay out the measured ranking at the largest depth and how often pairs agree with the textbook's."""
    compared = agreements(found, measure)
    depths = sorted({place[2] for place in compared})
    depth = depths[-1]
    table = make_table(
        f"Ranking by {MEASURES[measure]}; pairs at {', '.join(map(str, depths))} layers",
        ("norm", "gain", f"measured at {depth}, worst first", "tau", AGREES, UNDECIDED, CONTRADICTS),
    )
    for norm, gain, _ in (place for place in compared if place[2] == depth):
        rows = {place: one for place, one in compared.items() if place[:2] == (norm, gain)}
        counts, deepest = total(rows.values()), rows[norm, gain, depth]
        order = " < ".join(reversed(deepest.order))
        numbers = (str(counts[verdict]) for verdict in (AGREES, UNDECIDED, CONTRADICTS))
        table.add_row(NORMS[norm], f"{gain:g}", order, f"{deepest.tau:+.2f}", *numbers)
    return table


def pair_counts(compared: dict[Place, Agreement], norm: bool) -> dict[tuple[str, str], Counter[str]]:
    """Return for each pair (better, worse) how often which verdict fell, with norms or without."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for place, one in compared.items():
        for pair, verdict in one.verdicts.items():
            if place[0] == norm:
                counts.setdefault(pair, Counter())[verdict] += 1
    return counts


def pair_table(found: Sequence[Measured], measure: str) -> Table:
    """Lay out for each claim of the textbook ranking in how many settings it holds."""
    compared = agreements(found, measure)
    norms = list(dict.fromkeys(place[0] for place in compared))
    table = make_table(
        f"Claims, by {MEASURES[measure]}: settings of each that agree / are undecided / contradict",
        ("claim", *(f"norm: {NORMS[norm]}" for norm in norms)),
    )
    counts = {norm: pair_counts(compared, norm) for norm in norms}
    for better, worse in counts[norms[0]]:
        found_here = (counts[norm][better, worse] for norm in norms)
        cells = (f"{c[AGREES]} / {c[UNDECIDED]} / {c[CONTRADICTS]}" for c in found_here)
        table.add_row(f"{better} better than {worse}", *cells)
    return table


def tier_claims(pairs: Iterable[tuple[str, str]]) -> dict[str, set[tuple[str, str]]]:
    """Gather pairs (better, worse) by the places of the textbook ranking that they compare."""
    claims: dict[str, set[tuple[str, str]]] = {}
    for better, worse in pairs:
        names = [
            "/".join(name for name, design in DESIGNS.items() if design.tier == DESIGNS[one].tier)
            for one in (better, worse)
        ]
        claims.setdefault(f"{names[0]} better than {names[1]}", set()).add((better, worse))
    return claims


def statements(found: Sequence[Measured]) -> list[str]:
    """Say where the textbook ranking holds: a line for each measure, with norms and without, and claim."""
    lines = []
    depth = max(m.setting.depth for m in found)
    for measure, name in MEASURES.items():
        compared = agreements(found, measure)
        for norm in dict.fromkeys(place[0] for place in compared):
            here = {place: one for place, one in compared.items() if place[0] == norm}
            for claim, pairs in tier_claims(next(iter(here.values())).verdicts).items():
                deepest = total((one for place, one in here.items() if place[2] == depth), pairs)
                about = f"{name}, norm {NORMS[norm]}: {claim}"
                lines.append(sentence(about, total(here.values(), pairs), deepest, depth))
    return lines
