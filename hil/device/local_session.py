"""Starts the agent on this machine, in a child process with a private home."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hil.device.board_files import FolderFiles
from hil.device.bundle import agent_bundle
from hil.device.client import AgentClient
from hil.device.config import Agent, Local
from hil.device.link import Link, host_name
from hil.device.ssh_session import agent_argv
from hil.device.transport import ChildTransport


@contextmanager
def local_link(local: Local, agent: Agent, name: str, plugin: str | None = None) -> Iterator[Link]:
    """Start the agent beside us and end it afterwards.

    The default interpreter is the one that runs `hil`, so that ONNX Runtime is there.

    Args:
        local: where it keeps its files.
        agent: how it is started.
        name: of the device, for errors.
        plugin: module that its worker asks for runtimes of this host (see `gpu_runtime`).

    Raises:
        DeviceError: the state folder or the interpreter cannot be used.
    """
    home = local.state_dir or cache_folder(os.environ, Path.home()) / "local"
    files = FolderFiles(home)
    path = files.install(agent_bundle())
    here = (
        agent if agent.python != "python3" else agent.model_copy(update={"python": sys.executable})
    )
    argv = agent_argv(here, str(path))
    transport = ChildTransport(
        argv if plugin is None else (*argv, "--plugin", plugin),
        cwd=home,
        env=agent_environment(os.environ, home),
    )
    client = AgentClient(transport, where=name)
    try:
        yield Link(client, files, client.hello(host_name()), "measured")
    finally:
        client.close()


def cache_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Return where this user's `hil` keeps what can be made again (XDG base directories)."""
    named = environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if Path(named).is_absolute() else home / ".cache"
    return base / "hil"


def agent_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the agent's environment: ours, with a private HOME and the same Python packages."""
    user_base = environ.get("PYTHONUSERBASE") or site.getuserbase()
    # CUDA numbers GPUs by speed unless told otherwise, NVML by their place on the bus.
    order = environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return {
        **environ,
        "HOME": str(home),
        "PYTHONUSERBASE": user_base,
        "CUDA_DEVICE_ORDER": order,
    }
