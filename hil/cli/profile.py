"""`hil profile`: energy and latency of one network on one board, with the figures' own error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.calibrating import CalibrateOption, MethodOption
from hil.cli.network import check_precision
from hil.cli.options import (
    BatchOption,
    DeviceOption,
    HostOption,
    JsonOption,
    KeepOption,
    LatencyOnlyOption,
    LimitOption,
    MaxTimeOption,
    PrecisionOption,
    ShapeOption,
    WaitOption,
    fraction,
    load_device,
    read_limits,
    seconds,
)
from hil.cli.profile_run import Asked, ProfileRun, conclude
from hil.cli.profile_work import Wishes
from hil.cli.shaping import RangeOption

ModelArgument = Annotated[Path, typer.Argument(help="The network, an ONNX file.")]
TargetOption = Annotated[
    str | None,
    typer.Option(help="Measure until the energy's 95 % interval is this tight (default: 1%)."),
]
BlocksOption = Annotated[
    int | None, typer.Option(min=3, help="Measure exactly so many windows instead.")
]
WindowOption = Annotated[
    str | None,
    typer.Option(help="Length of a window, in the board's time (2.5s; 5s with --blocks)."),
]
RateOption = Annotated[
    float | None, typer.Option(min=0.01, help="Start so many inferences a second, paced.")
]
BuildsOption = Annotated[int, typer.Option(min=1, help="Engines built anew and measured.")]
SweepOption = Annotated[
    list[str] | None,
    typer.Option(help="Operating points: nvpmodel=0,2,3; also rate=15,30, precision=fp16,int8."),
]
ReferenceOption = Annotated[
    Path | None, typer.Option(help="A network measured in between; its drift is divided out.")
]
ExplainOption = Annotated[
    bool, typer.Option("--explain-energy", help="Show where the energy's error comes from.")
]
LayersOption = Annotated[bool, typer.Option("--layers", help="Also the time of each layer.")]
TrtexecOption = Annotated[
    bool, typer.Option("--trtexec", help="Set the board's trtexec beside our latency.")
]
EvidenceOption = Annotated[
    Path | None, typer.Option(help="Also write the raw evidence to this file.")
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("profile", help="Measure energy and latency of one ONNX network on a board.")(
        profile
    )


def profile(
    model: ModelArgument,
    device: DeviceOption,
    precision: PrecisionOption = None,
    calibrate: CalibrateOption = None,
    calibration_method: MethodOption = "minmax",
    shape: ShapeOption = None,
    shapes: RangeOption = None,
    batch: BatchOption = None,
    target_ci: TargetOption = None,
    limit: LimitOption = None,
    max_time: MaxTimeOption = "600s",
    blocks: BlocksOption = None,
    window: WindowOption = None,
    rate: RateOption = None,
    builds: BuildsOption = 1,
    sweep: SweepOption = None,
    reference: ReferenceOption = None,
    explain_energy: ExplainOption = False,
    layers: LayersOption = False,
    trtexec: TrtexecOption = False,
    latency_only: LatencyOnlyOption = False,
    evidence: EvidenceOption = None,
    keep: KeepOption = True,
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Measure one network on one board."""
    limits = read_limits(limit or ())
    check_precision(precision)
    asked = Asked(
        model, tuple(shape or ()), batch, builds, tuple(sweep or ()), reference, evidence,
        calibrate=calibrate, method=calibration_method,
        ranges=tuple(shapes or ()),
        latency_only=latency_only, explain=explain_energy, keep=keep, as_json=as_json,
    )  # fmt: skip
    given = target_ci or ("1%" if not limits and blocks is None else None)
    wishes = Wishes(
        precision=precision,
        blocks=blocks,
        target=None if given is None else fraction(given, "--target-ci"),
        limits=limits,
        max_time_s=seconds(max_time),
        window_s=seconds(window or ("2.5s" if blocks is None else "5s")),
        rate_hz=rate,
        layers=layers,
        trtexec=trtexec,
    )
    asked.check(wishes)
    config = load_device(device, host)
    result = ProfileRun(device, config, wishes, asked, seconds(wait)).go()
    conclude(result, target_asked=target_ci is not None)
