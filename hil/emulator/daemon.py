"""The board daemon: answers the board's processes on a Unix socket, one thread per connection."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.emulator import statline
from hil.emulator.client import BoardRefusedError
from hil.emulator.compute import Compute
from hil.emulator.control import Control
from hil.emulator.machine import Machine
from hil.emulator.noise import NS
from hil.emulator.timeline import Use

LINE_TIMEOUT_S = 10.0
"""A tegrastats that has not dealt with its line by then is taken for dead."""

Message = dict[str, Any]


@dataclass
class LineSource:
    """A running tegrastats: it gets a reading whenever its next line is due.

    Args:
        connection: the process's socket; nobody else reads from it once this exists.
        interval_ns: what `--interval` asked for.
        number: which tegrastats since the reset this is.
        next_ns: when the next line is due.
    """

    connection: socket.socket
    interval_ns: int
    number: int
    next_ns: int
    lines: int = 0
    alive: bool = True
    use: Use = field(default_factory=Use)

    def fire(self, machine: Machine, now_ns: int) -> bool:
        """Has the process print one line while the clock stands still."""
        try:
            reading = statline.reading(machine, self.lines)
            self.connection.sendall(json.dumps(reading).encode() + b"\n")
            self.alive = self.connection.recv(64).endswith(b"\n")
        except OSError:
            self.alive = False
        work_ns = statline.work_ns(machine.seed, self.number, self.lines)
        self.next_ns = now_ns + self.interval_ns + work_ns
        self.lines += 1
        return self.alive


class Daemon(socketserver.ThreadingUnixStreamServer):
    """Serves one machine.

    Args:
        path: where the socket goes.
        machine: the board.
        root: the board's root folder.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, machine: Machine, root: Path) -> None:
        self.machine = machine
        self.control = Control(machine, root)
        self.compute = Compute(machine)
        self.tegrastats_pids: set[int] = set()
        self.registered = threading.Condition()
        super().__init__(str(path), _Handler)

    def start(self) -> None:
        """Starts serving in the background."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(socketserver.StreamRequestHandler):
    server: Daemon

    def handle(self) -> None:
        """Answers requests until the process closes the connection or becomes a tegrastats."""
        while line := self.rfile.readline():
            request: Message = json.loads(line)
            operation = request.pop("op")
            if operation == "tegrastats":
                self._tegrastats(request)
                return
            self._answer(operation, request)

    def _answer(self, operation: str, request: Message) -> None:
        try:
            answer = self._operations()[operation](request)
        except BoardRefusedError as error:
            answer = {"error": str(error)}
        with contextlib.suppress(OSError):
            self.wfile.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")

    def _operations(self) -> dict[str, Callable[[Message], Message]]:
        machine, control = self.server.machine, self.server.control
        return {
            "advance": lambda p: {"now": machine.advance(p["to"], p.get("segments", []))},
            "condition": lambda _: control.condition(),
            "registered": self._wait_registered,
            "nvpmodel": lambda p: control.nvpmodel(p.get("mode")),
            "clocks": lambda p: control.clocks(p["action"], p.get("file")),
            "reset": lambda p: control.reset(p["seed"]),
            "truth": lambda _: machine.truth(),
            **self.server.compute.operations(),
        }

    def _wait_registered(self, request: Message) -> Message:
        pid, until = request["pid"], time.monotonic() + LINE_TIMEOUT_S
        with self.server.registered:
            while pid not in self.server.tegrastats_pids and time.monotonic() < until:
                if not _running(pid):
                    return {"registered": False}
                self.server.registered.wait(0.005)
            return {"registered": pid in self.server.tegrastats_pids}

    def _tegrastats(self, request: Message) -> None:
        machine = self.server.machine
        self.connection.settimeout(LINE_TIMEOUT_S)
        source = LineSource(
            self.connection,
            request["interval_ms"] * NS // 1000,
            machine.ticket("tegrastats"),
            machine.now_ns,
        )
        machine.watch(source)
        with self.server.registered:
            self.server.tegrastats_pids.add(request["pid"])
            self.server.registered.notify_all()
        machine.advance(0, [])
        self._accompany(source, request["pid"], attended=request["attended"])
        with self.server.registered:
            self.server.tegrastats_pids.discard(request["pid"])

    def _accompany(self, source: LineSource, pid: int, *, attended: bool) -> None:
        """Stays with a tegrastats until it has ended."""
        while source.alive:
            time.sleep(source.interval_ns / NS)
            if not attended:
                # Nobody in the board's time reads it: let time pass as outside.
                self.server.machine.advance(source.next_ns, [])
            elif not _running(pid):
                source.alive = False


def _running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")
