"""Options that several verbs share, and how words become devices, durations and limits."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.terminal import say
from hil.core.errors import ConfigError

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig
    from hil.measure.stopping import Limit

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
PrecisionOption = Annotated[
    str | None, typer.Option(help="fp16, fp32 or int8 (default: the device's).")
]
ShapeOption = Annotated[
    list[str] | None, typer.Option(help="Shape of a dynamic input: NAME=1x3x224x224.")
]
BatchOption = Annotated[
    int | None, typer.Option(min=1, help="Size of inputs whose first dimension is open.")
]
TargetOption = Annotated[
    str, typer.Option(help="Measure until the 95 % interval is at most this far to either side.")
]
MaxTimeOption = Annotated[
    str, typer.Option(help="Longest time on the board for one result, in the board's time.")
]
WindowOption = Annotated[str, typer.Option(help="Length of a window, in the board's time.")]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(help="energy_mj=40, latency_p99_ms=8 ...: stop when decided. Repeatable."),
]
KeepOption = Annotated[
    bool, typer.Option("--keep/--no-keep", help="Keep the raw evidence and the result in ./runs.")
]
LatencyOnlyOption = Annotated[
    bool, typer.Option("--latency-only", help="Measure no energy (no power source needed).")
]

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>s|m|h)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_FRACTION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<percent>%)?")
_LIMIT = re.compile(r"(?P<figure>[a-z0-9_]+)\s*(?P<sign><=|>=|=)\s*(?P<value>\d+(?:\.\d+)?)")
# More is better: a bare = sets the least, not the most.
_AT_LEAST = ("inferences_per_joule",)
LIMITED = (
    "energy_mj",
    "energy_net_mj",
    "inferences_per_joule",
    "latency_p50_ms",
    "latency_p99_ms",
    "power_w",
)


def seconds(text: str) -> float:
    """Read a duration such as 90, 90s, 30m or 2h.

    Raises:
        ConfigError: it is none.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a duration", fix="write it as 90s, 30m or 2h")
    return float(match["number"]) * _SECONDS[match["unit"]]


def fraction(text: str, option: str) -> float:
    """Read a share such as 1% or 0.01.

    Raises:
        ConfigError: it is none, or not between 0 and 100 %.
    """
    match = _FRACTION.fullmatch(text.strip())
    value = float(match["number"]) * (0.01 if match["percent"] else 1.0) if match else 0.0
    if not 0 < value < 1:
        raise ConfigError(
            f"{option} {text!r} is no share between 0 and 100 %", fix=f"write it as {option} 1%"
        )
    return value


def read_limits(given: Sequence[str]) -> tuple[Limit, ...]:
    """Read limits such as energy_mj=40 (at most) or inferences_per_joule>=30.

    Raises:
        ConfigError: no such figure, no value, or a figure limited twice on the same side.
    """
    from hil.measure.stopping import Limit

    limits: list[Limit] = []
    for text in given:
        match = _LIMIT.fullmatch(text.strip())
        if match is None or match["figure"] not in LIMITED or float(match["value"]) <= 0:
            raise ConfigError(
                f"{text!r} is no limit",
                fix=f"write it as energy_mj=40; figures are {', '.join(LIMITED)}",
            )
        value, least = float(match["value"]), match["sign"] == ">="
        least = least or (match["sign"] == "=" and match["figure"] in _AT_LEAST)
        limit = Limit(match["figure"], None if least else value, value if least else None)
        if any(limit.figure == other.figure for other in limits):
            raise ConfigError(f"{limit.figure} is limited twice", fix="give each figure one limit")
        limits.append(limit)
    return tuple(limits)


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
