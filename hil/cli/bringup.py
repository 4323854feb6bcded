"""`hil bringup`: the first contact with a board, and everything that was assumed of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.bringup_view import show, stage_line
from hil.cli.keeping import write_whole
from hil.cli.options import HostOption, JsonOption, load_device, owner, seconds
from hil.cli.terminal import print_json, say
from hil.core.errors import ConfigError, DeviceError, InterruptedRunError

if TYPE_CHECKING:
    from hil.device.bringup import Result


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("bringup", help="Meet a board for the first time: what holds of what we assume.")(
        bringup
    )


def bringup(
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Device file: a path, or a name in ./devices."),
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Replay a contact from its archive, offline.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the report, as JSON, here.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Where the archive goes (default: bringup-NAME.tar.gz).")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Replace the device file by what was found.")
    ] = False,
    max_time: Annotated[str, typer.Option(help="Board time for all stages.")] = "10m",
    host: HostOption = None,
    as_json: JsonOption = False,
) -> None:
    """Meet a board, or replay a meeting."""
    if (device is None) == (from_ is None):
        raise ConfigError("give either --device or --from", fix="hil bringup --device jetson.yaml")
    if from_ is not None:
        _replayed(from_, output, as_json=as_json)
        return
    assert device is not None
    _met(device, host, output, archive, write=write, limit_s=seconds(max_time), as_json=as_json)


def _met(
    device: str,
    host: str | None,
    output: Path | None,
    archive: Path | None,
    *,
    write: bool,
    limit_s: float,
    as_json: bool,
) -> None:
    from dataclasses import replace

    from hil.cli.bringup_work import Telling, meet, secrets_of
    from hil.core.names import resolve
    from hil.device.archive import packed
    from hil.device.bringup import Lengths
    from hil.device.bringup_file import settle
    from hil.device.bringup_report import report

    config = load_device(device, host)
    target = archive or Path(f"bringup-{config.name}.tar.gz")
    began = time.monotonic()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    telling = Telling(lambda stage: say(f"{stage.name} ..."), lambda one: say(stage_line(one)))
    results, contact = meet(config, Lengths(), limit_s, owner("bringup"), telling)
    contact = replace(contact, header=_header(created, time.monotonic() - began))
    secrets = secrets_of(config, contact)
    told = report(results, config, contact.provenance, contact.header, secrets)
    write_whole(target, packed(contact, told, secrets))
    say(f"wrote {target}: redacted, made to be sent; `hil bringup --from {target}` replays it")
    if contact.refusal is None:
        source = resolve(device, "devices", cwd=Path.cwd())
        settled = settle(source, results, write=write, cwd=Path.cwd())
        say(f"wrote {settled.path}" + (", with these changes:" if settled.diff else ", no changes"))
        if settled.diff:
            say(settled.diff)
    _told(told, output, as_json=as_json)
    if contact.ended_in is not None:
        raise InterruptedRunError("interrupted", fix=f"what was collected is in {target}")
    _judge(results, config.name)


def _replayed(path: Path, output: Path | None, *, as_json: bool) -> None:
    from hil.cli.bringup_work import Telling, replay, secrets_of
    from hil.device.archive import unpacked
    from hil.device.bringup_report import report

    contact = unpacked(path)
    results = replay(contact, Telling())
    secrets = secrets_of(contact.device, contact)
    header = {**contact.header, "replayed_from": path.name}
    told = report(results, contact.device, contact.provenance, header, secrets)
    _told(told, output, as_json=as_json)
    _judge(results, contact.device.name)


def _header(created: str, wall_s: float) -> dict[str, Any]:
    from importlib.metadata import version

    return {"created": created, "hil": version("hil"), "wall_s": round(wall_s, 1)}


def _told(told: Mapping[str, Any], output: Path | None, *, as_json: bool) -> None:
    if output is not None:
        write_whole(output, (json.dumps(told, indent=1) + "\n").encode())
    if as_json:
        print_json(told)
    else:
        show(told)


def _judge(results: list[Result], name: str) -> None:
    failed = [result.stage for result in results if result.outcome.status == "failed"]
    if failed:
        raise DeviceError(
            f"{name}: failed stages: {', '.join(failed)}",
            fix="each one's next step is in the table; all others were run",
        )
