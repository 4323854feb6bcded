"""What a person sees of a first contact: a table of stages, then every assumption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from hil.cli.terminal import out

_COLOURS = {
    "ok": "green",
    "holds": "green",
    "differs": "yellow",
    "unknown": "dim",
    "skipped": "dim",
    "failed": "bold red",
}


def show(report: Mapping[str, Any]) -> None:
    """Print the report."""
    label = str(report["provenance"]).upper()
    out.print(_stages(report, label))
    out.print(_assumptions(report, label))


def stage_line(result: Any) -> str:
    """Return one line about a stage that is over."""
    return f"{result.outcome.status:8}{result.stage}: {result.outcome.summary}"


def _stages(report: Mapping[str, Any], label: str) -> Table:
    counts = ", ".join(f"{count} {name}" for name, count in report["counts"].items())
    title = f"{report['device']} ({label}): {counts}; {report['board_s']:.0f} s of board time"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("stage", "", "found", "next"):
        table.add_column(name, overflow="fold")
    for row in report["stages"]:
        status = row["status"]
        table.add_row(
            escape(row["stage"]),
            f"[{_COLOURS[status]}]{status}[/]",
            escape(row["summary"]),
            escape(row["next_step"] or ""),
        )
    return table


def _assumptions(report: Mapping[str, Any], label: str) -> Table:
    counts = ", ".join(f"{count} {name}" for name, count in report["verdicts"].items())
    title = f"What was assumed of boards ({label}): {counts}"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("assumed", "measured", "", "consequence"):
        table.add_column(name, overflow="fold")
    for row in report["assumptions"]:
        verdict = row["verdict"]
        table.add_row(
            f"{escape(row['assumed'])} [dim]{escape(row['id'])}[/]",
            escape(row["measured"]),
            f"[{_COLOURS[verdict]}]{verdict}[/]",
            escape(row["consequence"]),
        )
    return table
