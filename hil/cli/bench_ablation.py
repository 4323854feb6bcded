"""`hil bench ablation`: the search again with one part of the pair taken out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.jobs import bench_job
from hil.cli.options import JsonOption
from hil.cli.terminal import out, print_json, say


def register(app: typer.Typer) -> None:
    """Adds the verb to `hil bench`."""
    app.command("ablation")(ablation)


def ablation(
    device: Annotated[
        str, typer.Option("--device", "-d", help="Device file.")
    ] = "tx2-emulated.yaml",
    profile: Annotated[str, typer.Option("--profile", "-p", help="Profile.")] = "digits.yaml",
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each variant.")] = 3,
    emit: Annotated[
        int, typer.Option(min=1, help="Seeds that each learned generator is asked for.")
    ] = 59,
    check: Annotated[
        bool, typer.Option("--check", help="Measure and train what the generators make as well.")
    ] = False,
    run: Annotated[
        Path, typer.Option(help="Folder for the journal; an existing one is continued.")
    ] = Path("runs/bench-ablation"),
    as_json: JsonOption = False,
) -> None:
    """Say what each part of the generator-inquisitor pair is for."""
    from hil.synth.ablating import ablations, summary, without_certificate
    from hil.synth.loop import prepare

    done = []
    with bench_job(device, profile, run) as job:
        start = prepare(job)
        for one in ablations(job, start, seeds, emit, checked=check):
            done.append(one)
            say(f"{one.variant}, seed {one.seed}: best U {one.best_u}, {one.emission}")
        result: dict[str, Any] = {
            "schema": "hil/bench-ablation@1",
            "provenance": job.session.provenance,
            "measurements": job.profile.budget.measurements,
            "variants": summary(done),
            "no_certificate": without_certificate(job, start, done),
        }
    if as_json:
        print_json(result)
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    kind = "" if result["provenance"] == "measured" else f"{result['provenance'].upper()}: "
    grid = Table(title=f"{kind}the pair with one part taken out", box=box.SIMPLE_HEAD)
    titles = ("variant", "best U", "against full", "early", "trained", "distinct", "satisfied")
    for name in titles:
        grid.add_column(name)
    for name, row in result["variants"].items():
        best, gap = row["median_best_u"], row["median_u_against_full"]
        early, good = row["mean_early_u_against_full"], row["satisfied_share"]
        grid.add_row(
            name,
            "none" if best is None else f"{best:.2f}",
            "" if gap is None else f"{gap:+.2f}",
            "" if early is None else f"{early:+.2f}",
            f"{row['trainings']:.0f}",
            f"{row['distinct']:.0f} of {row['emission_seeds']} ({row['refused']:.0f} refused)",
            "not looked at" if good is None else f"{100 * good:.0f} %",
        )
    out.print(grid)
    told = result["no_certificate"]
    say(
        f"{kind}of {told['accepted']} networks that one look took for feasible, fresh builds "
        f"refute {told['refuted']}"
    )
