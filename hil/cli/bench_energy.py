"""`hil bench energy`: our energy measurement against boards whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from hil.cli.options import JsonOption
from hil.cli.terminal import out, print_json, say

HEADLINE = (
    "bias_fraction",
    "coverage",
    "coverage_valid",
    "u95_coverage",
    "net_coverage",
    "valid_fraction",
    "refused_fraction",
    "decision_time_ratio",
    "decision_window_ratio",
    "decision_board_ratio",
    "wrong_decisions",
    "undecided",
)
COLUMNS = (
    "accepted",
    "valid_fraction",
    "bias_fraction",
    "coverage",
    "u95_coverage",
    "median_abs_error",
    "median_half_width",
    "mean_window_s",
)
PEER_COLUMNS = ("bias_fraction", "coverage", "median_abs_error", "wrong_decisions")
TELL_EACH = 500


def register(app: typer.Typer) -> None:
    """Add the command to `hil bench`."""
    app.command("energy")(energy)


def energy(
    scenarios: Annotated[int, typer.Option(min=1, help="Boards with known truth.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Measure boards of known truth, and as others would have; minutes for 5,000."""
    from hil.bench.energy import run_bench

    def tell(done: int) -> None:
        if done % TELL_EACH == 0 or done == scenarios:
            say(f"{done} of {scenarios} scenarios")

    result = run_bench(scenarios, seed, jobs, tell)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _show(result: Mapping[str, Any]) -> None:
    head = Table(title=f"{result['scenarios']} scenarios, seed {result['seed']}")
    head.add_column("figure")
    head.add_column("value", justify="right")
    for name in HEADLINE:
        head.add_row(name, _text(result[name]))
    for name in ("coverage_worst_stratum", "u95_coverage_worst_stratum", "bias_worst_stratum"):
        worst = result[name]
        head.add_row(name, f"{_text(worst['value'])} ({worst['stratum']}, {worst['of']})")
    out.print(head)
    out.print(_rows("strata", result["strata"], COLUMNS))
    out.print(_rows("peers", result["peers"], PEER_COLUMNS))
    for name, ratios in result["error_ratio"].items():
        out.print(f"error of {name} over ours: {_ratios(ratios)}")
    logs = result["real_logs"]
    out.print(
        logs.get("reason")
        or f"real logs: {logs['steady_halves_agree']:.0%} of {logs['steady_halves']} halves and "
        f"{logs['steady_neighbours_agree']:.0%} of {logs['steady_neighbours']} neighbours agree"
    )


def _rows(title: str, rows: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for name, row in rows.items():
        table.add_row(name, *(_text(row.get(column)) for column in columns))
    return table


def _ratios(ratios: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{name} {value:.2f}" for name, value in ratios.items() if value and "theirs" not in name
    )


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
