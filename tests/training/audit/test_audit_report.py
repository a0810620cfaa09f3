"""The report: plain JSON, a page that needs nothing else, a table for the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from faults import planted
from rich.console import Console
from small_models import Small

from mtltrack.training.audit.graph import draw_graph
from mtltrack.training.audit.page import page_of
from mtltrack.training.audit.report import AuditReport, Switch
from mtltrack.training.audit.table import (
    render_boundaries,
    render_stage,
    render_switches,
    verdict_line,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread_for_all() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def healthy() -> AuditReport:
    small = Small("hiptrack", tasks={"seg": {"TYPE": "SegHead", "HIDDEN_DIM": 8, "STEM": 4}})
    report = small.audit()
    report.switches = [Switch("a switch", 0.25, 0.5, 1, 2.0, 4.0, 0.5, 0.25, "a note")]
    return report


@pytest.fixture(scope="module")
def broken() -> AuditReport:
    with planted("detached_for_logging") as (small, fault):
        return small.audit(fault.stage)


class Page(HTMLParser):
    """Checks that every tag is closed and collects what could be fetched."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def printed(renderable) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_json_holds_what_was_measured(healthy: AuditReport, tmp_path: Path) -> None:
    healthy.save_json(tmp_path / "audit.json")
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content["passed"] is True
    heads, joint = content["stages"]
    assert [heads["name"], joint["name"]] == ["heads", "joint"]
    cells = {(cell["loss"], cell["stage"]): cell for cell in joint["cells"]}
    chain = cells["seg/dice", "backbone.patch_embed"]
    assert chain["verdict"] == "connected" and chain["norm"] > 0 and chain["expected"] == "required"
    assert chain["why"] == "seg <- tokens"
    assert cells["seg/dice", "box.ctr.out"]["verdict"] == "none"
    edges = {f"{edge['source']}.{edge['name']}": edge for edge in joint["edges"]}
    assert edges["box.features"]["verdict"] == "connected"
    assert edges["box.score_map"]["why"] == "the scores only say where to look"
    assert joint["history"][0][1] == 0.0 and joint["history"][1][0] > 0
    assert "box.score_map -> seg" in content["boundaries"]


def test_the_page_needs_nothing_else(healthy: AuditReport) -> None:
    text = page_of(healthy)
    page = Page()
    page.feed(text)
    assert not page.open and not page.links
    assert "http" not in text.replace("http-equiv", "")
    assert "every gradient is as expected" in text and "a switch" in text
    assert len(re.findall("<svg", text)) == 2


def test_the_page_and_the_table_show_what_is_wrong(broken: AuditReport) -> None:
    text = page_of(broken)
    assert "1 violated expectation(s)" in text and "cut at detach" in text
    assert '<td class="bad"' in text
    shown = printed(render_stage(broken.stages[0]))
    assert "missing" in shown and "cut at detach" in shown
    assert str(verdict_line(broken)) == "FAILED: 1 violated expectation(s)"


def test_the_graph_is_svg_with_norms_on_its_edges(healthy: AuditReport, broken: AuditReport) -> None:
    joint = healthy.stages[1]
    root = ElementTree.fromstring(draw_graph(joint))
    texts = [element.text for element in root.iter() if element.tag == "text"]
    assert {"backbone", "history", "box", "seg"} <= set(texts)
    norm = next(item.norm for item in joint.edges if str(item.edge) == "box.features -> seg")
    assert f"{norm:.1e}" in texts
    frozen = draw_graph(healthy.stages[0])
    assert "no gradient" in frozen and "stroke-dasharray" in frozen
    assert "#dc2626" in draw_graph(broken.stages[0]), "a missing gradient is red"


def test_the_terminal_shows_matrix_edges_sums_and_boundaries(healthy: AuditReport) -> None:
    shown = printed(render_stage(healthy.stages[1]))
    for words in (
        "seg/dice",
        "history.HIP",
        "box.features -> seg",
        "sum rule",
        "optimizer groups",
        "history:",
    ):
        assert words in shown, words
    assert "box.size_map -> seg" not in shown, "what a head is given and doesn't read isn't listed"
    assert "attention -> candidate elimination" in printed(render_boundaries(healthy))
    assert "a switch" in printed(render_switches(healthy))
    assert str(verdict_line(healthy)).startswith("passed: ")
