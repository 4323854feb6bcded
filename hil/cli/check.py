"""`hil check`: what a device would refuse of a network, before anything is shipped to it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.network import check_precision
from hil.cli.options import DeviceOption, JsonOption, PrecisionOption, ShapeOption, load_device
from hil.cli.shaping import parse_shapes
from hil.cli.terminal import out, print_json, say
from hil.core.errors import ExportError

if TYPE_CHECKING:
    from hil.net.onnxrules import Finding
    from hil.net.precheck import Target

SCHEMA = "hil/check@1"
ModelArgument = Annotated[Path, typer.Argument(help="The network, an ONNX file.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("check", help="Judge an ONNX network against a device's rules; nothing is sent.")(
        check
    )


def check(
    model: ModelArgument,
    device: DeviceOption,
    precision: PrecisionOption = None,
    shape: ShapeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge an ONNX network against a device's rules; nothing is sent.

    Exits with 6 where the device would refuse the network.
    """
    from hil.net.onnxcheck import read_model
    from hil.net.precheck import Target, precheck

    check_precision(precision)
    config = load_device(device, None)
    target = Target(
        runtime=config.runtime.name,
        opset=config.runtime.opset,
        precision=precision or config.runtime.precision,
        board=config.board,
        offered=config.runtime.offered,
        shapes=parse_shapes(shape or ()),
    )
    data = read_model(model)
    found = precheck(data, target)
    fatal = [one for one in found if one.fatal]
    if as_json:
        print_json(_record(model, data, config.name, target, found))
    else:
        _show(found)
    if fatal:
        raise ExportError(
            f"{config.name} would refuse {model}: {len(fatal)} finding{'s' * (len(fatal) > 1)}",
            why=fatal[0].rule,
            fix=fatal[0].remedy,
        )
    if not as_json:
        say(f"{model}: nothing known keeps {config.name} ({_named(target)}) from taking it")


def _named(target: Target) -> str:
    from hil.device.gpu_runtime import NAMES

    return f"{NAMES[target.runtime]}, opset {target.opset}, {target.precision}"


def _show(found: tuple[Finding, ...]) -> None:
    from rich.table import Table

    if not found:
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", "node", "operator", "rule", "remedy"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(
            "refused" if one.fatal else "note", one.node or "(model)", one.op, one.rule, one.remedy
        )
    out.print(table, highlight=False, markup=False)


def _record(
    model: Path, data: bytes, device: str, target: Target, found: tuple[Finding, ...]
) -> dict[str, Any]:
    from hil.net.onnxcheck import inspect

    return {
        "schema": SCHEMA,
        "model": str(model),
        "sha256": hashlib.sha256(data).hexdigest(),
        "opset": inspect(data).opset,
        "device": device,
        "target": {
            "runtime": target.runtime,
            "opset": target.opset,
            "precision": target.precision,
            "board": target.board,
            "operators_judged": target.has_table,
        },
        "taken": not any(one.fatal for one in found),
        "findings": [
            {
                "node": one.node or None,
                "operator": one.op or None,
                "rule": one.rule,
                "remedy": one.remedy,
                "fatal": one.fatal,
            }
            for one in found
        ],
    }
