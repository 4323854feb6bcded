"""How bytes reach an agent: the one Protocol, and the agent as a child process of this machine."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from hil.core.errors import DeviceError

CHUNK_BYTES = 65536
LOG_LINES = 200
GOODBYE_S = 15.0  # an agent puts the board's clocks back before it exits


class Transport(Protocol):
    """A channel to one agent. `receive` runs in one thread, `send` in any."""

    def send(self, line: bytes) -> None:
        """Send a whole line.

        Raises:
            OSError: the link is gone.
        """

    def receive(self) -> bytes:
        """Wait for bytes; b"" once the agent or the link is gone."""

    def exit_status(self) -> int | None:
        """Return the agent's exit status where it is known."""

    def log(self) -> str:
        """Return the last lines of the agent's standard error."""

    def close(self) -> None:
        """Let the agent end by itself, then make sure; safe to call twice."""


class BoundedLog:
    """The last lines read from a stream by a thread, so that it can never fill up and block."""

    def __init__(self, read: Callable[[], bytes], name: str) -> None:
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._thread = threading.Thread(target=self._drain, args=(read,), name=name, daemon=True)
        self._thread.start()

    def _drain(self, read: Callable[[], bytes]) -> None:
        rest = b""
        while chunk := read():
            *lines, rest = (rest + chunk).split(b"\n")
            self._lines.extend(line.decode("utf-8", errors="replace") for line in lines)
            rest = rest[-CHUNK_BYTES:]
        if rest:
            self._lines.append(rest.decode("utf-8", errors="replace"))

    def text(self) -> str:
        """Return what was kept, after giving the stream's end a moment to arrive."""
        self._thread.join(timeout=0.2)
        return "\n".join(self._lines)

    def join(self, timeout_s: float) -> None:
        """Wait for the stream's end."""
        self._thread.join(timeout_s)


class ChildTransport:
    """An agent in a child process.

    Raises:
        DeviceError: the program cannot be started.
    """

    def __init__(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=cwd,
                env=dict(env),
                start_new_session=True,  # a Ctrl-C is ours to handle; the agent hears of it by EOF
            )
        except OSError as error:
            raise DeviceError(
                f"{argv[0]} cannot be started",
                why=error.strerror,
                fix="check agent.python in the device file",
            ) from error
        self._stdin = _pipe(self._process.stdin)
        self._stdout = _pipe(self._process.stdout)
        stderr = _pipe(self._process.stderr)
        self._log = BoundedLog(lambda: _read(stderr), "agent-stderr")
        self._sending = threading.Lock()

    @property
    def pid(self) -> int:
        """The agent's process id."""
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Send a whole line."""
        rest = memoryview(line)
        with self._sending:
            if self._stdin.closed:
                raise BrokenPipeError("the agent's standard input is closed")
            while rest:
                rest = rest[self._stdin.write(rest) :]

    def receive(self) -> bytes:
        """Wait for bytes; b"" once the agent is gone."""
        return _read(self._stdout)

    def exit_status(self) -> int | None:
        """Return the exit status; it may follow the end of its output by a moment."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        return self._process.returncode

    def log(self) -> str:
        """Return the last lines of standard error."""
        return self._log.text()

    def close(self) -> None:
        """Close its standard input, wait, then terminate and kill."""
        with self._sending:
            self._stdin.close()
        end_process(self._process, GOODBYE_S)
        self._log.join(1.0)


def end_process(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Wait for a process that was asked to end; then terminate it, then kill it."""
    for insist in (None, process.terminate, process.kill):
        if insist is not None:
            insist()
        try:
            process.wait(timeout=grace_s)
            return
        except subprocess.TimeoutExpired:
            continue


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # Popen was told to make it
    return stream


def _read(stream: IO[bytes]) -> bytes:
    """Read what there is; the one thread that reads a pipe closes it at its end."""
    data = stream.read(CHUNK_BYTES) if not stream.closed else b""
    if not data:
        stream.close()
    return data
