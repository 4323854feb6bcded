"""`hil device`: boards made known, calibrated, freed and cleaned."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from hil.cli import calibrate
from hil.cli.options import (
    DeviceOption,
    HostOption,
    WaitOption,
    announce_wait,
    load_device,
    owner,
    seconds,
)
from hil.cli.terminal import out, say
from hil.core.errors import ConfigError

app = typer.Typer(help="Add, list and calibrate boards; free and clean them.", no_args_is_help=True)
calibrate.register(app)


@app.command("add")
def add(
    host: Annotated[str, typer.Argument(help="The board: [user@]host[:port].")],
    identity: Annotated[Path, typer.Option(help="Private key for the login.")],
    user: Annotated[str | None, typer.Option(help="User on the board.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the device (default: the host's).")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the device file goes.")] = Path("devices"),
    fingerprint: Annotated[
        str | None, typer.Option(help="Expected SHA256 fingerprint; pins without asking.")
    ] = None,
    root: Annotated[
        str, typer.Option(help="Root folder of the board's files (of an emulated board).")
    ] = "/",
) -> None:
    """Show a board's fingerprint, pin it, probe the board and write its device file."""
    from hil.device.config import parse_host
    from hil.device.enroll import Target, enroll

    written_user, address, port = parse_host(host)
    if not identity.expanduser().is_file():
        raise ConfigError(
            f"there is no key file {identity}",
            fix="make one: ssh-keygen -t ed25519 -f " + str(identity),
        )
    folder.mkdir(parents=True, exist_ok=True)
    target = Target(
        host=address,
        user=user or written_user or getpass.getuser(),
        identity=identity.expanduser().absolute(),
        folder=folder.absolute(),
        name=name or address.split(".")[0],
        port=port or 22,
        root=root,
    )
    enrolled = enroll(target, confirm=_confirm, fingerprint=fingerprint)
    say(f"pinned {enrolled.key.fingerprint} in {enrolled.known_hosts}")
    say(f"wrote {enrolled.device_file}; next: hil doctor --device {enrolled.device_file}")


def _confirm(question: str) -> bool:
    return typer.confirm(question, err=True)


def _agreed(question: str) -> bool:
    try:
        return _confirm(question)
    except typer.Abort as error:
        raise ConfigError("there is nobody to ask", fix="add --yes to do it unasked") from error


@app.command("list")
def list_devices() -> None:
    """List the device files that `--device` knows by name."""
    from hil.core.names import available

    for name in available("devices", cwd=Path.cwd()):
        out.print(name, highlight=False)


@app.command("unlock")
def unlock(
    device: DeviceOption,
    reason: Annotated[str, typer.Option(help="Why; whoever held the board can read it there.")],
    host: HostOption = None,
) -> None:
    """Take a board's lease away from whoever holds it, and free it."""
    from hil.device.upkeep import unlock as take_and_free

    config = load_device(device, host)
    if not reason.strip():
        raise ConfigError("no reason given", fix='add --reason "the build server lost power"')
    holder = take_and_free(config, owner("device unlock"), reason)
    if holder is None:
        say(f"{config.name} is free; nothing to do")
    else:
        say(f"{config.name} was held by {holder}; it is free now, power mode and clocks as found")


@app.command("clean")
def clean(
    device: DeviceOption,
    keep_mib: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Remove only what no build names, then the longest unused until so much is left.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    host: HostOption = None,
    wait: WaitOption = "0s",
) -> None:
    """Remove networks, engines and timing caches that hil left on a board."""
    from hil.device.upkeep import clean as remove_files

    config = load_device(device, host)
    sure = yes or keep_mib is not None
    if not sure and not _agreed(f"Remove all networks and engines of hil on {config.name}?"):
        say("nothing removed")
        return
    files, size = remove_files(
        config,
        owner("device clean"),
        wait_s=seconds(wait),
        on_wait=announce_wait,
        keep_bytes=None if keep_mib is None else keep_mib << 20,
    )
    say(f"removed {files} files, {size / 2**20:.1f} MiB, from {config.name}")
