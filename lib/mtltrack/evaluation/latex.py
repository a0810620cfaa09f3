"""Score tables for papers: LaTeX with booktabs, the best of each column bold."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from mtltrack.evaluation.attributes import AttributeScores
from mtltrack.evaluation.columns import heading, interval_text, score_columns
from mtltrack.evaluation.comparison import Intervals
from mtltrack.evaluation.report import TrackerReport

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def escape(text: str) -> str:
    """Return a text with the characters written out that mean something to LaTeX."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def scores_as_latex(
    benchmark: str,
    reports: Sequence[TrackerReport],
    score: str,
    intervals: Mapping[str, Intervals],
    attributes: Sequence[AttributeScores] = (),
) -> str:
    """Return the table of means and, where attributes are known, a table of these.

    Args:
        benchmark: name of the data.
        reports: of the trackers.
        score: whose interval is shown, and which is shown by attribute.
        intervals: tracker -> score -> ends of its interval.
        attributes: scores by attribute.
    """
    columns = score_columns(report.mean for report in reports)
    means = _table(
        ["tracker", *map(heading, columns), f"{score}, 95 %"],
        [report.tracker for report in reports],
        [[_scaled(column, report.mean.get(column, math.nan)) for column in columns] for report in reports],
        [1 if column == "FPS" else 2 for column in columns],
        best_in_row=False,
        plain=[number for number, column in enumerate(columns) if column == "FPS"],
        last=[interval_text(intervals[report.tracker].get(score)) for report in reports],
    )
    count = len(reports[0].sequences)
    said = f"Scores on {benchmark} in percent, {count} sequence{'s' * (count != 1)}"
    said += "; the interval is of the mean over sequences." if any(intervals.values()) else "."
    parts = ["% needs \\usepackage{booktabs}", _floated(means, escape(said))]
    if attributes:
        rows = [[100 * row[score] for row in item.scores.values()] for item in attributes]
        by_attribute = _table(
            ["attribute", *attributes[0].scores],
            [f"{item.name} ({len(item.sequences)})" for item in attributes],
            rows,
            [2] * len(reports),
            best_in_row=True,
        )
        said = f"{score} by attribute on {benchmark} in percent; in brackets the number of sequences."
        parts.append(_floated(by_attribute, escape(said)))
    return "\n".join(parts)


def _scaled(column: str, value: float) -> float:
    return value if column == "FPS" else 100 * value


def _table(
    header: Sequence[str],
    names: Sequence[str],
    rows: Sequence[Sequence[float]],
    digits: Sequence[int],
    *,
    best_in_row: bool,
    plain: Collection[int] = (),
    last: Sequence[str] = (),
) -> str:
    """Return a tabular; a number is bold when, as written, none in its row or column is higher; none is in
    the columns `plain`.
    """
    texts = [
        ["-" if math.isnan(value) else f"{value:.{n}f}" for value, n in zip(row, digits, strict=True)]
        for row in rows
    ]
    groups = texts if best_in_row else list(zip(*texts, strict=True))
    best = [max((float(text) for text in group if text != "-"), default=math.nan) for group in groups]
    best = [value if number not in plain else math.nan for number, value in enumerate(best)]
    lines = []
    for index, (name, row) in enumerate(zip(names, texts, strict=True)):
        limits = [best[index]] * len(row) if best_in_row else best
        cells = [
            f"\\textbf{{{text}}}" if text != "-" and float(text) == limit and _several(groups) else text
            for text, limit in zip(row, limits, strict=True)
        ]
        lines.append(" & ".join([escape(name), *cells, *(escape(text) for text in last[index : index + 1])]))
    head = " & ".join(escape(text) for text in header)
    body = " \\\\\n".join(lines)
    return (
        f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body} \\\\\n"
        "\\bottomrule\n\\end{tabular}"
    )


def _several(groups: Sequence[Sequence[str]]) -> bool:
    """Whether there is more than one number to be the best of."""
    return bool(groups) and len(groups[0]) > 1


def _floated(tabular: str, caption: str) -> str:
    return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{tabular}\n\\end{{table}}\n"
