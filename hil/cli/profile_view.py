"""How a profile is written down and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from hil.cli.terminal import out, say
from hil.report.figures import number

if TYPE_CHECKING:
    from hil.device.session import EngineInfo, Session
    from hil.measure.result import Measurement


def result_json(
    model: Path,
    session: Session,
    info: EngineInfo,
    measurement: Measurement,
    layers: tuple[tuple[str, float], ...] | None,
) -> dict[str, Any]:
    """Return the object of `hil profile --json`: the measurement, the engine and the board."""
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


def show(result: Mapping[str, Any]) -> None:
    """Print the figures as a table, and what they rest on."""
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
        table.add_row(title, f"{number(value, 4)} {unit}", escape(f"[{low}, {high}]"))
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
    table = Table(title="layers, as the runtime's profiler tells", box=box.SIMPLE_HEAD)
    table.add_column("layer")
    table.add_column("ms", justify="right")
    for layer in layers:
        table.add_row(str(layer["name"]), f"{layer['time_ms']:.4f}")
    out.print(table)
