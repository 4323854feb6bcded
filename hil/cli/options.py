"""Options that several verbs share, and how names become devices and profiles."""

from __future__ import annotations

import getpass
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.terminal import say
from hil.core.errors import ConfigError

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig

DeviceOption = Annotated[
    str, typer.Option("--device", "-d", help="Device file: a path, or a name in ./devices.")
]
HostOption = Annotated[
    str | None, typer.Option("--host", help="Override the device file's host: [user@]host[:port].")
]
WaitOption = Annotated[
    str, typer.Option("--wait", help="How long to wait for the board's lease: 30s, 30m, 2h.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else there.")
]

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>s|m|h)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def seconds(text: str) -> float:
    """Read a duration such as 90, 90s, 30m or 2h.

    Raises:
        ConfigError: it is none.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a duration", fix="write it as 90s, 30m or 2h")
    return float(match["number"]) * _SECONDS[match["unit"]]


def load_device(name: str, host: str | None) -> DeviceConfig:
    """Read the device a name stands for, at another host where one is given."""
    from hil.device.config import find_device, with_host

    device = find_device(name, cwd=Path.cwd())
    return device if host is None else with_host(device, host)


def owner(verb: str) -> str:
    """Who we are, as the board's lease shows it to others."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} hil {verb} (pid {os.getpid()})"


def announce_wait(holder: str, left_s: float) -> None:
    """Say who holds the board while we wait for it."""
    say(f"{holder}; waiting {left_s:.0f} s more")
