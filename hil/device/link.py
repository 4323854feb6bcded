"""A started agent and what belongs to it: what every driver gives to a session."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hil.device.board_files import BoardFiles
from hil.device.client import OnEvent
from hil.device.ssh_channels import Shell


class Client(Protocol):
    """Something that puts requests to an agent (`hil.device.client.AgentClient`)."""

    @property
    def alive(self) -> bool:
        """Whether the agent still answers."""

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        on_event: OnEvent | None = None,
        timeout_s: float = 60.0,
    ) -> Mapping[str, Any]:
        """Ask, hand events on as they come, and return the result."""


def _nothing(_seed: int) -> None:
    pass


@dataclass(frozen=True)
class Link:
    """A greeted agent.

    Attributes:
        hello: the agent's greeting.
        provenance: what every figure that comes over this link is called.
        shell: runs commands on the board; None for this machine.
        reset: brings an emulated board to a known state; nothing elsewhere.
        facts: how the board is reached otherwise than planned (see `hil.core.fallbacks`).
    """

    client: Client
    files: BoardFiles
    hello: Mapping[str, Any]
    provenance: str
    shell: Shell | None = None
    reset: Callable[[int], None] = field(default=_nothing)
    facts: Mapping[str, Any] = field(default_factory=dict)


def host_name() -> str:
    """Return how this machine introduces itself to an agent."""
    return socket.gethostname()
