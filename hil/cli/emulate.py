"""`hil emulate`: an emulated board to log in to, until Ctrl-C."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.terminal import out, say
from hil.core.errors import HostError, InterruptedRunError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("emulate", help="Serve an emulated board on 127.0.0.1 until Ctrl-C.")(emulate)


def emulate(
    board: Annotated[str, typer.Argument(help="Which board: tx2, or a board file.")] = "tx2",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port (default: any free one).")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sensors' noise.")] = 0,
    authorized_key: Annotated[
        Path | None, typer.Option(help="Public key that may log in (default: a fresh pair).")
    ] = None,
    sensor_mode: Annotated[
        str | None, typer.Option(help="Power monitors: continuous (they average) or triggered.")
    ] = None,
    release: Annotated[str, typer.Option(help="Release of L4T: r32, or r28 by its names.")] = "r32",
    hostile: Annotated[
        int | None, typer.Option(min=0, help="Seed that draws what is wrong with the board.")
    ] = None,
    hostile_only: Annotated[
        str | None, typer.Option(help="What is wrong with it: NAME[,NAME] of --list-hostile.")
    ] = None,
    list_hostile: Annotated[
        bool, typer.Option("--list-hostile", help="List what can be wrong with a board, and end.")
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="What goes wrong, NAME or NAME:setting=value,...; may be repeated."),
    ] = None,
) -> None:
    """Serve an emulated board on loopback."""
    if list_hostile:
        _list()
        return
    command = [sys.executable, "-m", "hil.emulator.serve", "--json", "--board", board]
    command += ["--port", str(port), "--seed", str(seed)]
    command += ["--release", release]
    command += [] if sensor_mode is None else ["--sensor-mode", sensor_mode]
    command += [] if hostile is None else ["--hostile", str(hostile)]
    command += [] if hostile_only is None else ["--hostile-only", hostile_only]
    command += [word for each in fault or () for word in ("--fault", each)]
    if authorized_key is not None:
        command += ["--authorized-key", str(authorized_key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        first = server.stdout.readline()
        if not first:
            code = server.wait()
            raise HostError("the emulated board did not start", why=f"its server ended with {code}")
        _tell(json.loads(first), asked_hostile=hostile is not None)
        try:
            server.wait()
        except (InterruptedRunError, KeyboardInterrupt):
            say("stopping the emulated board")
        finally:
            server.stdin.close()
            server.wait(timeout=10)


def _list() -> None:
    from hil.emulator.hostile.variants import VARIANTS

    for name, variant in VARIANTS.items():
        out.print(f"{name:28} {variant.does}", highlight=False, markup=False, soft_wrap=True)


def _tell(board: dict[str, Any], *, asked_hostile: bool) -> None:
    out.print("EMULATED board, every figure it yields comes from a model", style="bold")
    out.print(
        f"ssh:          {board['user']}@{board['host']} port {board['port']}\n"
        f"host key:     {board['host_key']}\n"
        f"fingerprint:  {board['fingerprint']}\n"
        f"identity:     {board['identity']}\n"
        f"board's root: {board['root']}\n"
        f"device file:  driver: ssh, and agent: {{root: {board['root']}}}",
        highlight=False,
        soft_wrap=True,
    )
    for name, does in board["hostile"].items():
        out.print(f"hostile:      {name}: {does}", highlight=False, markup=False, soft_wrap=True)
    if asked_hostile and not board["hostile"]:
        out.print("hostile:      nothing is wrong with the board of this seed", highlight=False)
    say("Ctrl-C ends it and removes its files")
