"""`hil bench certificate`: how often a false certificate is given, and a true one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from hil.cli.options import JsonOption
from hil.cli.terminal import out, print_json, say


def register(app: typer.Typer) -> None:
    """Add the command to `hil bench`."""
    app.command("certificate")(certificate)


def certificate(
    runs: Annotated[int, typer.Option(min=100, help="Sessions simulated for each figure.")] = 10000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge certificates on boards of known truth; minutes for 10,000 runs."""
    from hil.bench.certificate import run_bench

    result = run_bench(runs, seed, say)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _show(result: Mapping[str, Any]) -> None:
    rows = result["worlds"]
    false = [f"false at {float(t):.0%}" for t in rows[0]["false"]]
    power = [f"true at {float(t):.0%}" for t in rows[0]["power"]]
    table = Table(
        title=f"{result['runs']} runs a figure, seed {result['seed']}, alpha {result['alpha']:.0%} "
        f"over {result['finalists']} finalists, looks after {result['looks']} builds",
    )
    for column in ("world", "limit", "naive", *false, "one alone", *power, "builds at 97%"):
        table.add_column(column, justify="left" if column in ("world", "limit") else "right")
    for row in rows:
        table.add_row(
            row["world"] if row["within"] else f"{row['world']} (not claimed)",
            row["limit"],
            _percent(row["naive"]),
            *(_percent(v, 2) for v in row["false"].values()),
            _percent(row["false_single"]["1"], 2),
            *(_percent(v) for v in row["power"].values()),
            f"{row['builds']['0.97']:.1f}",
        )
    out.print(table)
    out.print(
        f"worst where it is claimed to hold: {_percent(result['worst_false_within'], 2)} false "
        f"(a standard error at alpha is {_percent(result['standard_error_at_alpha'], 2)})"
    )
    for kept, share in result["requirements"].items():
        out.print(
            f"two limits, one broken, the other kept at {float(kept):.0%}: {_percent(share, 2)}"
        )
    shared = result["sharing"]
    for kind in ("absolute", "relative"):
        for policy, told in shared[kind].items():
            out.print(
                f"{kind} limit, {policy}: best after {told['mean_minutes_to_best']:.1f} board "
                f"minutes, all decided after {told['mean_minutes_in_all']:.1f}; a certificate in "
                f"{_percent(told['with_a_certificate'])} of {shared['runs']} runs, a false one in "
                f"{_percent(told['with_a_false_one'])}"
            )


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"
