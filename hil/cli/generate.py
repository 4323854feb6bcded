"""`hil generate`: networks from a run's learned generator alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.jobs import job_on
from hil.cli.options import HostOption, JsonOption, WaitOption, load_device, seconds
from hil.cli.terminal import out, print_json, say
from hil.core.errors import ConfigError, NothingFeasibleError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("generate", help="Emit networks from a run's learned generator, seed by seed.")(
        generate
    )


def generate(
    run: Annotated[Path, typer.Option(help="Folder of a finished run.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 16,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write each network's ONNX file here.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Also measure every network on the run's device and train what fits."
        ),
    ] = False,
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Emit networks from a run's learned generator, screened by prediction, not certified."""
    if check:
        if output is not None:
            raise ConfigError(
                "--check writes no files", fix="run it once more without --check for --output"
            )
        _check(run, range(first, first + seeds), host, seconds(wait), as_json=as_json)
        return
    from hil.synth.emitting import Emitter

    emitter = Emitter.open(run)
    rows: list[dict[str, Any]] = []
    for seed in range(first, first + seeds):
        try:
            rows.append(emitter.emit(seed))
        except NothingFeasibleError as error:
            rows.append({"seed": seed, "refused": str(error)})
            continue
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            file = output / f"seed-{seed}-{rows[-1]['key'][:6]}.onnx"
            file.write_bytes(emitter.onnx(rows[-1]["architecture"]))
    emitted = [row for row in rows if "key" in row]
    summary = {
        "schema": "hil/emission@1",
        "run": str(run),
        "seeds": seeds,
        "emitted": len(emitted),
        "distinct": len({row["key"] for row in emitted}),
        "networks": rows,
    }
    if as_json:
        print_json(summary)
    else:
        _show(summary)
    if not emitted:
        raise NothingFeasibleError(
            "the generator knows no network that fits", fix="loosen a limit and search again"
        )


def _check(run: Path, seeds: range, host: str | None, wait_s: float, *, as_json: bool) -> None:
    result = checked(run, seeds, host, wait_s)
    if as_json:
        print_json(result)
    else:
        _show_check(result)
    if not result["satisfied"]:
        raise NothingFeasibleError(
            "no network that the generator emitted meets every requirement",
            fix="loosen a limit, or search longer (budget.measurements)",
        )


def checked(run: Path, seeds: range, host: str | None, wait_s: float) -> dict[str, Any]:
    """Emit from the saved generator alone, then measure and train what it emitted."""
    from hil.cli.synthesize import GENERATOR, RESULT
    from hil.synth.emission_check import check, check_json, emissions
    from hil.synth.generator import Generator
    from hil.synth.loop import prepare
    from hil.synth.profile import load_run_profile
    from hil.synth.store import RunStore

    for name in (GENERATOR, RESULT):
        if not (run / name).is_file():
            raise ConfigError(
                f"the run at {run} has no {name}: it has not ended yet",
                fix=f"finish it with: hil synthesize --resume {run}",
            )
    searched = json.loads((run / RESULT).read_text(encoding="utf-8"))["search"]
    with RunStore.open(run) as store:
        profile = load_run_profile(run, store.meta)
        config = load_device(store.meta["device"], host)
        with job_on(profile, config, store, verb="generate", wait_s=wait_s) as job:
            start = prepare(job)
            space = start.screening.bench.search_space
            generator = Generator.from_json((run / GENERATOR).read_text(encoding="utf-8"), space)
            emitted = emissions(generator, seeds)
            found = check(job, start, emitted)
            proposed = [tuple(row["architecture"]) for row in searched]
            return {
                "schema": "hil/emission-check@1",
                "run": str(run),
                "device": job.session.name,
                "provenance": job.session.provenance,
                "first_seed": seeds.start,
                **check_json(space, emitted, found, proposed),
            }


def _show_check(result: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    kind = "" if result["provenance"] == "measured" else f"{result['provenance'].upper()}: "
    table = Table(title=f"{kind}emitted and checked, not certified", box=box.SIMPLE_HEAD)
    for title in ("seed", "network", "energy mJ", "p99 ms", "accuracy %", "verdict"):
        table.add_column(title)
    for row in result["networks"]:
        figures = [row.get(name) for name in ("energy_mj", "latency_p99_ms", "accuracy")]
        shown = ["" if value is None else f"{value:.4g}" for value in figures]
        table.add_row(str(row["seed"]), row.get("key", "")[-6:], *shown, row["verdict"])
    out.print(table)
    low, high = (f"{100 * end:.1f}" for end in result["satisfied_share_ci95"])
    gap = result["distance"]
    say(
        f"{kind}{result['satisfied']} of {result['seeds']} seeds gave a network that meets every "
        f"requirement ({low} to {high} %); {result['refused']} were refused, "
        f"{result['distinct_feasible']} different networks fit, "
        f"{result['feasible_never_proposed']} of them never proposed by the search"
    )
    if gap is not None:
        say(
            f"two different networks differ in {gap['mean']:.1f} of {gap['variables']:.0f} choices "
            f"on average (least {gap['least']:.0f}, most {gap['most']:.0f})"
        )


def _show(summary: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title="emitted, screened by prediction, not certified", box=box.SIMPLE_HEAD)
    for title in ("seed", "network", "MACs M", "params k", "predicted", "changes"):
        table.add_column(title)
    for row in summary["networks"]:
        if "refused" in row:
            table.add_row(str(row["seed"]), "refused", "", "", "", row["refused"])
            continue
        predicted = ", ".join(f"{m} {v:.4g}" for m, v in row["predicted"].items())
        table.add_row(
            str(row["seed"]),
            row["key"][:6],
            f"{row['macs'] / 1e6:.3f}",
            f"{row['parameters'] / 1e3:.1f}",
            predicted,
            "; ".join(row["changes"]) or "none",
        )
    out.print(table)
    out.print(
        f"{summary['emitted']} of {summary['seeds']} seeds emitted, {summary['distinct']} distinct"
    )
