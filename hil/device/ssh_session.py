"""Starts the agent on a board reached by SSH."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from hil.core.errors import DeviceError, ProtocolError
from hil.device import one_channel
from hil.device.board_files import BoardFiles, SftpFiles, install_agent
from hil.device.bundle import agent_bundle
from hil.device.client import AgentClient, NoPythonError
from hil.device.config import Agent, Ssh
from hil.device.link import Link, host_name
from hil.device.ssh import SshConnection, connect
from hil.device.support import RELEASE_FILE, TooOldError, release_in, too_old


@contextmanager
def ssh_link(ssh: Ssh, agent: Agent) -> Iterator[Link]:
    """Log in, install the agent where it is missing, start it, and end it afterwards.

    Raises:
        DeviceError: unreachable, wrong key, refused, no python3, and what else `connect` raises.
    """
    with connect(ssh) as connection, agent_over(connection, agent) as link:
        yield link


@contextmanager
def agent_over(
    connection: SshConnection,
    agent: Agent,
    provenance: str = "measured",
    reset: Callable[[int], None] | None = None,
) -> Iterator[Link]:
    """Install and start the agent over an open connection, and end it afterwards.

    Where the board opens no second channel or its home cannot be written, once more with one
    channel alone (`one_channel`).

    Raises:
        DeviceError: the board cannot run it.
    """
    with ExitStack() as ending:
        facts: dict[str, Any] = {}
        try:
            with ExitStack() as failing:
                sftp = _sftp(connection, failing)
                path = install_agent(connection, sftp, agent_bundle(), connection.where)
                client, hello = _started(connection, agent, path, facts, failing)
                files: BoardFiles = sftp
                if hello.get("state_dir_refused"):
                    files = one_channel.AgentFiles(client)
                ending.push(failing.pop_all())
        except (TooOldError, NoPythonError, ProtocolError):
            raise
        except DeviceError as refused:
            if not connection.alive:
                raise
            place = one_channel.settle(connection, agent_bundle(), connection.where)
            home = None if place.is_home else place.home
            client, hello = _started(connection, agent, place.path, facts, ending, home)
            files = one_channel.AgentFiles(client)
            why = refused.why or refused.what
            if home is None:
                facts |= {"files": "agent", "files_why": why}
            else:
                facts |= {"home": home, "home_why": why}
        if hello.get("state_dir_refused"):
            facts |= {"home": hello["state_dir"], "home_why": hello["state_dir_refused"]}
        link = Link(client, files, hello, provenance, shell=connection, facts=facts)
        yield link if reset is None else replace(link, reset=reset)


def _sftp(connection: SshConnection, ending: ExitStack) -> SftpFiles:
    channel = connection.sftp()
    ending.callback(channel.close)
    return SftpFiles(channel, connection.where)


def _started(
    connection: SshConnection,
    agent: Agent,
    path: str,
    facts: dict[str, Any],
    ending: ExitStack,
    home: str | None = None,
) -> tuple[AgentClient, Mapping[str, Any]]:
    """Start the agent and greet it; where PATH has no python3, by one that is found elsewhere.

    Raises:
        DeviceError: it does not start.
        TooOldError: it does not, and the board's release is one that is not supported.
    """
    try:
        return _greeted(connection, agent_argv(agent, path), home, ending)
    except NoPythonError:
        found = one_channel.other_python(connection) if agent.python == "python3" else None
        if found is None:
            _refuse_old(connection, agent)
            raise
        facts |= {"python": found}
        argv = agent_argv(agent.model_copy(update={"python": found}), path)
        return _greeted(connection, argv, home, ending)
    except DeviceError:
        _refuse_old(connection, agent)
        raise


def _greeted(
    connection: SshConnection, argv: Sequence[str], home: str | None, ending: ExitStack
) -> tuple[AgentClient, Mapping[str, Any]]:
    own_home = () if home is None else ("env", f"HOME={home}")
    transport = connection.open_agent(f"exec {shlex.join((*own_home, *argv))}")
    client = AgentClient(transport, where=connection.where)
    with ExitStack() as failing:
        failing.callback(client.close)
        hello = client.hello(host_name())
        ending.push(failing.pop_all())
    return client, hello


def _refuse_old(connection: SshConnection, agent: Agent) -> None:
    """Say that a board is too old where that is why its Python cannot run the agent."""
    path = f"{agent.root.rstrip('/')}/{RELEASE_FILE}"
    if not connection.alive:
        return
    refusal = too_old(release_in(connection.run(f"cat {shlex.quote(path)}").out), path)
    if refusal is not None:
        raise refusal


def agent_argv(agent: Agent, path: str) -> tuple[str, ...]:
    """Return the command that starts an agent."""
    argv = (agent.python, "-u", path, "serve", "--root", agent.root)
    return argv if agent.path is None else (*argv, "--path", agent.path)
