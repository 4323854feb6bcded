"""How a process of the emulated board talks to the board daemon: JSON lines on a Unix socket.

Standard library only and quick to import, because every command of the board uses it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import Any

SOCKET_VARIABLE = "HIL_BOARD_SOCKET"
CLOCK_VARIABLE = "HIL_BOARD_CLOCK"


class BoardRefusedError(Exception):
    """The daemon says that the request cannot be met, in words for the person who made it."""


class BoardClient:
    """One connection to the daemon; calls are serialised, so threads may share it."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path if path is not None else os.environ[SOCKET_VARIABLE]
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(self._path)
        self._buffer = b""

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Makes one request and waits for its answer.

        Raises:
            BoardRefusedError: the daemon refused.
            OSError: the board is gone.
        """
        with self._lock:
            self.send({"op": operation, **parameters})
            answer = self.receive()
        if "error" in answer:
            raise BoardRefusedError(answer["error"])
        return answer

    def send(self, message: dict[str, Any]) -> None:
        """Sends one message without waiting."""
        self._socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Waits for one message.

        Raises:
            ConnectionError: the daemon closed the connection.
        """
        while b"\n" not in self._buffer:
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise ConnectionError("the emulated board is gone")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def fileno(self) -> int:
        """Lets `select` watch the connection."""
        return self._socket.fileno()

    def pending(self) -> bool:
        """Says whether a whole message has been received already."""
        return b"\n" in self._buffer

    def close(self) -> None:
        """Ends the connection; what the daemon held for it ends too."""
        self._socket.close()
