"""What the runtimes of this host have in common: how the agent's worker drives and names them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from hil.core.errors import ConfigError, ExportError


class Engine(Protocol):
    """A plan ready to run, as the agent's worker drives it (see `hil.agent.ort_runtime.Engine`)."""

    inputs: list[Any]
    outputs: list[Any]

    def step(self) -> None:
        """Run one inference to its end."""

    def close(self) -> None:
        """Free what it holds."""


class Runtime(Protocol):
    """One way to run networks."""

    def identity(self) -> dict[str, Any]:
        """Return release and platform.

        Raises:
            AgentError: `no_runtime` where it does not reach its device.
        """

    def open(self, data: bytes, shapes: Mapping[str, Any]) -> Engine:
        """Make a network ready to run."""


class Agent:
    """What the plug-in needs of the agent that it serves: its errors and its tensors.

    Args:
        package: the agent's package, which has another name inside the zipapp.
    """

    def __init__(self, package: str) -> None:
        self.error = importlib.import_module(f"{package}.errors").AgentError
        self.tensor = importlib.import_module(f"{package}.tensors").Tensor

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn this host's refusals of a network into the agent's."""
        try:
            yield
        except ExportError as error:
            raise self.error("unsupported_operator", error.what, error.why, error.fix) from error
        except ConfigError as error:
            raise self.error("unknown_shape", error.what, error.why, error.fix) from error
