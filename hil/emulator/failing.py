"""What a fault does to the board itself; what the network does is in `hil.emulator.wirefaults`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from hil.emulator import clockfile
from hil.emulator.boardmodel import Condition
from hil.emulator.faults import AFTER, Settings
from hil.emulator.machine import Machine
from hil.emulator.noise import NS
from hil.emulator.thermal import ThermalState
from hil.emulator.wirefaults import Wire

ANSWER_S = 0.2
"""Of our time, in which whoever asked for a reboot still gets an answer."""
VOLATILE = ("tmp", "run/lock")


@dataclass
class FaultTimer:
    """Switches a fault on when the board's time has come; a reset starts the wait anew."""

    machine: Machine
    name: str
    settings: Settings
    next_ns: int = 0

    def __post_init__(self) -> None:
        self._generation = self.machine.generation
        self.next_ns = self._due(self.machine.now_ns)

    def _due(self, now_ns: int) -> int:
        return now_ns + round(self.settings[AFTER] * NS)

    def fire(self, machine: Machine, now_ns: int) -> bool:
        """Begins the fault."""
        if machine.generation != self._generation:
            self._generation = machine.generation
            self.next_ns = self._due(now_ns)
            return True
        machine.faults.begin(self.name, self.settings)
        return False


class Failing:
    """Carries out the faults of one board.

    Args:
        machine: the board.
        root: its root folder.
        socket_path: where its programs reach it, by which they are known.
        wire: its network.
    """

    def __init__(self, machine: Machine, root: Path, socket_path: Path, wire: Wire) -> None:
        self._machine, self._root, self._wire = machine, root, wire
        self._socket_path = str(socket_path)
        faults = machine.faults
        faults.does("reboot", self._reboot)
        faults.does("sensor-stuck", lambda _: machine.freeze(True), lambda: machine.freeze(False))
        faults.does("throttle", self._heat)
        faults.does("clock-step", self._step_clock, lambda: self._word(clockfile.WALL, 0))
        full, room = (
            lambda _: self._word(clockfile.DISK, 1),
            lambda: self._word(clockfile.DISK, 0),
        )
        faults.does("disk-full", full, room)
        faults.does("oom-kill", lambda _: kill_largest(machine))
        faults.does("other-user", self._share_gpu, lambda: self._share_gpu({"share": 0.0}))

    def put(self, name: str, settings: Settings) -> None:
        """Switches a fault on, now or once board time has passed."""
        if settings[AFTER] > 0:
            self._machine.watch(FaultTimer(self._machine, name, settings))
        else:
            self._machine.faults.begin(name, settings)

    def _word(self, word: int, value: int) -> None:
        self._machine.words[word] = value

    def _step_clock(self, settings: Settings) -> None:
        self._word(clockfile.WALL, round(settings["seconds"] * NS))

    def _heat(self, settings: Settings) -> None:
        self._machine.faults.take("throttle")
        temp_c = settings["temp_c"]
        limit_c = self._machine.model.board.thermal.throttle_c

        def heat(condition: Condition) -> None:
            condition.thermal = ThermalState(temp_c, temp_c >= limit_c)

        self._machine.change(heat)

    def _share_gpu(self, settings: Settings) -> None:
        share = min(0.95, max(0.0, settings["share"]))

        def begin(condition: Condition) -> None:
            condition.other_gpu = share

        self._machine.change(begin)

    def _reboot(self, settings: Settings) -> None:
        self._machine.faults.take("reboot")
        # Whoever moved the clock holds its lock now: the board goes down beside it.
        threading.Thread(target=self._go_down, args=(settings["down_s"],), daemon=True).start()

    def _go_down(self, down_s: float) -> None:
        time.sleep(ANSWER_S)
        self._wire.cut(down_s)
        kill_processes(self._socket_path)
        self._machine.reset(self._machine.seed.reset)
        for name in VOLATILE:
            for entry in (self._root / name).iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
        boot_id = self._root / "proc/sys/kernel/random/boot_id"
        boot_id.write_text(f"{uuid.uuid4()}\n")


def kill_largest(machine: Machine) -> None:
    """Kills the program that holds the most device memory; with none, the next one to come."""
    words = machine.words
    slots = range(clockfile.SLOTS, clockfile.PIPES, clockfile.SLOT_WORDS)
    held = {
        words[slot + clockfile.SLOT_PID]: words[slot + clockfile.SLOT_MEMORY]
        for slot in slots
        if words[slot + clockfile.SLOT_MEMORY] > 0
    }
    alive = {pid: size for pid, size in held.items() if clockfile.alive(pid)}
    if not alive:
        return
    machine.faults.take("oom-kill")
    with contextlib.suppress(ProcessLookupError):
        os.kill(max(alive, key=lambda pid: alive[pid]), signal.SIGKILL)


def kill_processes(socket_path: str) -> None:
    """Ends what runs on the board."""
    for pid in processes(socket_path):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def processes(socket_path: str) -> dict[int, str]:
    """Processes whose environment names the board's socket: pid and command line."""
    marker = f"HIL_BOARD_SOCKET={socket_path}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if marker in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = command.decode(errors="replace").strip()
    return found
