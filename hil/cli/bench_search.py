"""`hil bench search`: search methods under one budget, on a table of cells or on a device."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.jobs import bench_job
from hil.cli.options import JsonOption
from hil.cli.terminal import out, print_json, say
from hil.core.errors import ConfigError

if TYPE_CHECKING:
    from hil.bench.search import Plan

SEEDS = 10
SEMI_SEEDS = 10
_SAY_EVERY_S = 10.0


def register(app: typer.Typer) -> None:
    """Adds the verb to `hil bench`."""
    app.command("search")(search)


def search(
    table: Annotated[
        Path | None,
        typer.Option(help="Measured and trained cells (.npz): replay them, use no device."),
    ] = None,
    dataset: Annotated[str, typer.Option(help="Prefix of the table's columns.")] = "c10",
    accuracy: Annotated[
        str | None,
        typer.Option(help="Column that training answers from ([dataset]_valid_acc_200ep)."),
    ] = None,
    feasible: Annotated[
        str, typer.Option(help="Shares of cells that shall be feasible, one a level.")
    ] = "0.1,0.3,0.6",
    budget: Annotated[int, typer.Option(min=1, help="Trainings of each search on a table.")] = 100,
    methods: Annotated[
        str | None, typer.Option(help="Methods on a table, by commas (default: all cheap ones).")
    ] = None,
    semi_seeds: Annotated[
        int | None,
        typer.Option(min=0, help="Searches on the semi-synthetic tables (at most 10; 0: none)."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each method.")] = SEEDS,
    jobs: Annotated[int, typer.Option(min=1, max=2, help="Processes on a table.")] = 2,
    device: Annotated[
        str, typer.Option("--device", "-d", help="Device file.")
    ] = "tx2-emulated.yaml",
    profile: Annotated[str, typer.Option("--profile", "-p", help="Profile.")] = "digits.yaml",
    run: Annotated[
        Path, typer.Option(help="Folder for the journal; an existing one is continued.")
    ] = Path("runs/bench-search"),
    as_json: JsonOption = False,
) -> None:
    """Compare the networks that search methods find with the same budget."""
    if table is None:
        result = _on_device(device, profile, seeds, run)
        if as_json:
            print_json(result)
        else:
            out.print({name: value for name, value in result.items() if name != "searches"})
        return
    from hil.bench.search import Plan
    from hil.bench.search_entrants import entrants

    plan = Plan(
        table=table,
        dataset=dataset,
        accuracy=accuracy or f"{dataset}_valid_acc_200ep",
        shares=_shares(feasible),
        entrants=entrants([m.strip() for m in methods.split(",")] if methods else []),
        seeds=seeds,
        semi_seeds=min(seeds, SEMI_SEEDS) if semi_seeds is None else semi_seeds,
        budget=budget,
        jobs=jobs,
        run=run,
    )
    _on_table(plan, as_json)


def _on_table(plan: Plan, as_json: bool) -> None:
    from hil.bench.search import Work, run_bench

    said = time.monotonic()

    def progress(done: int, of: int, last: Work) -> None:
        nonlocal said
        if time.monotonic() - said > _SAY_EVERY_S or done == of:
            said = time.monotonic()
            say(f"{done} of {of} searches; {last.entrant.name} on {last.label}, {last.share:g}")

    result = run_bench(plan, progress)
    if as_json:
        print_json(result)
        return
    _show("measured", result["levels"])
    for label, levels in result["semi_synthetic"].items():
        _show(label, levels)


def _on_device(device: str, profile: str, seeds: int, run: Path) -> dict[str, Any]:
    from hil.synth.benching import searches, summary

    done = []
    with bench_job(device, profile, run) as job:
        for one in searches(job, seeds):
            done.append(one)
            say(f"{one.method}, seed {one.seed}: best U {one.best[-1]}, {one.feasible} feasible")
    return {
        "schema": "hil/bench-search@1",
        "provenance": job.session.provenance,
        "measurements": job.profile.budget.measurements,
        **summary(done),
        "searches": [asdict(one) for one in done],
    }


def _shares(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        shares = ()
    if not shares or not all(0.0 < share <= 1.0 for share in shares):
        raise ConfigError(
            f"--feasible {text} is no list of shares", fix="write it as --feasible 0.1,0.3,0.6"
        )
    return shares


def _show(label: str, levels: dict[str, Any]) -> None:
    from rich.table import Table

    for share, level in levels.items():
        counts = list(next(iter(level["methods"].values()))["regret_at"])
        grid = Table(title=f"{label}, {float(share):.0%} of cells feasible: regret in points")
        for name in ("method", *(f"after {n}" for n in counts), "to 0.5", "to 0.2"):
            grid.add_column(name)
        for name in ("measured", "seconds", "seeds"):
            grid.add_column(name, justify="right")
        for name, row in level["methods"].items():
            regrets = [_figure(row["regret_at"][n]["median"], ".2f") for n in counts]
            reached = [_figure(row["trainings_to"][t]["median"], ".0f") for t in ("0.5", "0.2")]
            spent = (f"{row['measurements']:.0f}", f"{row['seconds']:.1f}", str(row["seeds"]))
            grid.add_row(name, *regrets, *reached, *spent)
        out.print(grid)


def _figure(value: float | None, form: str) -> str:
    return "never" if value is None else format(value, form)
