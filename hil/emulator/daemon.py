"""The board daemon: answers the board's processes on a Unix socket, one thread per connection."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from hil.emulator.client import BoardRefusedError
from hil.emulator.compute import Compute
from hil.emulator.control import Control
from hil.emulator.emitters import LineSource, MeterSource, Sleeper, period_ns
from hil.emulator.failing import Failing
from hil.emulator.faults import settings_of
from hil.emulator.machine import Machine
from hil.emulator.meter import meter_of
from hil.emulator.monitors import Nodes
from hil.emulator.noise import NS

LINE_TIMEOUT_S = 20.0
"""A program that has not dealt with its line by then is taken for dead; a start takes as long."""
WATCHER_LOOK_S = 0.5
ALONE_LOOK_S = 0.002
STALL_S = 60.0
"""A watcher for which nobody has moved the clock for so long of our time spends its own: whoever
started it seems to wait for it. Long, because a host may think between two requests."""

Message = dict[str, Any]
Source = LineSource | MeterSource | Sleeper


class Daemon(socketserver.ThreadingUnixStreamServer):
    """Serves one machine.

    Args:
        path: where the socket goes.
        machine: the board.
        root: the board's root folder.
        nodes: the power monitors' files.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, machine: Machine, root: Path, nodes: Nodes) -> None:
        self.machine = machine
        self.control = Control(machine, root, nodes)
        self.compute = Compute(machine)
        self.failing: Failing | None = None
        self.stall_s = STALL_S
        self.source_pids: set[int] = set()
        self.registered = threading.Condition()
        super().__init__(str(path), _Handler)

    def start(self) -> None:
        """Starts serving in the background."""
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(socketserver.StreamRequestHandler):
    server: Daemon

    def handle(self) -> None:
        """Answers requests until the process closes the connection or follows the clock."""
        sources = {"tegrastats": self._tegrastats, "meter": self._meter, "watch": self._watch}
        while line := self._line():
            request: Message = json.loads(line)
            operation = request.pop("op")
            if operation in sources:
                sources[operation](request)
                return
            self._answer(operation, request)

    def _line(self) -> bytes:
        try:
            return self.rfile.readline()
        except ConnectionResetError:  # a program that ended with an answer unread
            return b""

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
            "fault": self._fault,
            "monitors": lambda _: control.monitors(),
            "worked": lambda p: control.worked(p["registers"]),
            **self.server.compute.operations(),
        }

    def _fault(self, request: Message) -> Message:
        """Switches faults on or off, and tells which are on."""
        faults, failing = self.server.machine.faults, self.server.failing
        if request["action"] == "clear":
            faults.clear(request.get("name"))
        elif request["action"] == "begin":
            if failing is None:
                raise BoardRefusedError("this board takes no faults")
            failing.put(request["name"], settings_of(request["name"], request["settings"]))
        return {"faults": faults.listing()}

    def _wait_registered(self, request: Message) -> Message:
        pid, until = request["pid"], time.monotonic() + LINE_TIMEOUT_S
        with self.server.registered:
            while pid not in self.server.source_pids and time.monotonic() < until:
                if not _running(pid):
                    return {"registered": False}
                self.server.registered.wait(0.005)
            return {"registered": pid in self.server.source_pids}

    def _tegrastats(self, request: Message) -> None:
        machine = self.server.machine
        source = LineSource(
            self.connection,
            request["interval_ms"] * NS // 1000,
            machine.ticket("tegrastats"),
            machine.now_ns,
        )
        self._follow(source, request, source.interval_ns / NS)

    def _meter(self, request: Message) -> None:
        machine = self.server.machine
        meter = meter_of(machine.seed, machine.ticket("meter"))
        source = MeterSource(self.connection, period_ns(request["hz"]), meter, machine.now_ns)
        self._follow(source, request, source.period_ns / NS)

    def _watch(self, request: Message) -> None:
        machine = self.server.machine
        awake = {name: self._operations()[name] for name in ("condition", "monitors", "truth")}
        number = machine.ticket("sleeper")
        lines = cast(BinaryIO, self.rfile)
        source = Sleeper(self.connection, lines, number, awake, machine.now_ns)
        self._follow(source, {**request, "attended": True}, WATCHER_LOOK_S)

    def _follow(self, source: Source, request: Message, period_s: float) -> None:
        """Lets a program act at its times until it has ended."""
        machine, pid = self.server.machine, request["pid"]
        self.connection.settimeout(LINE_TIMEOUT_S)
        machine.watch(source)
        with self.server.registered:
            self.server.source_pids.add(pid)
            self.server.registered.notify_all()
        machine.advance(0, [])
        alone, still_ns, since = not request["attended"], machine.now_ns, time.monotonic()
        while source.alive:
            time.sleep(period_s)
            if machine.now_ns != still_ns:
                still_ns, since = machine.now_ns, time.monotonic()
            elif isinstance(source, Sleeper) and time.monotonic() - since > self.server.stall_s:
                alone, period_s = True, ALONE_LOOK_S
            if not _running(pid):
                source.alive = False
            elif alone:
                # Nobody in the board's time reads it: let time pass as outside.
                machine.advance(source.next_ns, [])
        with self.server.registered:
            self.server.source_pids.discard(pid)


def _running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")
