"""The scores as one HTML page that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from mtltrack.evaluation.analysis import Analysis
from mtltrack.evaluation.columns import TITLES, heading, interval_text, score_columns, score_text, task_text
from mtltrack.evaluation.comparison import EVERY_PAIR
from mtltrack.evaluation.html import SORTING, Cell, page, picture, table
from mtltrack.evaluation.plots import CURVES
from mtltrack.evaluation.report import BASELINE, Rules, TrackerReport
from mtltrack.evaluation.task_tables import row_name
from mtltrack.evaluation.worst_frames import WorstFrame
from mtltrack.metrics.robustness import LOST_AT, PATIENCE, summarise_failures

_STYLE = ".clear { color: #0b6e4f; font-weight: 600 } .noise { color: #7a4a00 } input { margin: 0 0 8px }"


def page_of(
    analysis: Analysis, plots: Mapping[str, bytes], confusions: Mapping[str, bytes] | None = None
) -> str:
    """Return the page.

    Args:
        analysis: what to show.
        plots: name -> PNG.
        confusions: tracker -> PNG of the confusion matrix of its scene conditions.
    """
    parts = [
        *_summary(analysis),
        *_plots(analysis, plots),
        *_attributes(analysis, plots),
        *_sequences(analysis),
        *_failures(analysis),
        *_worst(analysis),
        *_tasks(analysis, confusions or {}),
        *_rules(analysis),
    ]
    return page(f"Scores on {analysis.benchmark}", parts, _STYLE, SORTING)


def _summary(analysis: Analysis) -> Iterator[str]:
    reports, score = analysis.reports, analysis.score
    frames = sum(reports[0].frames.values())
    yield f"<h1>Scores on {escape(analysis.benchmark)}</h1>"
    yield (
        f"<p>{_counted(len(reports), 'tracker')}, {_counted(len(reports[0].sequences), 'sequence')}, "
        f"{frames} frames. Percent; every sequence weighs the same"
        f"{', every frame in AO and SR' * (score == 'AO')}. "
        + "The interval holds 95 % of the means of sequences drawn anew. " * any(analysis.intervals.values())
        + "A click on a heading sorts.</p>"
    )
    yield from (f"<p>Note: {escape(note)}</p>" for note in analysis.notes)
    columns = score_columns((report.mean for report in reports), wide=True)
    best = {name: max(_rank(report.mean, name) for report in reports) for name in columns}
    rows: list[list[str | Cell]] = []
    for report in reports:
        interval = analysis.intervals[report.tracker].get(score)
        cells = [_score_cell(name, report.mean, best[name] if len(reports) > 1 else None) for name in columns]
        middle = math.nan if interval is None else sum(interval) / 2
        rows.append([Cell(report.tracker), *cells, Cell(interval_text(interval), middle)])
    header = ["tracker", *map(heading, columns), f"{score}, 95 %"]
    yield f'<div class="scroll">{table(header, rows, "numbers", sortable=True)}</div>'
    if analysis.comparisons:
        yield "<h3>Is the difference more than noise?</h3>"
        pairs = "each pair" if len(reports) <= EVERY_PAIR else "the best tracker with each other one"
        yield (
            f"<p>Paired by sequence, {pairs}; the p-value says how often a difference as large arises when "
            "the sign of each sequence's difference is tossed"
            + (", corrected for the number of comparisons (Holm)" if len(analysis.comparisons) > 1 else "")
            + ".</p>"
        )
        items = "".join(
            f'<li class="{"clear" if item.differs else "noise"}">{escape(item.words())}</li>'
            for item in analysis.comparisons
        )
        yield f"<ul>{items}</ul>"


def _rank(row: Mapping[str, float], column: str) -> float:
    """Return a number to rank by: NaN, which nothing is above or below, counts as the lowest."""
    value = row.get(column, math.nan)
    return -1.0 if math.isnan(value) else value


def _score_cell(column: str, row: Mapping[str, float], best: float | None = None) -> Cell:
    value = row.get(column, math.nan)
    text = score_text(column, value)
    is_best = best is not None and column != "FPS" and text != "-" and text == score_text(column, best)
    share = None if column == "FPS" or math.isnan(value) else min(max(value, 0.0), 1.0)
    return Cell(text, value, "best" if is_best else "", share)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _plots(analysis: Analysis, plots: Mapping[str, bytes]) -> Iterator[str]:
    yield "<h2>Curves</h2>"
    shown = [
        picture(plots[kind], "png", f"{CURVES[kind][0]} on {analysis.benchmark}", width=560)
        for kind in CURVES
        if kind in plots
    ]
    yield f'<div class="grid">{"".join(shown)}</div>'


def _attributes(analysis: Analysis, plots: Mapping[str, bytes]) -> Iterator[str]:
    if not analysis.attributes:
        return
    score = analysis.score
    yield f"<h2>{escape(score)} by attribute</h2>"
    rows: list[list[str | Cell]] = []
    for item in analysis.attributes:
        best = max(_rank(row, score) for row in item.scores.values())
        several = len(item.scores) > 1
        cells = [_score_cell(score, row, best if several else None) for row in item.scores.values()]
        rows.append([item.name, Cell(str(len(item.sequences)), len(item.sequences)), *cells])
    header = ["attribute", "sequences", *(report.tracker for report in analysis.reports)]
    parts = [f'<div class="scroll">{table(header, rows, "numbers", sortable=True)}</div>']
    if "attributes" in plots:
        caption = f"{score} by attribute on {analysis.benchmark}; in brackets the number of sequences"
        parts.insert(0, picture(plots["attributes"], "png", caption, width=760))
    yield f'<div class="grid">{"".join(parts)}</div>'


def _sequences(analysis: Analysis) -> Iterator[str]:
    yield '<h2>Sequence by sequence</h2><div id="sequences">'
    yield '<input type="search" data-filter="sequences" placeholder="name of a sequence" aria-label="filter">'
    reports = analysis.reports
    if len(reports) == 1:
        columns = score_columns(reports[0].sequences.values(), wide=True)
        rows: list[list[str | Cell]] = [
            [name, _frames(reports[0], name), *(_score_cell(column, row) for column in columns)]
            for name, row in reports[0].sequences.items()
        ]
        header = ["sequence", "frames", *map(heading, columns)]
        yield f'<div class="scroll">{table(header, rows, "numbers", sortable=True)}</div>'
    else:
        for index, score in enumerate(dict.fromkeys((analysis.score, "AUC", "Precision", "NormPrecision"))):
            yield f"<details{' open' * (index == 0)}><summary>{escape(heading(score))}</summary>"
            yield f'<div class="scroll">{_side_by_side(reports, score)}</div></details>'
    yield "</div>"


def _frames(report: TrackerReport, sequence: str) -> Cell:
    return Cell(str(report.frames[sequence]), report.frames[sequence])


def _side_by_side(reports: Sequence[TrackerReport], score: str) -> str:
    """Return the table of one score: a row a sequence, a column a tracker, and how far apart they are: of
    several trackers without the box held still.
    """
    apart = [report for report in reports if report.tracker != BASELINE]
    apart = apart if len(apart) > 1 else list(reports)
    two = len(apart) == 2
    rows: list[list[str | Cell]] = []
    for name in reports[0].sequences:
        best = max(_rank(report.sequences[name], score) for report in reports)
        cells = [_score_cell(score, item.sequences[name], best) for item in reports]
        values = [report.sequences[name].get(score, math.nan) for report in apart]
        gap = 100 * (values[0] - values[1]) if two else _spread([v for v in values if not math.isnan(v)])
        text = "-" if math.isnan(gap) else f"{gap:{'+' * two}.2f}"
        rows.append([name, _frames(reports[0], name), *cells, Cell(text, gap)])
    last = "first less second" if two else "best less worst"
    header = ["sequence", "frames", *(item.tracker for item in reports), last]
    return table(header, rows, "numbers", sortable=True)


def _spread(values: Sequence[float]) -> float:
    return 100 * (max(values) - min(values)) if values else math.nan


def _failures(analysis: Analysis) -> Iterator[str]:
    yield "<h2>Losing the target</h2>"
    yield (
        f"<p>A failure: at least {PATIENCE} frames in a row with a target and an overlap of at most "
        f"{LOST_AT:g}; it ends when the target is found again.</p>"
    )
    columns = {
        "failures": ("failures", 1, ".0f"),
        "failures_per_1000": ("per 1,000 frames", 1, ".2f"),
        "sequences_failed": ("sequences with one, %", 100, ".1f"),
        "redetected": ("found again, %", 100, ".1f"),
        "frames_to_redetect": ("frames until then (median)", 1, ".0f"),
        "lost": ("frames lost, %", 100, ".1f"),
    }
    rows: list[list[str | Cell]] = []
    for report in analysis.reports:
        found = summarise_failures(list(report.failures.values()))
        cells = []
        for key, (_, scale, form) in columns.items():
            value = scale * found[key]
            cells.append(Cell("-" if math.isnan(value) else f"{value:{form}}", value))
        rows.append([report.tracker, *cells])
    header = ["tracker", *(name for name, _, _ in columns.values())]
    yield f'<div class="scroll">{table(header, rows, "numbers", sortable=True)}</div>'


def _worst(analysis: Analysis) -> Iterator[str]:
    if not analysis.worst:
        return
    yield "<h2>The worst frames</h2>"
    yield (
        "<p>Of each tracker's worst sequences (by AUC) the frame with the lowest overlap, of several the one "
        "farthest off. The true box is green, the tracker's blue; lost means an overlap of at most "
        f"{LOST_AT:g}.</p>"
    )
    trackers: dict[str, list[tuple[WorstFrame, bytes | None]]] = {}
    for frame, data in analysis.worst:
        trackers.setdefault(frame.tracker, []).append((frame, data))
    for tracker, frames in trackers.items():
        yield f"<h3>{escape(tracker)}</h3>"
        shown = [
            picture(data, "jpeg", frame.words(), width=400) for frame, data in frames if data is not None
        ]
        if shown:
            yield f'<div class="grid">{"".join(shown)}</div>'
        words = "".join(f"<li>{escape(frame.words())}</li>" for frame, data in frames if data is None)
        if words:
            yield f"<p>Without a picture, because the images aren't there:</p><ul>{words}</ul>"


def _tasks(analysis: Analysis, confusions: Mapping[str, bytes]) -> Iterator[str]:
    for task, trackers in analysis.tasks.items():
        yield f"<h2>{escape(TITLES.get(task, task))} ({escape(task)})</h2>"
        rows = {row_name(name, row): v for name, found in trackers.items() for row, v in found.rows.items()}
        yield f'<div class="scroll">{_task_table("tracker", rows)}</div>'
        each = {
            f"{name}, {sequence}" if len(trackers) > 1 else sequence: values
            for name, found in trackers.items()
            for sequence, values in found.sequences.items()
        }
        if each:
            yield f"<details><summary>{_counted(len(each), 'row')} by sequence</summary>"
            yield f'<div class="scroll">{_task_table("sequence", each)}</div></details>'
        if task == "cls":
            shown = [
                picture(data, "png", f"confusion, {name}", width=520) for name, data in confusions.items()
            ]
            yield f'<div class="grid">{"".join(shown)}</div>'


def _task_table(first: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells: list[list[str | Cell]] = [
        [name, *(Cell(task_text(row.get(c, math.nan)), float(row.get(c, math.nan))) for c in columns)]
        for name, row in rows.items()
    ]
    return table([first, *map(heading, columns)], cells, "numbers", sortable=True)


def _rule_rows(rules: Rules) -> list[tuple[str, str]]:
    size = rules.validity == "size"
    return [
        ("benchmark whose rules hold", rules.protocol),
        ("a frame has a target when its true box has", "w, h > 0" if size else "x, y, w, h > 0"),
        ("scores are divided by", "the frames with a target" if rules.exclude_invalid else "all frames"),
        (
            "frames without a target in the precision curves",
            "hits, as in the published analysis" if rules.invalid_counts_as_hit else "misses",
        ),
        (
            "missing results, and those of another length",
            "sequences that some tracker lacks are left out; longer results are cut, what shorter ones lack "
            "is missed"
            if rules.allow_partial
            else "refused",
        ),
        ("AO and SR as GOT-10k computes them", "yes" if rules.ao else "no"),
    ]


def _rules(analysis: Analysis) -> Iterator[str]:
    yield "<h2>How it was scored</h2>"
    yield table(("rule", "here"), _rule_rows(analysis.rules))
    if any(report.tracker == BASELINE for report in analysis.reports):
        yield f"<p>'{BASELINE}' is no tracker: it says the first box in every frame.</p>"
    speeds = [report for report in analysis.reports if not math.isnan(report.mean.get("FPS", math.nan))]
    if speeds:
        yield "<p>FPS is what each program noted of itself, on whatever machine it ran.</p>"
