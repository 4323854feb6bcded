"""`hil bench`: the project's claims about itself, run anew."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hil.cli import bench_emulator, bench_energy, bench_hostile
from hil.cli.options import JsonOption, load_device, owner
from hil.cli.terminal import out, print_json, say

app = typer.Typer(help="Benchmarks that anyone can run.", no_args_is_help=True)
bench_energy.register(app)
bench_emulator.register(app)
bench_hostile.register(app)


@app.callback()
def _group() -> None:
    """Benchmarks that anyone can run."""


@app.command("search")
def search(
    device: Annotated[
        str, typer.Option("--device", "-d", help="Device file.")
    ] = "tx2-emulated.yaml",
    profile: Annotated[str, typer.Option("--profile", "-p", help="Profile.")] = "digits.yaml",
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each method.")] = 10,
    run: Annotated[
        Path, typer.Option(help="Folder for the journal; an existing one is continued.")
    ] = Path("runs/bench-search"),
    as_json: JsonOption = False,
) -> None:
    """Compare the best network that synthesis and random search find with the same budget."""
    from hil.cli.synthesize import job_of, watching
    from hil.device.opening import open_session
    from hil.synth.benching import searches, summary
    from hil.synth.profile import find_profile
    from hil.synth.store import DATABASE, RunStore
    from hil.synth.workbench import use_one_thread

    use_one_thread()
    config, job_profile = load_device(device, None), find_profile(profile, cwd=Path.cwd())
    settings = {"seed": 0, "device": device, "profile": job_profile.name}
    fresh = not (run / DATABASE).exists()
    store = RunStore.create(run, settings) if fresh else RunStore.open(run)
    done = []
    with store, open_session(config, owner=owner("bench")) as session, watching() as watch:
        for one in searches(job_of(job_profile, 0, store, session, watch, config), seeds):
            done.append(one)
            say(f"{one.method}, seed {one.seed}: best U {one.best[-1]}, {one.feasible} feasible")
    result = {
        "schema": "hil/bench-search@1",
        "provenance": session.provenance,
        "measurements": job_profile.budget.measurements,
        **summary(done),
        "searches": [asdict(one) for one in done],
    }
    if as_json:
        print_json(result)
    else:
        shown = {name: value for name, value in result.items() if name != "searches"}
        out.print(shown)
