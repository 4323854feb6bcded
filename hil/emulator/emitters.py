"""What happens on the board at its own times: tegrastats lines, readings of a meter, sleepers.

Each is fired by whoever moves the clock, which stands still until the program has dealt with it.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from hil.emulator import statline
from hil.emulator.client import BoardRefusedError
from hil.emulator.machine import Machine
from hil.emulator.meter import Meter
from hil.emulator.noise import NS

Message = dict[str, Any]
WAKE_US = (40.0, 160.0)
"""How late a sleeping program is woken. Assumed: timer slack and a wake-up on a preemptible
kernel."""


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
    use: statline.Since = field(default_factory=statline.Since)

    def fire(self, machine: Machine, now_ns: int) -> bool:
        """Has the process print one line while the clock stands still."""
        if gone(self.connection):
            self.alive = False
            return False
        reading = {**statline.reading(machine, self.lines, self.use), **self._faulty(machine)}
        self.alive = exchange(self.connection, reading)
        if not self.alive:
            return False
        work_ns = statline.work_ns(machine.seed, self.number, self.lines)
        machine.work(work_ns)
        self.next_ns = now_ns + self.interval_ns + work_ns
        self.lines += 1
        return True

    def _faulty(self, machine: Machine) -> Message:
        """What is to go wrong with this line."""
        dies = machine.faults.on("tegrastats-dies")
        if dies is not None and self.lines >= dies["lines"]:
            machine.faults.take("tegrastats-dies")
            return {"exit": int(dies["status"])}
        half = machine.faults.on("tegrastats-half")
        if half is not None and self.lines % max(1, int(half["every"])) == half["every"] - 1:
            return {"share": half["share"]}
        return {}


@dataclass
class MeterSource:
    """A running `meter`: it gets the mean true power since its last line.

    Args:
        connection: the process's socket.
        period_ns: from line to line.
        meter: the instrument.
        next_ns: when the next line is due; the first one tells the power at that moment.
    """

    connection: socket.socket
    period_ns: int
    meter: Meter
    next_ns: int
    alive: bool = True

    def fire(self, machine: Machine, now_ns: int) -> bool:
        """Has the process print one line while the clock stands still."""
        machine.settle()
        time_s, watts = self.meter.read(now_ns, machine.timeline.total.energy_j, machine.total_w())
        self.alive = exchange(self.connection, {"time_s": time_s, "watts": watts})
        self.next_ns = now_ns + self.period_ns
        return self.alive


@dataclass
class Sleeper:
    """A program that reads the power monitors and sleeps in time that somebody else spends.

    Awake it is served here, with the clock standing still, until it sleeps again.

    Args:
        connection: the process's socket.
        lines: the same, to read from.
        number: which of its kind since the reset this is.
        operations: what it may ask while awake.
        next_ns: when it wakes.
    """

    connection: socket.socket
    lines: BinaryIO
    number: int
    operations: dict[str, Callable[[Message], Message]]
    next_ns: int
    wakes: int = 0
    alive: bool = True

    def fire(self, machine: Machine, now_ns: int) -> bool:
        """Wakes the process and serves it until it sleeps again."""
        self.wakes += 1
        if self.wakes > 1:
            self.operations["monitors"]({})
        with contextlib.suppress(OSError, ValueError):
            self._say({"woken": now_ns})
            while line := self.lines.readline():
                request: Message = json.loads(line)
                operation = request.pop("op")
                if operation == "sleep":
                    self._sleep(machine, now_ns, **request)
                    return True
                self._say(self._answer(operation, request))
        self.alive = False
        return False

    def _sleep(self, machine: Machine, now_ns: int, span_ns: int, registers: int) -> None:
        work_ns = machine.model.reading_ns(registers)
        machine.work(work_ns)
        draw = machine.seed.stdlib("sleeper", self.number, self.wakes)
        late_ns = round(draw.uniform(*WAKE_US) * 1000)
        self.next_ns = now_ns + work_ns + span_ns + late_ns

    def _answer(self, operation: str, request: Message) -> Message:
        if operation not in self.operations:
            return {"error": f"a program that watches the board may not ask for {operation}"}
        try:
            return self.operations[operation](request)
        except BoardRefusedError as error:
            return {"error": str(error)}

    def _say(self, message: Message) -> None:
        self.connection.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")


def gone(connection: socket.socket) -> bool:
    """Whether the other end has hung up."""
    try:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):  # ValueError: closed at this end
        return True


def exchange(connection: socket.socket, message: Message) -> bool:
    """Sends a message and waits for the word that it has been dealt with; False: it is gone."""
    try:
        connection.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        return connection.recv(64).endswith(b"\n")
    except OSError:
        return False


def period_ns(hz: float) -> int:
    """The time from line to line at a rate."""
    return round(NS / hz)
