"""`hil export`: networks as files to take away: those of a run, or one as ONNX and as an engine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.calibrating import CalibrateOption, MethodOption, PrecisionWish
from hil.cli.options import PrecisionOption, ShapeOption
from hil.cli.report import read_result
from hil.cli.terminal import say
from hil.core.errors import ConfigError

WhatArgument = Annotated[
    str,
    typer.Argument(help="A run's folder; or a network: an ONNX file, or module:function."),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder to write a run's networks into.")
]
OnnxOption = Annotated[Path | None, typer.Option(help="Write the network to this ONNX file.")]
EngineOption = Annotated[
    Path | None,
    typer.Option("--tensorrt", help="Build an engine for this machine's own GPU into this file."),
]
OpsetOption = Annotated[int, typer.Option(min=9, help="Opset of an ONNX file made from torch.")]
OpenOption = Annotated[
    bool, typer.Option("--open-batch", help="Leave the batch open (from torch).")
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export", help="Write a run's networks, or one network as ONNX and as an engine.")(
        export
    )


def export(
    what: WhatArgument,
    output: OutputOption = None,
    onnx: OnnxOption = None,
    tensorrt: EngineOption = None,
    precision: PrecisionOption = None,
    calibrate: CalibrateOption = None,
    calibration_method: MethodOption = "minmax",
    shape: ShapeOption = None,
    opset: OpsetOption = 13,
    open_batch: OpenOption = False,
) -> None:
    """Write a run's networks, or one network as ONNX and as an engine."""
    if onnx is None and tensorrt is None:
        if output is None:
            raise ConfigError(
                "nothing says what to write",
                fix="give --output DIR for a run, --onnx FILE or --tensorrt FILE for a network",
            )
        _export_run(Path(what), output)
        return
    if output is not None:
        raise ConfigError(
            "--output is for the networks of a run",
            fix="leave it out, or give it alone with a run's folder",
        )
    from hil.cli.export_model import Wanted, export_model

    wish = PrecisionWish((precision,), calibrate, calibration_method)
    wanted = Wanted(what, onnx, tensorrt, wish, tuple(shape or ()), opset, open_batch)
    for place in export_model(wanted):
        say(f"wrote {place}")


def _export_run(run: Path, output: Path) -> None:
    from hil.cli.artifacts import write_networks, write_report
    from hil.synth.store import RunStore

    with RunStore.open(run, write=False) as store:
        kept = read_result(run)
        output.mkdir(parents=True, exist_ok=True)
        for place in write_networks(store, kept["result"], output):
            say(f"wrote {place}")
        shutil.copyfile(run / "generator.json", output / "generator.json")
        write_report(store, kept["result"], kept["search"], output / "report.html")
    say(f"wrote {output / 'generator.json'} and {output / 'report.html'}")
