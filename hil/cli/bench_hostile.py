"""`hil bench hostile`: boards with what real ones have wrong, and what `hil` made of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from hil.cli.options import JsonOption, seconds
from hil.cli.terminal import out, print_json, say
from hil.core.errors import LimitViolatedError

if TYPE_CHECKING:
    from hil.bench.hostile_run import Outcome


def register(app: typer.Typer) -> None:
    """Add the command to `hil bench`."""
    app.command("hostile")(hostile)


def hostile(
    seeds: Annotated[int, typer.Option(min=1, help="Boards drawn.")] = 100,
    first: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    each: Annotated[bool, typer.Option("--each", help="Every variant alone instead.")] = False,
    only: Annotated[
        str | None, typer.Option(help="NAME[,NAME] of --list-hostile, each alone, instead.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Boards at a time.")] = 2,
    limit: Annotated[
        str, typer.Option(help="A verb that takes longer hangs; more on a busy machine.")
    ] = "180s",
    bringup: Annotated[
        bool, typer.Option("--bringup/--no-bringup", help="Meet each board briefly as well.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Take a user's path on boards with something wrong; each must end well or say why not."""
    from hil.bench.hostile import each_alone, run_bench
    from hil.bench.hostile import seeds as drawn

    boards = drawn(seeds, first)
    if each or only is not None:
        boards = each_alone(None if only is None else tuple(filter(None, only.split(","))))
    verbs = ("doctor", "bringup") if bringup else ("doctor",)
    result = run_bench(boards, verbs, jobs, _tell, seconds(limit))
    if as_json:
        print_json(result)
    else:
        _show(result)
    if result["good"] < result["boards"]:
        bad = result["boards"] - result["good"]
        raise LimitViolatedError(
            f"{bad} of {result['boards']} boards ended badly",
            fix="each is listed above; hil bench hostile --only NAME runs one variant alone",
        )


def _tell(outcome: Outcome) -> None:
    verdict = outcome.verdict
    mark = "ok  " if verdict.good else "FAIL"
    named = ", ".join(outcome.variants) or "nothing wrong"
    said = "" if verdict.good else f": {verdict.verb}: {verdict.detail[:200]}"
    say(f"{mark} {outcome.label} ({named}) {verdict.kind}, {outcome.wall_s:.0f} s{said}")


def _show(result: Mapping[str, Any]) -> None:
    kinds = [kind for kind, count in result["kinds"].items() if count]
    table = Table(title=f"{result['boards']} EMULATED boards, {result['good']} ended well")
    table.add_column("variant")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for name, counts in result["causes"].items():
        table.add_row(name, *(str(counts.get(kind, "")) for kind in kinds))
    table.add_row("all", *(str(result["kinds"][kind]) for kind in kinds), style="bold")
    out.print(table)
    for failure in result["failures"]:
        named = ", ".join(failure["variants"]) or "nothing wrong"
        out.print(
            f"{failure['board']} ({named}): {failure['kind']} in {failure['verb']}: "
            f"{failure['detail']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
