"""What the files of a report hold: numbers worked out by hand, pages that need nothing else."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_trackers import walk, write_sequence

from mtltrack.core.errors import DataError
from mtltrack.evaluation.analysis import Analysis, analyse, show_worst
from mtltrack.evaluation.html import Cell, page, picture, table
from mtltrack.evaluation.latex import escape
from mtltrack.evaluation.plots import INSIDE, PALETTE, draw_plots, line_styles, plot_curve, plot_radar
from mtltrack.evaluation.report import BASELINE, Results, Rules, Truth
from mtltrack.evaluation.report_files import KINDS, as_json, save
from mtltrack.evaluation.report_page import page_of
from mtltrack.evaluation.results import ResultFolder, write_results
from mtltrack.evaluation.task_tables import TaskScores

STILL = walk(4, step=0)
# boxes 10 wide, 5 to the right from frame 2 on: overlaps 1, 1/3, 1/3, 1/3. 20 of the 21 thresholds are below
# 1, 7 (0 to 0.3) below 1/3; the centres are 5 pixels and half a box off
OFF = STILL + np.array([[0, 0, 0, 0], *[[5.0, 0, 0, 0]] * 3])
AUC = {"good_1": 20 / 21, "off": (20 + 3 * 7) / (4 * 21)}


@pytest.fixture
def trackers(tmp_path: Path) -> dict[str, Results]:
    found: dict[str, Results] = {}
    for name, boxes in (("good_1", STILL), ("off", OFF)):
        results = ResultFolder(tmp_path / name)
        for sequence in ("a", "b"):
            write_results(results, sequence, boxes, [1.0, 0.5, 0.5, 0.5])
        found[name] = results
    return found


@pytest.fixture
def truths(tmp_path: Path) -> list[Truth]:
    frames = tuple(sorted((write_sequence(tmp_path / "data" / "a", STILL) / "img").iterdir()))
    return [
        Truth("a", STILL, frames=frames, attributes=frozenset({"OCC", "SV", "FM"})),
        Truth("b", STILL, attributes=frozenset({"OCC"})),
    ]


@pytest.fixture
def analysis(truths: list[Truth], trackers: dict[str, Results]) -> Analysis:
    found = analyse("mine", truths, trackers, Rules(), notes=["one <note>"])
    show_worst(found, truths, trackers, 1)
    return found


def test_latex_by_hand(analysis: Analysis, tmp_path: Path) -> None:
    (path,) = save(analysis, tmp_path, ["latex"])
    text = path.read_text()
    lines = text.splitlines()
    assert "tracker & AUC & OP50 & OP75 & Prec. & Norm. prec. & mIoU & FPS & AUC, 95 \\% \\\\" in lines
    assert (
        "good\\_1 & \\textbf{95.24} & \\textbf{100.00} & \\textbf{100.00} & \\textbf{100.00} & "
        "\\textbf{100.00} & \\textbf{100.00} & 2.0 & - \\\\" in lines
    )
    # 41 / 84; a quarter of the frames; every centre within 20 pixels, a quarter within 0.2 boxes
    assert "off & 48.81 & 25.00 & 25.00 & \\textbf{100.00} & 25.00 & 50.00 & 2.0 & - \\\\" in lines
    assert (
        "OCC (2) & \\textbf{95.24} & 48.81 \\\\" in lines and "SV (1) & \\textbf{95.24} & 48.81 \\\\" in lines
    )
    count = Counter(re.findall(r"\\(begin|end){(\w+)}", text))
    assert count == {(side, kind): 2 for side in ("begin", "end") for kind in ("table", "tabular")}
    assert all(text.count(rule) == 2 for rule in ("\\toprule", "\\midrule", "\\bottomrule"))
    assert escape("a_b & 50% {x} #1 ~ ^ $ \\") == (
        r"a\_b \& 50\% \{x\} \#1 \textasciitilde{} \textasciicircum{} \$ \textbackslash{}"
    )


def test_one_tracker_has_nothing_to_be_the_best_of(
    truths: list[Truth], trackers: dict[str, Results], tmp_path: Path
) -> None:
    (path,) = save(analyse("mine", truths, {"off": trackers["off"]}, Rules()), tmp_path, ["latex"])
    assert "textbf" not in path.read_text()


def test_csv_and_json_by_hand(analysis: Analysis, tmp_path: Path) -> None:
    table_file, attribute_file, json_file = save(analysis, tmp_path, ["csv", "json"])
    lines = table_file.read_text().splitlines()
    rows = {(row["tracker"], row["sequence"]): row for row in csv.DictReader(lines)}
    assert list(rows) == [(name, row) for name in ("good_1", "off") for row in ("mean", "a", "b")]
    assert float(rows["off", "mean"]["AUC"]) == pytest.approx(AUC["off"])
    assert "AUC_low" not in rows["off", "mean"]  # two sequences say too little
    assert float(rows["off", "a"]["mIoU"]) == pytest.approx(0.5)
    found = list(csv.DictReader(attribute_file.read_text().splitlines()))
    assert [(row["attribute"], row["sequences"], row["tracker"]) for row in found[:2]] == [
        ("FM", "1", "good_1"),
        ("FM", "1", "off"),
    ]
    read = json.loads(json_file.read_text())
    off = read["trackers"][1]
    assert off["mean"]["FPS"] == pytest.approx(2.0) and off["intervals"] == {}
    assert off["curves"]["success"] == [1.0] * 7 + [0.25] * 13 + [0.0]
    assert read["thresholds"]["success"][7] == pytest.approx(0.35) and len(off["curves"]["precision"]) == 51
    assert read["comparisons"][0]["better"] == "good_1" and read["comparisons"][0]["differs"] is False
    assert read["attributes"]["OCC"]["sequences"] == ["a", "b"] and read["notes"] == analysis.notes
    assert off["failures"]["failures"] == 0.0 and read["worst_frames"][1]["frame"] == 2
    assert json.loads(as_json(analysis)) == read


class Reader(HTMLParser):
    """Checks that tags are closed in order, and collects what a browser would fetch or show."""

    VOID = ("meta", "img", "br", "input")
    FETCHING = ("src", "href", "srcset", "data", "poster", "action")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: Counter[str] = Counter()
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        self.fetched += [value or "" for name, value in attrs if name in self.FETCHING]
        assert all(not name.startswith("on") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_fetches_nothing(analysis: Analysis, tmp_path: Path) -> None:
    analysis.tasks = {"plate": {"off": TaskScores({"": {"frames": 3, "AP50": 0.25}}, {"a": {"AP50": 0.5}})}}
    (path,) = save(analysis, tmp_path, ["html"])
    text = path.read_text()
    read = Reader(text)
    assert all(item.startswith("data:image/") for item in read.fetched)
    assert read.seen["img"] == 3 + 1 + 2  # curves, radar, a frame of each tracker
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]+", "", text))
    assert "default-src 'none'" in text
    shown = " ".join(read.text)
    for words in (
        "one <note>",
        "good_1 and off are 46.4 points of AUC apart on 2 sequences, too few",
        "a, frame 2: overlap 0.33, 0.5 box sizes off",
        "plates (plate)",
        "0.250",
        "hits, as in the published analysis",
    ):
        assert words in shown or words in text, words
    assert text.count('class="numbers sortable"') >= 5 and "aria-sort" in text


def test_sequences_stand_side_by_side(analysis: Analysis) -> None:
    text = page_of(analysis, {})
    # the difference of the first less the second: 95.238 - 48.810
    assert re.search(r'<th>a</th><td data-value="4">4</td>.*data-value="46.4286">\+46.43</td>', text)
    assert '<td class="best bar" style="--share:95.2%" data-value="0.952381">95.24</td>' in text
    assert "Norm. prec. AUC" in text
    one = page_of(Analysis("x", Rules(), analysis.reports[:1], "AUC", analysis.intervals, []), {})
    assert "first less second" not in one and "Is the difference" not in one


def test_everything_is_sorted_by_score_and_the_box_held_still_is_last(
    truths: list[Truth], trackers: dict[str, Results], tmp_path: Path
) -> None:
    bad = ResultFolder(tmp_path / "a_bad")
    for name in ("a", "b"):
        write_results(bad, name, STILL + np.array([0, 0, 60, 60]), [0.1] * 4)
    given: dict[str, Results] = {"a_bad": bad, "off": trackers["off"], "good_1": trackers["good_1"]}
    found = analyse("mine", truths, given, Rules(), baseline=True)
    order = ["good_1", "off", "a_bad", BASELINE]  # the box held still is as good as good_1
    assert [report.tracker for report in found.reports] == order == list(found.attributes[0].scores)
    axes = plot_curve("success", "mine", found.reports).axes[0]
    assert [text.get_text().split("  ")[1] for text in axes.get_legend().get_texts()] == order
    text = page_of(found, {})
    assert "best less worst" in text and "The interval holds" not in text
    two = page_of(analyse("mine", truths, trackers, Rules(), baseline=True), {})
    assert "first less second" in two and ">+46.43</td>" in two  # of the trackers
    found.attributes = [replace(item, sequences=("a",)) for item in found.attributes]
    drawn = draw_plots("mine", found.reports, found.attributes, "AUC", ["png"])
    assert list(drawn) == ["success", "precision", "norm_precision"]  # no radar of one sequence


def test_cells_and_pictures() -> None:
    text = table(["a", "b<"], [["x&y", Cell("-", float("nan"), tip='say "no"')]], "numbers", sortable=True)
    assert '<th><button type="button">b&lt;</button></th>' in text
    assert '<th>x&amp;y</th><td title="say &quot;no&quot;" data-value="">-</td>' in text
    assert picture(b"abc", "png", "a > b", width=9) == (
        '<figure><img width="9" alt="a &gt; b" src="data:image/png;base64,YWJj">'
        "<figcaption>a &gt; b</figcaption></figure>"
    )
    assert "<script>" not in page("t", ["<p>x</p>"])
    Reader(page("t", [text], ".x { color: red }", "const x = 1 < 2;"))


def test_plots_are_files_that_open(analysis: Analysis, tmp_path: Path) -> None:
    paths = save(analysis, tmp_path, ["plots"])
    names = ("success", "precision", "norm_precision", "attributes")
    assert [path.name for path in paths] == [
        f"analysis_mine_{name}.{kind}" for name in names for kind in ("png", "pdf")
    ]
    for path in paths:
        if path.suffix == ".pdf":
            assert path.read_bytes()[:5] == b"%PDF-"
        else:
            assert min(cv2.imread(str(path)).shape[:2]) > 300


def test_curves_and_legends(analysis: Analysis) -> None:
    axes = plot_curve("success", "mine", analysis.reports).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["95.2  good_1", "48.8  off"]
    assert axes.lines[1].get_ydata().tolist() == [100.0] * 7 + [25.0] * 13 + [0.0]
    assert axes.get_ylim() == (0.0, 100.0) and axes.get_ylabel() == "frames above it, %"
    axes = plot_curve("norm_precision", "mine", analysis.reports[::-1]).axes[0]
    assert axes.get_legend().get_title().get_text() == "Norm. prec. at 0.2, %"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["100.0  good_1", "25.0  off"]
    radar = plot_radar(analysis.attributes, "AUC", "mine").axes[0]
    assert [text.get_text() for text in radar.get_xticklabels()] == ["FM (1)", "OCC (2)", "SV (1)"]
    assert radar.lines[1].get_ydata() == pytest.approx([100 * AUC["off"]] * 4)
    assert radar.get_ylim() == (0.0, 100.0)


def test_no_two_trackers_look_alike() -> None:
    names = [f"t{number}" for number in range(4 * len(PALETTE))]
    styles = line_styles(names)
    assert len(set(styles.values())) == len(names)
    assert len({colour for colour, _ in list(styles.values())[: len(PALETTE)]}) == len(PALETTE)
    assert INSIDE >= len(PALETTE)


def test_what_is_written_is_what_was_asked_for(analysis: Analysis, tmp_path: Path) -> None:
    assert save(analysis, tmp_path / "none", []) == [] and not (tmp_path / "none").exists()
    assert KINDS == ("csv", "json", "latex", "plots", "html")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"can't write '.*analysis_mine\.csv': .*; --out FOLDER takes"):
        save(analysis, tmp_path / "file", ["csv"])
