"""Starts the agent on a board reached by SSH."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from hil.device.board_files import SftpFiles, install_agent
from hil.device.bundle import agent_bundle
from hil.device.client import AgentClient
from hil.device.config import Agent, Ssh
from hil.device.link import Link, host_name
from hil.device.ssh import SshConnection, connect


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

    Raises:
        DeviceError: the board cannot run it.
    """
    with ExitStack() as ending:
        files = SftpFiles(connection.sftp(), connection.where)
        ending.callback(files.close)
        path = install_agent(connection, files, agent_bundle(), connection.where)
        transport = connection.open_agent(f"exec {shlex.join(agent_argv(agent, path))}")
        client = AgentClient(transport, where=connection.where)
        ending.callback(client.close)
        hello = client.hello(host_name())
        link = Link(client, files, hello, provenance, shell=connection)
        yield link if reset is None else Link(client, files, hello, provenance, connection, reset)


def agent_argv(agent: Agent, path: str) -> tuple[str, ...]:
    """Return the command that starts an agent."""
    argv = (agent.python, "-u", path, "serve", "--root", agent.root)
    return argv if agent.path is None else (*argv, "--path", agent.path)
