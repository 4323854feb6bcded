"""`hil verify`: a bundle's network on a board again, to see whether its claim reproduces."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.options import (
    DeviceOption,
    HostOption,
    JsonOption,
    WaitOption,
    announce_wait,
    load_device,
    owner,
    seconds,
)
from hil.cli.terminal import out, print_json, say
from hil.core.errors import ConfigError, LimitViolatedError, MeasurementError

if TYPE_CHECKING:
    from hil.cli.verifying import Claim
    from hil.device.session import Session
    from hil.synth.certificate import Ruling

SCHEMA = "hil/verify@1"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("verify", help="Measure a bundle's network again and see if its claim holds.")(
        verify
    )


def verify(
    bundle: Annotated[Path, typer.Argument(help="File that `hil bundle` wrote.")],
    device: DeviceOption = "",
    network: Annotated[
        str | None, typer.Option(help="Certified network (default: the first).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of an emulated board's noise.")] = 0,
    run: Annotated[
        Path | None, typer.Option(help="Folder for the raw traces (default: in ./runs).")
    ] = None,
    host: HostOption = None,
    wait: WaitOption = "0s",
    as_json: JsonOption = False,
) -> None:
    """Measure a bundle's network against its prototype again, on fresh builds."""
    from hil.cli.verifying import measured_again, read_claim
    from hil.device.opening import open_session
    from hil.synth.store import RunStore

    if not device:
        raise ConfigError("no device given", fix="add --device my-tx2.yaml")
    config, claim = load_device(device, host), read_claim(bundle, network)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = run or Path("runs") / f"verify-{bundle.stem}-{stamp}"
    settings = {"seed": seed, "device": device, "profile": claim.profile.name}
    with (
        RunStore.create(folder, settings) as store,
        open_session(
            config, owner=owner("verify"), wait_s=seconds(wait), on_wait=announce_wait
        ) as session,
    ):
        ruling = measured_again(claim, config, session, store, seed)
        told = _told(claim, ruling, session, folder)
    if as_json:
        print_json(told)
    else:
        _show(told)
    _end(ruling, told)


def _told(claim: Claim, ruling: Ruling, session: Session, folder: Path) -> dict[str, Any]:
    from hil.synth.requirements import describe

    stated = {(p["metric"], p["limit"], p.get("nvpmodel")): p for p in claim.entry["proofs"]}
    limits = []
    for finding in ruling.findings:
        wanted = finding.requirement
        before = stated[wanted.metric, finding.limit, wanted.mode]
        limits.append(
            {
                "metric": wanted.metric,
                "nvpmodel": wanted.mode,
                "text": describe(wanted),
                "limit": finding.limit,
                "stated": before["estimate"],
                "estimate": finding.value,
                "bound": finding.bound,
                "builds": finding.builds,
                "verdict": finding.verdict,
            }
        )
    board = session.board
    return {
        "schema": SCHEMA,
        "network": claim.entry["name"],
        "provenance": session.provenance,
        "stated_provenance": claim.result["provenance"],
        "device": session.name,
        "board": f"{board.model or 'unknown board'}, L4T {board.l4t}, TensorRT {board.tensorrt}",
        "stated_board": claim.result["board"],
        "run": str(folder),
        "builds": ruling.builds,
        "verdict": ruling.word,
        "reproduced": {"feasible": True, "infeasible": False}.get(ruling.verdict),
        "limits": limits,
        "not_measured_again": ["accuracy: held-out pictures are not in a bundle"],
    }


def _show(told: dict[str, Any]) -> None:
    from rich.markup import escape

    label = str(told["provenance"]).upper()
    out.print(f"[bold]{label}[/] {escape(told['network'])} on {escape(told['device'])}")
    for one in told["limits"]:
        out.print(
            f"  {one['verdict']}: {escape(one['text'])}: {one['estimate']:.4g}, bound "
            f"{one['bound']:.4g}, limit {one['limit']:.4g} (the bundle says {one['stated']:.4g})",
            soft_wrap=True,
        )
    say(f"board of the bundle: {told['stated_board']} ({told['stated_provenance']})")
    say(f"board now: {told['board']} ({told['provenance']})")
    for line in told["not_measured_again"]:
        say(f"not measured again: {line}")
    say(f"raw traces: {told['run']}")


def _end(ruling: Ruling, told: dict[str, Any]) -> None:
    """Leave with the exit code of what was found.

    Raises:
        LimitViolatedError: a limit is broken here.
        MeasurementError: neither is shown.
    """
    label = "" if told["provenance"] == "measured" else f" ({told['provenance'].upper()} board)"
    if ruling.verdict == "infeasible":
        broken = [one["text"] for one in told["limits"] if one["verdict"] == "infeasible"]
        raise LimitViolatedError(
            f"the claim does not reproduce on {told['device']}{label}",
            why="; ".join(broken),
            fix="compare the two boards' release, power mode and clocks",
        )
    if ruling.verdict != "feasible":
        raise MeasurementError(
            f"{ruling.builds} builds on {told['device']}{label} do not decide the claim",
            why="the network is too near a limit for so few builds",
            fix="verify again, or ask for a bundle of a profile with more builds (at_most)",
        )
    say(f"the claim reproduces on {told['device']}{label}: {ruling.builds} fresh builds")
