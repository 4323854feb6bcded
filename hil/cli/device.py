"""`hil device`: boards made known."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from hil.cli.terminal import out, say
from hil.core.errors import ConfigError

app = typer.Typer(help="Add a board, list the device files there are.", no_args_is_help=True)


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
    )
    enrolled = enroll(target, confirm=_confirm, fingerprint=fingerprint)
    say(f"pinned {enrolled.key.fingerprint} in {enrolled.known_hosts}")
    say(f"wrote {enrolled.device_file}; next: hil doctor --device {enrolled.device_file}")


def _confirm(question: str) -> bool:
    return typer.confirm(question, err=True)


@app.command("list")
def list_devices() -> None:
    """List the device files that `--device` knows by name."""
    from hil.core.names import available

    for name in available("devices", cwd=Path.cwd()):
        out.print(name, highlight=False)
