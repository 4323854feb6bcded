"""`hil profile`: energy and latency of one network on one board, with the figures' own error."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
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
from hil.cli.terminal import out, print_json, say
from hil.core.errors import ConfigError, ExportError, MeasurementError

if TYPE_CHECKING:
    from hil.core.evidence import Evidence
    from hil.device.config import DeviceConfig
    from hil.device.session import EngineInfo, Session
    from hil.measure.result import Measurement

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
    if precision not in (None, "fp16", "fp32"):
        raise ConfigError(f"there is no precision {precision!r}", fix="choose fp16 or fp32")
    if not latency_only and config.power.source == "none":
        raise MeasurementError(
            f"{config.name} has no power source, so there are no joules",
            why="its device file says power: {source: none}",
            fix="name a power source there, or ask for latency alone with --latency-only",
        )
    data = _checked(model, config, shapes := _shapes(shape or []))
    from hil.core.evidence import RunPlan
    from hil.device.opening import open_session

    plan = RunPlan(
        idle_s=5.0, window_s=seconds(window), blocks=blocks, interval_ms=config.power.interval_ms
    )
    power = "none" if latency_only else config.power.source
    with open_session(
        config, owner=owner("profile"), wait_s=seconds(wait), on_wait=announce_wait
    ) as session:
        info = _build(session, config, data, precision, shapes)
        measurement, raw = _measure(session, info, plan, power, config.power.rail or "none")
        times = session.layers(info) if layers else None
    if evidence is not None:
        text = json.dumps(raw.to_json())
        evidence.write_bytes(
            gzip.compress(text.encode()) if evidence.suffix == ".gz" else text.encode()
        )
    result = _result(model, session, info, measurement, times)
    if as_json:
        print_json(result)
    else:
        _show(result)
    if measurement.validity == "invalid":
        raise MeasurementError(
            "the measurement is invalid", why="; ".join(measurement.reasons), fix="run `hil doctor`"
        )


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


def _build(
    session: Session,
    config: DeviceConfig,
    data: bytes,
    precision: str | None,
    shapes: Mapping[str, tuple[int, ...]],
) -> EngineInfo:
    from hil.device.session import EngineSpec

    return session.build(
        EngineSpec(
            session.put_blob(data),
            precision or config.runtime.precision,
            config.runtime.name,
            config.runtime.workspace_mib,
            shapes,
        )
    )


def _measure(
    session: Session,
    info: EngineInfo,
    plan: Any,
    power: str,
    rail: str,
) -> tuple[Measurement, Evidence]:
    from hil.measure.run import measure

    return measure(session, info, plan, power=power, rail=rail)


def _result(
    model: Path,
    session: Session,
    info: EngineInfo,
    measurement: Measurement,
    layers: tuple[tuple[str, float], ...] | None,
) -> dict[str, Any]:
    board = session.board
    result = {
        **measurement.to_json(),
        "model": str(model),
        "onnx_sha256": info.spec.onnx_sha256,
        "engine_sha256": info.engine_sha256,
        "engine_cached": info.cached,
        "precision": info.spec.precision,
        "runtime": f"{info.spec.runtime} {info.runtime_version}",
        "inputs": [asdict(tensor) for tensor in info.inputs],
        "memory_mib": None
        if info.device_memory_bytes is None
        else info.device_memory_bytes / 2**20,
        "device": session.name,
        "board": {
            "model": board.model,
            "l4t": board.l4t,
            "tensorrt": board.tensorrt,
            "nvpmodel": board.raw.get("nvpmodel"),
        },
    }
    if layers is not None:
        result["layers"] = [{"name": name, "time_ms": time_ms} for name, time_ms in layers]
    return result


_ROWS = (
    ("energy, gross", "energy_mj", "mJ"),
    ("energy, net of idle", "energy_net_mj", "mJ"),
    ("inferences per joule", "inferences_per_joule", "1/J"),
    ("latency p50", "latency_p50_ms", "ms"),
    ("latency p99", "latency_p99_ms", "ms"),
    ("power under load", "power_w", "W"),
    ("power idle", "idle_power_w", "W"),
)


def _show(result: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    from hil.report.figures import number

    label = result["provenance"].upper()
    table = Table(
        title=f"{result['model']} on {result['device']} ({label}, {result['validity']})",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for title, side in (("figure", "left"), ("value", "right"), ("95 % interval", "right")):
        table.add_column(title, justify="right" if side == "right" else "left")
    for title, field, unit in _ROWS:
        value, interval = result[field], result[f"{field}_ci95"]
        if value is None:
            table.add_row(title, "-", f"[dim]{result[f'{field}_reason']}[/]")
            continue
        low, high = (number(end, 4) for end in interval)
        table.add_row(title, f"{number(value, 4)} {unit}", f"[{low}, {high}]".replace("[", r"\["))
    out.print(table)
    if "layers" in result:
        _show_layers(result["layers"])
    say(
        f"{result['runtime']}, {result['precision']}, engine {result['engine_sha256'][:12]}, "
        f"energy as read on {result['rail']}, copies {result['latency_copies']}"
    )
    for reason in result["reasons"]:
        say(f"{result['validity']}: {reason}")


def _show_layers(layers: list[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(title="layers, as the runtime's profiler tells", box=box.SIMPLE_HEAD)
    table.add_column("layer")
    table.add_column("ms", justify="right")
    for layer in layers:
        table.add_row(str(layer["name"]), f"{layer['time_ms']:.4f}")
    out.print(table)
