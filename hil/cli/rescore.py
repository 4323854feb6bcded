"""`hil rescore`: any result again from its raw evidence, and which figures changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from hil.cli.options import JsonOption
from hil.cli.rescoring import Rescored, rescored
from hil.cli.terminal import out, print_json, say
from hil.core.errors import HilError
from hil.report.figures import number

SCHEMA = "hil/rescored@1"
SHOWN_MOST = 40


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("rescore", help="Recompute a result from its raw evidence.")(rescore)


def rescore(
    what: Annotated[
        Path, typer.Argument(help="Evidence file, folder of a result, or folder of a run.")
    ],
    rail: Annotated[
        str | None, typer.Option(help="Read energy on this rail instead of the stored one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute a result from the raw evidence behind it."""
    results = rescored(what, rail)
    if as_json:
        print_json({"schema": SCHEMA, "source": str(what), "results": [_json(r) for r in results]})
    else:
        for one in results:
            _show(one, many=len(results) > 1)
        _summary(results)
    failed = [one.error for one in results if one.error is not None]
    if failed:
        raise failed[0]


def _json(one: Rescored) -> dict[str, Any]:
    return {
        "name": one.name,
        "rail": one.rail,
        "compared_with_stored": one.stored is not None,
        "changes": [
            {"figure": c.figure, "old": c.old, "new": c.new, "relative": c.relative}
            for c in one.changes
        ],
        "result": one.result,
        "error": None if one.error is None else _told(one.error),
    }


def _told(error: HilError) -> dict[str, Any]:
    return {"what": error.what, "why": error.why, "fix": error.fix}


def _show(one: Rescored, *, many: bool) -> None:
    if one.error is not None:
        out.print(f"{escape(one.name)}: [red]{escape(one.error.what)}[/]", soft_wrap=True)
        return
    if many:
        if one.changes:
            out.print(_changes_table(one))
        return
    assert one.result is not None
    _show_result(one.result, one)
    if one.stored is None:
        say("no stored result beside it: these are the figures alone")
    elif one.changes:
        out.print(_changes_table(one))
    else:
        say("every figure is what the stored result says")


def _show_result(result: Mapping[str, Any], one: Rescored) -> None:
    from hil.cli.compare_view import ratios_table
    from hil.cli.profile_view import COLOURS, figures_table, notes

    label, validity = str(result["provenance"]).upper(), result["validity"]
    out.print(
        f"[bold]{label}[/] [{COLOURS[validity]}]{validity.upper()}[/] {escape(one.name)}",
        soft_wrap=True,
    )
    out.print(figures_table(result) if "blocks" in result else ratios_table(result))
    for line in notes({**result, "calibration": None}):
        out.print(line, soft_wrap=True, highlight=False)


def _changes_table(one: Rescored) -> Table:
    table = Table(
        title=f"{one.name}: what changed", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    for title in ("figure", "stored", "now", "change"):
        table.add_column(title, justify="left" if title == "figure" else "right")
    for change in one.changes[:SHOWN_MOST]:
        relative = "" if change.relative is None else f"{100 * change.relative:+.3g} %"
        table.add_row(change.figure, _text(change.old), _text(change.new), relative)
    if len(one.changes) > SHOWN_MOST:
        table.add_row(f"and {len(one.changes) - SHOWN_MOST} more (--json has them)", "", "", "")
    return table


def _text(value: object) -> str:
    if isinstance(value, float):
        return number(value, 6)
    return "-" if value is None else escape(str(value))


def _summary(results: tuple[Rescored, ...]) -> None:
    if len(results) < 2:
        return
    changed = sum(bool(one.changes) for one in results)
    failed = sum(one.error is not None for one in results)
    told = f"{len(results)} results rescored: {len(results) - changed - failed} the same"
    say(f"{told}, {changed} changed, {failed} failed")
