"""A report as data: headings, tables and pictures, written as a page, as Markdown or as CSV.

Data in, text out. A cell is a number (shown with four digits, written whole to CSV), an interval,
text, or None for what is unknown. Every form says where its figures come from.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from hil.report.figures import number
from hil.report.page import page

Cell = str | float | int | tuple[float, float] | None
DIGITS = 4


@dataclass(frozen=True)
class Section:
    """One part of a report: a sentence or two, a picture, a table, or any of them.

    Attributes:
        columns: headings with their units; the first column names the row.
        text_columns: indices of columns that hold words and not figures.
        picture: shown on the page alone; Markdown and CSV have the table.
        lines: sentences below the heading, one a paragraph.
        folded: whether the page shows the table only when asked.
        digits: significant digits of its figures where people read them.
    """

    title: str
    note: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    text_columns: frozenset[int] = frozenset({0})
    picture: go.Figure | None = None
    lines: Sequence[str] = ()
    folded: bool = False
    digits: int = DIGITS


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        kind: the verb that measured, as "hil profile".
        subject: what on what.
        provenance: measured, emulated or replayed.
        validity: valid, suspect or invalid.
        reasons: why it is not valid.
        facts: lines below the heading.
        cards: (figure, what it is) for those who read nothing else.
    """

    kind: str
    subject: str
    provenance: str
    validity: str | None
    reasons: Sequence[str] = ()
    facts: Sequence[str] = ()
    cards: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = field(default_factory=tuple)


def shown(cell: Cell, digits: int = DIGITS) -> str:
    """Write a cell for people; unknown is a dash, never zero."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, tuple):
        return f"[{number(cell[0], digits)}, {number(cell[1], digits)}]"
    return str(cell) if isinstance(cell, int) else number(cell, digits)


def to_html(document: Document) -> str:
    """Return the page."""
    pictures = {s.title: s.picture for s in document.sections if s.picture is not None}
    return page(
        "document.html.j2", pictures, document=document, shown=shown, provenance=document.provenance
    )


def to_markdown(document: Document) -> str:
    """Return GitHub-flavoured Markdown; names can neither end a cell nor become markup."""
    badge = document.provenance.upper()
    lines = [f"# {_plain(document.kind)}: {_plain(document.subject)}", ""]
    lines += [f"**{badge}**" + (f", {document.validity}" if document.validity else ""), ""]
    lines += [f"- {_plain(f'{document.validity}: {reason}')}" for reason in document.reasons]
    lines += [_plain(fact) + "  " for fact in document.facts]
    for section in document.sections:
        if not section.rows and not section.lines:
            continue
        lines += ["", f"## {_plain(section.title)} ({badge})", ""]
        lines += [text for line in section.lines for text in (_plain(line), "")]
        if section.rows:
            lines += _markdown_table(section)
        if section.note:
            lines += ["", _plain(section.note)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _markdown_table(section: Section) -> list[str]:
    marks = [":--" if i in section.text_columns else "--:" for i in range(len(section.columns))]
    rows = [[_plain(shown(cell, section.digits)) for cell in row] for row in section.rows]
    heads = [_plain(title) for title in section.columns]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, marks, *rows)]
    if not section.folded:
        return lines
    return ["<details><summary>As a table</summary>", "", *lines, "", "</details>"]


def _plain(text: str) -> str:
    for letter in "\\`*_[]<>|":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())


def to_csv(document: Document) -> str:
    """Return one line a figure, with numbers whole: provenance, section, row, column, value.

    An interval takes two lines, its low and its high end; what is unknown has an empty value.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("provenance", "section", "row", "column", "value"))
    for section in document.sections:
        for index, row in enumerate(section.rows, 1):
            name = shown(row[0]) or str(index)
            for title, cell in zip(section.columns[1:], row[1:], strict=True):
                ends = zip((" (low)", " (high)"), cell, strict=True) if isinstance(
                    cell, tuple
                ) else [("", cell)]  # fmt: skip
                for end, value in ends:
                    line = (section.title, name, title + end)
                    writer.writerow((document.provenance, *map(_text, line), _text(value)))
    return out.getvalue()


def _text(value: Any) -> str:
    """Write a value; text that a spreadsheet would run as a formula is quoted for it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
    return repr(value)


def ends(result: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Return an interval of a result as a cell."""
    both = result.get(name)
    return None if not both else (both[0], both[1])
