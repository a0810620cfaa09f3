"""HTML pages that need nothing else: one file, no script or picture from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1f2933; margin: 2rem auto; max-width: 1500px;
padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.2rem } h3 { font-size: 1rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: 12px }
th { font-weight: 600; text-align: left; padding: 2px 8px; white-space: nowrap }
td { padding: 2px 6px; text-align: right; border: 1px solid #fff; white-space: nowrap }
.plain td, .plain th { border: 1px solid #e4e7eb; text-align: left } code { font-size: 12px }
.numbers td, .numbers th { border-bottom: 1px solid #e4e7eb; font-variant-numeric: tabular-nums }
.numbers thead th { position: sticky; top: 0; background: #f4f6f8; text-align: right }
.numbers thead th:first-child { text-align: left } .numbers tbody tr:hover { background: #f4f6f8 }
.numbers td.best { font-weight: 700 } .numbers td.words { text-align: left }
.numbers td.bar { background: linear-gradient(90deg, #cfe3f3 var(--share), transparent var(--share)) }
th button { all: unset; cursor: pointer } th button:focus-visible { outline: 2px solid #0072b2 }
th[aria-sort] button::after { content: " \\25b2" }
th[aria-sort="descending"] button::after { content: " \\25bc" }
figure { margin: 0 } figcaption { font-size: 12px; color: #52606d } img { max-width: 100%; height: auto }
.grid { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start }
summary { cursor: pointer; font-weight: 600; margin: 10px 0 6px }
"""

SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "descending" ||
      (!head.hasAttribute("aria-sort") && column === 0);
    const sign = down ? 1 : -1;
    const key = row => {
      const cell = row.cells[column], value = cell.dataset.value;
      return value === undefined ? cell.textContent : value === "" ? NaN : Number(value);
    };
    const order = (a, b) => {
      const x = key(a), y = key(b);
      if (typeof x === "string") return sign * x.localeCompare(y, undefined, {numeric: true});
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    };
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "ascending" : "descending");
    body.append(...[...body.rows].sort(order));
  }));
}
for (const field of document.querySelectorAll("input[data-filter]")) {
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of document.getElementById(field.dataset.filter).querySelectorAll("tbody tr")) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    }
  });
}
"""
"""A click on a heading of a `sortable` table sorts by it, numbers with the highest first, NaN last; a field
with `data-filter` hides the rows of that element whose first cell lacks what is typed."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what is shown.
        value: what is sorted by, None for the text.
        kind: CSS classes.
        share: of the cell that a bar fills, in [0, 1], or None.
        tip: shown when the pointer rests on it.
    """

    text: str
    value: float | None = None
    kind: str = ""
    share: float | None = None
    tip: str = ""


def page(title: str, body: Iterable[str], style: str = "", script: str = "") -> str:
    """Return a whole page; browsers are told to fetch nothing for it.

    Args:
        title: plain text.
        body: parts in HTML.
        style: CSS behind the common one.
        script: JavaScript that runs at the end.
    """
    inside = f"<script>{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n"
        + "\n".join(body)
        + f"\n{inside}</body></html>\n"
    )


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | Cell]],
    kind: str = "plain",
    *,
    sortable: bool = False,
) -> str:
    """Return a table; texts are escaped.

    Args:
        header: of the columns.
        rows: cells; plain text stands for a cell without more.
        kind: CSS classes: `plain`, or `numbers` (aligned to the right, the first cell a row's heading).
        sortable: by clicks on the headings, with the script `SORTING`.
    """
    begin, end = ('<button type="button">', "</button>") if sortable else ("", "")
    head = "".join(f"<th>{begin}{escape(text)}{end}</th>" for text in header)
    body = "".join(f"<tr>{''.join(_cells(row, kind))}</tr>\n" for row in rows)
    classes = f"{kind} sortable" if sortable else kind
    return f'<table class="{classes}"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'


def _cells(row: Sequence[str | Cell], kind: str) -> Iterable[str]:
    for index, item in enumerate(row):
        cell = item if isinstance(item, Cell) else Cell(item)
        name = "th" if index == 0 and "numbers" in kind else "td"
        classes = " ".join(filter(None, (cell.kind, "bar" if cell.share is not None else "")))
        facts = {
            "class": classes,
            "title": cell.tip,
            "style": "" if cell.share is None else f"--share:{100 * cell.share:.1f}%",
        }
        given = "".join(f' {key}="{escape(value)}"' for key, value in facts.items() if value)
        if cell.value is not None:  # NaN, which sorts last, is an empty value
            given += f' data-value="{cell.value:.6g}"' if cell.value == cell.value else ' data-value=""'
        yield f"<{name}{given}>{escape(cell.text)}</{name}>"


def picture(data: bytes, kind: str, caption: str, *, width: int | None = None) -> str:
    """Return a picture that is part of the page.

    Args:
        data: the file's content.
        kind: "png" or "jpeg".
        caption: below it, and read out where it can't be seen.
        width: in CSS pixels.
    """
    coded = base64.b64encode(data).decode("ascii")
    size = "" if width is None else f' width="{width}"'
    text = escape(caption)
    return (
        f'<figure><img{size} alt="{text}" src="data:image/{kind};base64,{coded}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
