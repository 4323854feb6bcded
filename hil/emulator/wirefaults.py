"""The network between the board and its users, as far as it can fail: cuts, slowness, silence."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

from hil.emulator.faults import Faults, Settings


class Wire:
    """All connections of the board.

    Args:
        faults: what is to go wrong.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._sent = 0
        self._down_until = 0.0
        faults.does("link-cut", self._aim)

    @property
    def up(self) -> bool:
        """Whether anything answers."""
        return time.monotonic() >= self._down_until

    def attach(self, connection: socket.socket) -> Any:
        """Puts a connection under the faults; the result stands for it."""
        with self._lock:
            self._open.add(connection)
        return _Faulty(connection, self)

    def detach(self, connection: Any) -> None:
        """Forgets a connection that has ended."""
        with self._lock:
            self._open.discard(getattr(connection, "_socket", connection))

    def cut(self, down_s: float = 0.0) -> None:
        """Ends every connection at once, without a word, and answers nobody for a while."""
        self._down_until = time.monotonic() + down_s
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def sending(self, size: int) -> int:
        """To be asked before bytes leave; tells how many of them still may."""
        slow = self._faults.on("slow-link")
        if slow is not None:
            time.sleep(slow["delay_ms"] / 1e3 + size / max(1.0, slow["bytes_per_s"]))
        with self._lock:
            cut = self._faults.on("link-cut")
            allowed = size if cut is None else max(0, min(size, int(cut["bytes"]) - self._sent))
            self._sent += allowed
        if cut is not None and allowed < size:
            self._faults.take("link-cut")
            self._sent = 0
            self.cut(cut["down_s"])
        return allowed

    def _aim(self, settings: Settings) -> None:
        with self._lock:
            self._sent = 0
        if settings["bytes"] <= 0:
            self._faults.take("link-cut")
            self.cut(settings["down_s"])


class _Faulty:
    """A socket whose sending goes through the faults."""

    def __init__(self, connection: socket.socket, wire: Wire) -> None:
        self._socket = connection
        self._wire = wire

    def send(self, data: bytes, *flags: int) -> int:
        """Sends what may still leave; the rest is lost with the link."""
        allowed = self._wire.sending(len(data))
        if allowed < len(data):
            with contextlib.suppress(OSError):
                self._socket.sendall(data[:allowed])
            raise ConnectionResetError("the link was cut")
        return self._socket.send(data, *flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)
