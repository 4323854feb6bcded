"""`hil doctor`: what works on a device, and what to do where it does not."""

from __future__ import annotations

import typer

from hil.cli.options import DeviceOption, HostOption, load_device, owner
from hil.cli.terminal import out
from hil.core.errors import DeviceError

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor", help="Check a device; each line ends with what to do.")(doctor)


def doctor(device: DeviceOption, host: HostOption = None) -> None:
    """Check a device step by step."""
    from rich.markup import escape

    from hil.device.doctor import diagnose
    from hil.net.sample import sample_network

    config = load_device(device, host)
    worst = "ok"
    for check in diagnose(config, owner=owner("doctor"), sample_network=sample_network()):
        step = f" -> {escape(check.next_step)}" if check.next_step else ""
        colour = _COLOURS[check.status]
        out.print(
            f"[{colour}]{check.status:4}[/] {escape(check.name)}: {escape(check.detail)}{step}",
            highlight=False,
            soft_wrap=True,
        )
        worst = max(worst, check.status, key=list(_COLOURS).index)
    if worst == "fail":
        raise DeviceError(
            f"{config.name} is not ready",
            fix="do what the lines marked fail say, then run it again",
        )
