"""`hil bench gate`: how often a gate cries wolf, and how often it misses a true regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from hil.cli.options import JsonOption
from hil.cli.terminal import out, print_json, say
from hil.core.errors import LimitViolatedError


def register(app: typer.Typer) -> None:
    """Add the command to `hil bench`."""
    app.command("gate")(gate)


def gate(
    runs: Annotated[int, typer.Option(min=20, help="Gates simulated for each figure.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge the shipped gate on boards of known truth; minutes for 1,000 gates a figure."""
    from hil.bench.gate import run_bench

    result = run_bench(runs, seed, say)
    if as_json:
        print_json(result)
    else:
        _show(result)
    broken = [promise for promise, kept in result["holds"].items() if not kept]
    if broken:
        raise LimitViolatedError("the gate does not hold what it promises", why="; ".join(broken))


def _show(result: Mapping[str, Any]) -> None:
    table = Table(
        title=f"{result['runs']} gates a figure (a quarter of that for several networks), "
        f"margin {result['margin']:.0%}, seed {result['seed']}"
    )
    columns = ("world", "networks", "true ratio", "violated", "inconclusive", "passed", "rounds")
    for column in columns:
        table.add_column(column, justify="left" if column == "world" else "right")
    for row in result["rows"]:
        low, high = row["violated_ci95"]
        table.add_row(
            row["world"],
            str(row["networks"]),
            f"{row['ratio']:.2f}",
            f"{100 * row['violated']:.2f} % [{100 * low:.2f}, {100 * high:.2f}]",
            f"{100 * row['inconclusive']:.1f} %",
            f"{100 * row['passed']:.1f} %",
            f"{row['mean_rounds']:.1f}",
        )
    out.print(table)
    cut = ", ".join(f"{name}: {count}" for name, count in result["truncated"]["outcomes"].items())
    out.print(f"truncated traces, {result['truncated']['runs']} gates: {cut}")
    for promise, kept in result["holds"].items():
        out.print(f"{'holds' if kept else 'DOES NOT HOLD'}: {promise}")
