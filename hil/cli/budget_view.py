"""`--explain-energy`: where the error of a joule comes from, and what would shrink it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from hil.cli.terminal import out
from hil.report.figures import number

UNITS = {"energy_mj": "mJ", "energy_net_mj": "mJ", "power_w": "W", "inferences_per_joule": "1/J"}


LEAST_SHOWN = 1e-5
"""Relative half widths below this are shown as such, not with their many zeros."""


def show_budget(result: Mapping[str, Any]) -> None:
    """Print the error budget of each figure that has one, biggest term first."""
    terms = result.get("error_budget") or ()
    notes = list(dict.fromkeys(term["source"] for term in terms if term["source"]))
    for figure in dict.fromkeys(term["figure"] for term in terms):
        mine = [term for term in terms if term["figure"] == figure]
        out.print(_table(figure, result.get(figure), mine, notes))
        _both_intervals(figure, result)
    for count, note in enumerate(notes, 1):
        out.print(escape(f"  ({count}) {note}"), style="dim", highlight=False)


def _table(
    figure: str, value: float | None, terms: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> Table:
    unit = UNITS.get(figure, "")
    shown = "" if value is None else f" = {number(value, 4)} {unit}"
    table = Table(
        title=f"error budget of {figure}{shown} (half widths, 95 %)",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    table.add_column("term")
    table.add_column(f"± {unit}".strip(), justify="right", no_wrap=True)
    table.add_column("relative", justify="right", no_wrap=True)
    table.add_column("share of variance", justify="right", overflow="fold")
    table.add_column("from", justify="right")
    table.add_column("what shrinks it", overflow="fold")
    for term in sorted(terms, key=lambda term: -(term["half_width"] or 0.0)):
        half, share = term["half_width"], term["share"]
        table.add_row(
            escape(term["name"]),
            *_size(half, value),
            _held(term) if share is None else f"{share:.0%}",
            f"({notes.index(term['source']) + 1})" if term["source"] else "",
            escape(term["reducible_by"] or ""),
        )
    return table


def _size(half: float | None, value: float | None) -> tuple[str, str]:
    """Return a half width, and the same relative to its figure."""
    if half is None:
        return "unknown", ""
    if half == 0 or not value:
        return f"{half:.3g}", ""
    relative = half / abs(value)
    if relative < LEAST_SHOWN:
        return f"< {LEAST_SHOWN * abs(value):.1g}", f"< {100 * LEAST_SHOWN:g} %"
    return f"{half:.3g}", f"{100 * relative:.2g} %"


def _both_intervals(figure: str, result: Mapping[str, Any]) -> None:
    """Say once more, in words, what either interval means."""
    for field, meaning in (
        ("ci95", f"as read on {result.get('rail')}: a repetition lands in it"),
        ("u95_total", "in all: the truth lies in it, if the stated sensor tolerances hold"),
    ):
        ends = result.get(f"{figure}_{field}")
        if ends:
            low, high = (number(end, 4) for end in ends)
            out.print(escape(f"  [{low}, {high}] {meaning}"), highlight=False, soft_wrap=True)


def _held(term: Mapping[str, Any]) -> str:
    """Say why a term has no share of its own."""
    part_of = term.get("part_of") or ""
    return escape(part_of if " " in part_of or not part_of else f"held by {part_of}")
