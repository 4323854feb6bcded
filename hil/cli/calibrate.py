"""`hil device calibrate`: what a board resolves, found by measuring one engine against itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.calibrate_view import show
from hil.cli.calibrate_work import Calibrating
from hil.cli.calibrating import PrecisionWish
from hil.cli.keeping import keeper, write_whole
from hil.cli.measuring import calibration_path, desk, refuse_without_power
from hil.cli.network import Network, read_network
from hil.cli.options import (
    DeviceOption,
    HostOption,
    JsonOption,
    KeepOption,
    WaitOption,
    load_device,
    seconds,
)
from hil.cli.profile_run import interrupted
from hil.cli.terminal import print_json, say
from hil.core.errors import HostError, InterruptedRunError
from hil.device.precisions import unquantised

if TYPE_CHECKING:
    from hil.device.config import DeviceConfig


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("calibrate", help="Find the smallest difference a board resolves.")(calibrate)


def calibrate(
    device: DeviceOption,
    model: Annotated[
        Path | None, typer.Option(help="Network to use (default: one that ships with hil).")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=4, help="Rounds of the engine against itself; an even number.")
    ] = 10,
    slow_interval: Annotated[
        int, typer.Option(min=20, help="Longer sampling interval, in ms, for the sampler's cost.")
    ] = 1000,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the calibration goes.")
    ] = None,
    keep: KeepOption = True,
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Measure one engine against itself and keep what that says about the board."""
    config = load_device(device, host)
    refuse_without_power(config, latency_only=False)
    network = _network(model, config)
    target = output or calibration_path(device, config, Path.cwd())
    _check_writable(target)
    now = datetime.now(UTC)
    kept = keeper("calibrate", config.name, now, keep=keep)
    try:
        with desk(config, device, "calibrate", wait_s=seconds(wait)) as at:
            work = Calibrating(at, network, kept, rounds + rounds % 2, slow_interval)
            calibration = work.go(now.isoformat(timespec="seconds"))
    except InterruptedRunError as error:
        raise interrupted(kept) from error
    finally:
        kept.clear()
    result = {**calibration.to_json(), "detects": work.detects(calibration)}
    if as_json:
        print_json(result)
    else:
        show(result)
    kept.result(result)
    write_whole(target, (json.dumps(calibration.to_json(), indent=1) + "\n").encode())
    say(f"wrote {target}: profile and compare use it for this board in this state")


def _network(model: Path | None, config: DeviceConfig) -> Network:
    if model is not None:
        return read_network(model, config, wish=PrecisionWish((unquantised(config.runtime),)))
    from hil.net.reference import reference_network

    return Network("the reference network of hil", reference_network(), {})


def _check_writable(path: Path) -> None:
    """Make the folder now: minutes on the board must not end at a folder that is not there."""
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"cannot write {path}", why=str(error)) from error
    if path.is_dir():
        raise HostError(f"cannot write {path}", why="it is a folder", fix="name a file with -o")
