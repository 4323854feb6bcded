"""`hil profile`: energy and latency of one network on one board, with the figures' own error."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.options import (
    DeviceOption,
    HostOption,
    JsonOption,
    WaitOption,
    announce_wait,
    load_device,
    owner,
    seconds,
)
from hil.cli.profile_view import result_json, show
from hil.cli.terminal import print_json
from hil.core.errors import ConfigError, ExportError, HostError, MeasurementError

if TYPE_CHECKING:
    from hil.core.evidence import Evidence
    from hil.device.config import DeviceConfig

IDLE_S = 10.0
"""Idle recorded before and after: long enough for the system's bursts, one in about 20 s."""

_SHAPE = re.compile(r"(?P<name>.+)=(?P<sizes>\d+(?:x\d+)*)")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("profile", help="Measure energy and latency of one ONNX network on a board.")(
        profile
    )


def profile(
    model: Annotated[Path, typer.Argument(help="The network, an ONNX file.")],
    device: DeviceOption,
    precision: Annotated[
        str | None, typer.Option(help="fp16 or fp32 (default: the device's).")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Shape of a dynamic input: NAME=1x3x224x224.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also show the time of each layer.")
    ] = False,
    latency_only: Annotated[
        bool, typer.Option("--latency-only", help="Measure no energy (no power source needed).")
    ] = False,
    evidence: Annotated[
        Path | None, typer.Option(help="Keep the raw evidence in this file.")
    ] = None,
    blocks: Annotated[int, typer.Option(min=3, help="Windows measured.")] = 5,
    window: Annotated[str, typer.Option(help="Length of a window, in the board's time.")] = "10s",
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Measure one network on one board."""
    config = load_device(device, host)
    _check_wishes(config, precision, latency_only=latency_only)
    given = _shapes(shape or [])
    data = _checked(model, config, given)
    wishes = _Wishes(
        precision or config.runtime.precision,
        given,
        "none" if latency_only else config.power.source,
        blocks,
        seconds(window),
        layers,
        seconds(wait),
    )
    result, raw = _profiled(model, config, data, wishes)
    if evidence is not None:
        _keep(evidence, raw)
    if as_json:
        print_json(result)
    else:
        show(result)
    if result["validity"] == "invalid":
        reasons = "; ".join(result["reasons"])
        raise MeasurementError("the measurement is invalid", why=reasons, fix="run `hil doctor`")


@dataclass(frozen=True)
class _Wishes:
    """What the person asked for, with the device's defaults filled in."""

    precision: str
    shapes: Mapping[str, tuple[int, ...]]
    power: str
    blocks: int
    window_s: float
    layers: bool
    wait_s: float


def _profiled(
    model: Path, config: DeviceConfig, data: bytes, wishes: _Wishes
) -> tuple[dict[str, Any], Evidence]:
    from hil.core.evidence import RunPlan
    from hil.device.opening import open_session
    from hil.device.session import EngineSpec
    from hil.measure.run import measure

    runtime, power = config.runtime, config.power
    plan = RunPlan(
        IDLE_S, window_s=wishes.window_s, blocks=wishes.blocks, interval_ms=power.interval_ms
    )
    with open_session(
        config, owner=owner("profile"), wait_s=wishes.wait_s, on_wait=announce_wait
    ) as session:
        sha256 = session.put_blob(data)
        info = session.build(
            EngineSpec(sha256, wishes.precision, runtime.name, runtime.workspace_mib, wishes.shapes)
        )
        measurement, raw = measure(session, info, plan, power=wishes.power, rail=power.rail)
        times = session.layers(info) if wishes.layers else None
    return result_json(model, session, info, measurement, times), raw


def _check_wishes(config: DeviceConfig, precision: str | None, *, latency_only: bool) -> None:
    if precision not in (None, "fp16", "fp32"):
        raise ConfigError(f"there is no precision {precision!r}", fix="choose fp16 or fp32")
    if not latency_only and config.power.source == "none":
        raise MeasurementError(
            f"{config.name} has no power source, so there are no joules",
            why="its device file says power: {source: none}",
            fix="name a power source there, or ask for latency alone with --latency-only",
        )


def _keep(path: Path, raw: Evidence) -> None:
    text = json.dumps(raw.to_json()).encode()
    try:
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    except OSError as error:
        raise HostError(f"cannot write the evidence to {path}", why=str(error)) from error


def _checked(model: Path, config: DeviceConfig, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """Read the network and refuse, before the board is touched, what its TensorRT would refuse."""
    from hil.net.onnxcheck import findings, inspect, read_model

    data = read_model(model)
    info = inspect(data)
    unknown = sorted(set(shapes) - {spec.name for spec in info.inputs})
    if unknown:
        raise ConfigError(
            f"{model} has no input {unknown[0]!r}",
            why=f"its inputs are {', '.join(spec.name for spec in info.inputs)}",
        )
    for spec in info.dynamic_inputs:
        if spec.name not in shapes:
            sizes = "x".join(str(s) if s is not None else "?" for s in spec.shape or ())
            raise ConfigError(
                f"the shape of input {spec.name!r} is open ({sizes or 'unknown'})",
                fix=f"give it: --shape {spec.name}=1x3x224x224 (with the right sizes)",
            )
    if config.runtime.name == "tensorrt" and config.runtime.opset <= 13:
        # A board of TensorRT 8.2: its own operator table tells beforehand.
        fatal = [f for f in findings(data) if f.fatal and f.op]
        fatal += [f for f in findings(data) if f.fatal and not f.op and not f.node]
        if fatal:
            first = fatal[0]
            more = f" (and {len(fatal) - 1} more)" if len(fatal) > 1 else ""
            raise ExportError(
                f"TensorRT 8.2 on {config.name} takes no such network: {first.rule}{more}",
                why=f"node {first.node or '(the model)'} {first.op}".strip(),
                fix=first.remedy,
            )
    return data


def _shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for text in given:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ConfigError(f"{text!r} is no shape", fix="write it as NAME=1x3x224x224")
        shapes[match["name"]] = tuple(int(size) for size in match["sizes"].split("x"))
    return shapes
