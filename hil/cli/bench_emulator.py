"""`hil bench emulator`: the emulated TX2 against published measurements of real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.options import JsonOption
from hil.cli.terminal import out, print_json, say
from hil.core.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Adds the verb to `hil bench`."""
    app.command("emulator")(emulator)


def emulator(
    data: Annotated[
        Path | None, typer.Option(help="Folder of real data (HIL_DATA, or ../shared/data).")
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Fit the parameters anew, to rows never evaluated.")
    ] = False,
    table: Annotated[
        Path | None, typer.Option(help="Measured cells (.npz) to evaluate; every row.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Prefix of the table's columns.")] = "c10",
    shape: Annotated[
        str, typer.Option("--input", help="Input of the networks: CxHxW.")
    ] = "3x32x32",
    classes: Annotated[int, typer.Option(min=1, help="Outputs of the networks.")] = 10,
    limit: Annotated[int | None, typer.Option(min=2, help="Evaluate at most so many rows.")] = None,
    check_coverage: Annotated[
        bool, typer.Option("--coverage", help="Check the posterior's 90 % intervals too.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Folder for plots of predicted against measured (SVG).")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="With --fit: store the posterior beside the board.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the emulated TX2's latency and energy with measurements of real boards."""
    from hil.bench.emulator import Plan, compare
    from hil.bench.emulator_rows import data_folder
    from hil.emulator.board import BOARDS

    if write and not fit:
        raise ConfigError("only a fit can be stored", fix="add --fit")
    plan = Plan(
        data=data_folder(data),
        table=table,
        dataset=dataset,
        shape=_shape(shape),
        classes=classes,
        fit=fit,
        limit=limit,
        coverage=check_coverage,
    )
    outcome = compare(plan, say)
    if write and outcome.posterior is not None:
        path = BOARDS / "tx2.posterior.json"
        path.write_text(json.dumps(outcome.posterior, indent=1) + "\n", encoding="utf-8")
        say(f"stored {path}; put its values into tx2.yaml, which is their centre")
    if plot is not None:
        from hil.bench.emulator_plot import write_plots

        for path in write_plots(plot, outcome.points, dataset):
            say(f"drew {path}")
    if as_json:
        print_json(outcome.summary)
    else:
        _show(outcome.summary)


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"{text} is not CxHxW", fix="for example --input 3x32x32")
    channels, height, width = map(int, parts)
    return channels, height, width


def _show(summary: dict[str, Any]) -> None:
    for name in ("latency", "energy", "trivial"):
        out.print(f"{name:8s} {_scores(summary[name])}", highlight=False)
    for part in ("fitted", "held_out"):
        out.print(f"NVIDIA, {part}: {_scores(summary['nvidia'][part])}", highlight=False)
    for row in summary["nvidia"]["of"]:
        out.print(
            f"  {row['name']:28s} {row['published_ms']:8.2f} ms published "
            f"{row['predicted_ms']:8.2f} ms predicted {row['error']:+7.1%}",
            highlight=False,
        )
    for figure, shares in summary.get("coverage", {}).items():
        out.print(
            f"90 % intervals, {figure}: hold {shares['single']:.1%} of rows and "
            f"{shares['ratio']:.1%} of ratios",
            highlight=False,
        )


def _scores(scores: dict[str, Any]) -> str:
    return (
        f"median error {scores['median_ape']:.2%}, 90 % within {scores['p90_ape']:.2%}, "
        f"rank correlation {scores['spearman']:.4f}, {scores['rows']} rows"
    )
