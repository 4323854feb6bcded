"""Channels over one SSH connection: commands that end, and the agent's, which stays open.

Traps of paramiko met here: `recv_exit_status` has no timeout and deadlocks on undrained output, so
both streams are drained and the status is awaited with a deadline; closing a channel does not end
the program behind it, so the agent ends by itself when its standard input does.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import paramiko

from hil.core.errors import DeviceError
from hil.device.transport import CHUNK_BYTES, GOODBYE_S, BoundedLog

POLL_S = 10.0
FREED_S = 1.5


@dataclass(frozen=True)
class Completed:
    """What a command left: its exit status and its output, as text."""

    status: int
    out: str
    err: str


class Shell(Protocol):
    """Something that runs shell commands on a board."""

    def run(self, command: str, timeout_s: float = 30.0) -> Completed:
        """Run one command to its end."""


class InputShell(Protocol):
    """The same, with bytes for the command's standard input."""

    def run(self, command: str, timeout_s: float = 30.0, given: bytes = b"") -> Completed:
        """Run one command to its end."""


class ChannelTransport:
    """An agent at the other end of an SSH channel (see `transport.Transport`)."""

    def __init__(self, transport: paramiko.Transport, command: str, where: str) -> None:
        self._channel = _start(transport, command, POLL_S, where)
        self._sending = threading.Lock()
        self._log = BoundedLog(lambda: _receive(self._channel, stderr=True), "agent-stderr")

    def send(self, line: bytes) -> None:
        """Send a whole line."""
        try:
            with self._sending:
                self._channel.sendall(line)
        except EOFError as error:  # paramiko's word for a link that ended while it wrote
            raise ConnectionError("the link ended") from error

    def receive(self) -> bytes:
        """Wait for bytes; b"" once the agent or the link is gone."""
        return _receive(self._channel)

    def exit_status(self) -> int | None:
        """Return the agent's exit status; it may follow the end of its output by a moment."""
        self._channel.status_event.wait(0.5)
        status = self._channel.exit_status
        return status if status >= 0 else None

    def log(self) -> str:
        """Return the last lines of standard error."""
        return self._log.text()

    def close(self) -> None:
        """End the agent's input, wait for it to put the board back, and close the channel."""
        if not self._channel.closed:
            with self._sending, suppress(OSError, EOFError):  # the link may have ended before us
                self._channel.shutdown_write()
            self._channel.status_event.wait(GOODBYE_S)
        self._channel.close()
        self._log.join(1.0)


def run_command(
    transport: paramiko.Transport, command: str, timeout_s: float, where: str, given: bytes = b""
) -> Completed:
    """Run a shell command to its end; `given` is all of its input.

    Raises:
        DeviceError: the link is lost, or the command does not end in time.
    """
    channel = _start(transport, command, min(timeout_s, POLL_S), where)
    try:
        with suppress(OSError):  # a command may end without having read all of it
            channel.sendall(given)
        channel.shutdown_write()
        log = BoundedLog(lambda: _receive(channel, stderr=True), "command-stderr")
        out = _drain(channel, time.monotonic() + timeout_s)
        if out is None or not channel.status_event.wait(timeout_s) or channel.exit_status < 0:
            raise DeviceError(
                f"a command on {where} did not end",
                why=f"`{command}` was given {timeout_s:g} s",
                fix="check the board's load and network, then run again",
            )
        return Completed(channel.exit_status, out.decode("utf-8", errors="replace"), log.text())
    finally:
        channel.close()


def _start(
    transport: paramiko.Transport, command: str, timeout_s: float, where: str
) -> paramiko.Channel:
    try:
        channel = _opened(transport, timeout_s)
        channel.settimeout(timeout_s)
        channel.exec_command(command)
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise DeviceError(
            f"{where} runs no command",
            why=str(error) or type(error).__name__,
            fix="check that the login may run commands: ssh HOST true",
        ) from error
    return channel


def _opened(transport: paramiko.Transport, timeout_s: float) -> paramiko.Channel:
    """Open a channel; a server that allows few frees the one before a moment after its end."""
    deadline_s = time.monotonic() + FREED_S
    while True:
        try:
            return transport.open_session(timeout=timeout_s)
        except paramiko.ChannelException:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(0.05)


def _drain(channel: paramiko.Channel, deadline_s: float) -> bytes | None:
    """Read to the end; None when the deadline passes first."""
    out = bytearray()
    while time.monotonic() < deadline_s:
        try:
            chunk = channel.recv(CHUNK_BYTES)
        except TimeoutError:
            continue
        if not chunk:
            return bytes(out)
        out += chunk
    return None


def _receive(channel: paramiko.Channel, *, stderr: bool = False) -> bytes:
    """Wait for bytes however long the silence; b"" at the end of the stream."""
    read = channel.recv_stderr if stderr else channel.recv
    while True:
        try:
            return read(CHUNK_BYTES)
        except TimeoutError:
            if channel.closed:
                return b""
