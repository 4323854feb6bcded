"""`hil generate`: networks from a run's learned generator alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.options import JsonOption
from hil.cli.terminal import out, print_json
from hil.core.errors import NothingFeasibleError


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
    as_json: JsonOption = False,
) -> None:
    """Emit networks from a run's learned generator, screened by prediction, not certified."""
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
