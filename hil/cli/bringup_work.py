"""Meeting a board, and meeting it again from what was recorded."""

from __future__ import annotations

import contextlib
import getpass
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hil.cli.bringup_stages import stages
from hil.core.errors import HilError, InterruptedRunError

if TYPE_CHECKING:
    from hil.device.archive import Recorded
    from hil.device.bringup import Lengths, Result, Stage
    from hil.device.config import DeviceConfig
    from hil.device.redaction import Secrets

UNREACHED = "not run: the board was not reached"


@dataclass(frozen=True)
class Telling:
    """Who is told what happens while it does."""

    begun: Callable[[Stage], None] = lambda _stage: None
    done: Callable[[Result], None] = lambda _result: None


def meet(
    config: DeviceConfig, lengths: Lengths, limit_s: float, owner: str, telling: Telling
) -> tuple[list[Result], Recorded]:
    """Run all stages on a board and record what was said; never raises for what a board does.

    Args:
        config: the device file, read.
        lengths: of the stages.
        limit_s: board time for all of them.
        owner: who we are, for the lease.
        telling: told each stage.
    """
    from hil.device.archive import Recorded
    from hil.device.bringup import Contact, run_stages
    from hil.device.opening import device_link
    from hil.device.tape import Tape, recorded

    tape = Tape()
    about: dict[str, Any] = {"hello": {}, "provenance": "measured", "refusal": None}
    results: list[Result] = []
    ended_in: str | None = None
    with ExitStack() as ending:
        # What goes wrong while the link is closed is of no interest any more: all was said.
        ending.enter_context(contextlib.suppress(HilError))
        try:
            link = ending.enter_context(device_link(config))
        except HilError as error:
            about["refusal"] = {"what": error.what, "why": error.why, "fix": error.fix}
            results = unreached(lengths, about["refusal"], telling)
        except InterruptedRunError:
            about["refusal"] = {"what": "interrupted by a person", "why": None, "fix": None}
            results, ended_in = unreached(lengths, about["refusal"], telling), "identity"
        else:
            cap = _Cap(limit_s)
            contact = Contact(config, recorded(link, tape, cap.left_s), lengths, limit_s, owner)
            about |= {"hello": dict(link.hello), "provenance": link.provenance}

            def begun(stage: Stage) -> None:
                cap.restart(contact.left_s)
                telling.begun(stage)

            results, ended_in = run_stages(
                contact, stages(lengths), tape, on_result=telling.done, on_start=begun
            )
            if contact.memory.get("probe", {}).get("emulated"):
                about["provenance"] = "emulated"  # whatever driver reached it
    return results, Recorded(
        {},
        config,
        about["hello"],
        about["provenance"],
        limit_s,
        lengths,
        tape,
        ended_in,
        about["refusal"],
    )


class _Cap:
    """How long a request may still take, in wall time, from what a board's own clock left."""

    def __init__(self, limit_s: float) -> None:
        self.restart(limit_s)

    def restart(self, left_s: float) -> None:
        self._end_s = time.monotonic() + left_s

    def left_s(self) -> float:
        from hil.device.bringup import GRACE_S

        return self._end_s - time.monotonic() + GRACE_S


def replay(contact: Recorded, telling: Telling) -> list[Result]:
    """Run the same stages on what was recorded."""
    from hil.device.bringup import Contact, run_stages
    from hil.device.tape import Tape, played

    if contact.refusal is not None:
        return unreached(contact.lengths, contact.refusal, telling)
    link = played(contact.tape, contact.hello, contact.provenance)
    again = Contact(contact.device, link, contact.lengths, contact.limit_s)
    results, _ = run_stages(
        again,
        stages(contact.lengths),
        Tape(),
        on_result=telling.done,
        on_start=telling.begun,
        ended_in=contact.ended_in,
    )
    return results


def unreached(lengths: Lengths, refusal: Any, telling: Telling) -> list[Result]:
    """Return what becomes of all stages where the board cannot be reached."""
    from hil.device.bringup import Outcome, Result

    told = refusal["what"] + (f" ({refusal['why']})" if refusal["why"] else "")
    step = refusal["fix"] or "check power, network and login, then run it again"
    results: list[Result] = []
    for stage in stages(lengths):
        first = not results
        outcome = Outcome("failed", told, step) if first else Outcome("skipped", UNREACHED, step)
        results.append(Result(stage.name, outcome))
        telling.done(results[-1])
    return results


def secrets_of(config: DeviceConfig, contact: Recorded) -> Secrets:
    """Return the names that must not leave this house."""
    from hil.device.config import SshDevice
    from hil.device.link import host_name
    from hil.device.redaction import Secrets, versions_in

    hosts, users = {host_name()}, set()
    with contextlib.suppress(OSError, KeyError):
        users.add(getpass.getuser())
    if isinstance(config, SshDevice):
        for hop in filter(None, (config.ssh, config.ssh.jump)):
            hosts.add(hop.host)
            users.add(hop.user)
    labels = {host.partition(".")[0] for host in hosts if not host[:1].isdigit()}
    versions = frozenset(versions_in(contact.tape.exchanges))
    return Secrets(frozenset(hosts | labels), frozenset(users), versions)
