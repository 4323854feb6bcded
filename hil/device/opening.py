"""Opens a device: connect, agree, probe, lease, pin; and takes all of it back afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from hil.core.errors import ConfigError, HilError, LeaseTimeoutError
from hil.device.agent_session import AgentSession
from hil.device.config import (
    DeviceConfig,
    EmulatedDevice,
    LocalDevice,
    ReplayDevice,
    SshDevice,
)
from hil.device.emulated_session import emulated_link, reset_board
from hil.device.gpu_runtime import plugin_of, probe_params, refuse_without_gpu
from hil.device.link import Client, Link
from hil.device.local_session import local_link
from hil.device.records import board_info
from hil.device.replay_session import ReplaySession
from hil.device.session import Session
from hil.device.ssh_session import ssh_link
from hil.device.support import refuse_old

POLL_S = 2.0
PROBE_S = 300.0  # libraries that crash on import are tried one by one
OnWait = Callable[[str, float], None]  # who holds the board; seconds of waiting left


@dataclass(frozen=True)
class WallClock:
    """Wall time as `open_session` uses it; a test brings its own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def device_link(device: DeviceConfig) -> AbstractContextManager[Link]:
    """Reach a device's agent, unleased: for probing and health checks.

    Raises (on entering):
        DeviceError: the board or its agent cannot be reached.
        ConfigError: the device file names an unusable key, or a record.
    """
    if isinstance(device, EmulatedDevice):
        return emulated_link(device.emulated, device.name)
    if isinstance(device, LocalDevice):
        return local_link(device.local, device.agent, device.name, plugin_of(device))
    if isinstance(device, ReplayDevice):
        raise ConfigError(
            f"there is no board behind {device.name}",
            why="its driver is replay: figures come from a record",
            fix="name a device of driver ssh, local or emulated",
        )
    return ssh_link(device.ssh, device.agent)


@contextmanager
def open_session(
    device: DeviceConfig,
    *,
    owner: str,
    wait_s: float = 0.0,
    on_wait: OnWait | None = None,
    clock: WallClock | None = None,
) -> Iterator[Session]:
    """Lease a board, its power mode and clocks as the device file says, for one `with` block.

    Args:
        device: the board's file, read.
        owner: who we are, shown to others who wait for the board.
        wait_s: how long to wait for a lease that somebody else holds.
        on_wait: called before each pause of that wait.
        clock: wall time; None is the real one.

    Raises:
        DeviceError: unreachable or unhealthy, or too old (before anything is changed on it).
        LeaseTimeoutError: still leased after `wait_s`; the message names the holder.
    """
    if isinstance(device, ReplayDevice):
        yield _replayed(device)
        return
    with ExitStack() as ending:
        link, probe = _probed(device, ending)
        board = board_info(device.name, probe)
        refuse_old(board.raw, device.runtime.name)
        refuse_without_gpu(board.raw, device.runtime.name)
        lease = Lease(link.client, owner, device.lease.ttl_s)
        lease.acquire(wait_s, on_wait or _silent, clock or WallClock())
        session = AgentSession(_labelled(link, emulated=board.emulated), device, board)
        with giving_back(session, lease):
            session.pin()
            yield session


def _replayed(device: ReplayDevice) -> Session:
    if device.replay.evidence is None:
        raise ConfigError(
            f"{device.name} replays a table, which takes no network",
            why="its rows are known by their choices, not by files",
            fix="use it with `hil synthesize` and a profile of task table, such as nb201.yaml",
        )
    return ReplaySession.open(device)


def _probed(device: DeviceConfig, ending: ExitStack) -> tuple[Link, Mapping[str, Any]]:
    """Reach a board and probe it; where its python3 lacks TensorRT, by another one that has it."""
    link = ending.enter_context(device_link(device))
    probe = link.client.request("probe", probe_params(device), timeout_s=PROBE_S)
    other = probe.get("tensorrt_elsewhere")
    if not other or not isinstance(device, SshDevice) or device.runtime.name != "tensorrt":
        return link, probe
    if device.agent.python != "python3":  # somebody chose it
        return link, probe
    ending.close()
    agent = device.agent.model_copy(update={"python": other})
    link = ending.enter_context(device_link(device.model_copy(update={"agent": agent})))
    facts = {**link.facts, "python": other, "python_lacks": "has no TensorRT"}
    return replace(link, facts=facts), link.client.request("probe", timeout_s=PROBE_S)


@dataclass(frozen=True)
class Lease:
    """The right to use a board, renewed by every line we send."""

    client: Client
    owner: str
    ttl_s: int

    def acquire(self, wait_s: float, on_wait: OnWait, clock: WallClock) -> None:
        """Take the lease, asking again until `wait_s` have passed.

        Raises:
            LeaseTimeoutError: somebody else held it all along.
        """
        params = {"owner": self.owner, "ttl_s": self.ttl_s, "steal_reason": None}
        deadline_s = clock.now() + wait_s
        while True:
            try:
                self.client.request("lease_acquire", params)
                return
            except LeaseTimeoutError as held:
                left_s = deadline_s - clock.now()
                if left_s <= 0:
                    raise
                on_wait(held.what, left_s)
                clock.sleep(min(POLL_S, left_s))

    def release(self) -> None:
        """Give it back."""
        self.client.request("lease_release")


@contextmanager
def giving_back(session: AgentSession, lease: Lease) -> Iterator[None]:
    """Restore the board and release the lease, whatever happens inside.

    An error from inside is never hidden by one of the giving back; the agent restores by itself
    when the link ends, so nothing is lost by that.
    """
    try:
        yield
    except BaseException:
        with suppress(HilError):
            _give_back(session, lease)
        raise
    _give_back(session, lease)


def _give_back(session: AgentSession, lease: Lease) -> None:
    try:
        session.restore()
    finally:
        lease.release()


def _labelled(link: Link, *, emulated: bool) -> Link:
    """Label a board that says it is emulated as such, whatever driver reaches it."""
    shell = link.shell
    if not emulated or link.provenance == "emulated" or shell is None:
        return link
    return replace(link, provenance="emulated", reset=lambda seed: reset_board(shell, seed))


def _silent(_holder: str, _left_s: float) -> None:
    pass
