"""What the board's administration commands do: power mode, clocks, reset."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hil.emulator.boardmodel import Condition
from hil.emulator.client import BoardRefusedError
from hil.emulator.machine import Machine
from hil.emulator.monitors import Nodes

Message = dict[str, Any]


class Control:
    """Answers `nvpmodel`, `jetson_clocks` and `hil-board`.

    Args:
        machine: the board.
        root: the board's root folder, for the file that `jetson_clocks` stores.
        nodes: the power monitors' files.
    """

    def __init__(self, machine: Machine, root: Path, nodes: Nodes) -> None:
        self._machine = machine
        self._root = root
        self._nodes = nodes

    def condition(self) -> Message:
        """The board's state, for programs that show it and engines that derive figures from it."""
        with self._machine.lock:
            condition = self._machine.condition
            return {
                "mode": condition.mode,
                "mode_name": self._machine.model.mode_name(condition.mode),
                "mode_set": condition.mode_set,
                "pinned": condition.pinned,
                "temp_c": condition.temp_c,
                "throttled": condition.thermal.throttled,
                "clocks": asdict(condition.peak_clocks),
                "idle_clocks": asdict(condition.idle_clocks),
                "board_seed": self._machine.seed.board,
                "reset_seed": self._machine.seed.reset,
                "board": self._machine.model.name,
                "rails": list(self._machine.model.rails),
                "memory": self._memory(),
            }

    def _memory(self) -> Message:
        memory = self._machine.model.board.memory
        usable = memory.total_bytes - memory.reserved_bytes
        return {"total_bytes": memory.total_bytes, "usable_bytes": usable}

    def nvpmodel(self, mode: int | None) -> Message:
        """Queries the power mode, or sets it; setting it lets go of pinned clocks."""
        if mode is not None:
            if mode not in self._machine.model.mode_ids:
                raise BoardRefusedError(f"power model {mode} is not in /etc/nvpmodel.conf")
            self._machine.change(lambda each: self._machine.model.set_mode(each, mode))
        return self.condition()

    def clocks(self, action: str, file: str | None) -> Message:
        """Pins, stores or restores the clocks; `show` only looks."""
        if action == "pin":
            self._pin(pinned=True)
        elif action == "store":
            stored = {"pinned": self._machine.condition.pinned}
            self._file(file).write_text(json.dumps(stored))
        elif action == "restore":
            path = self._file(file)
            if not path.exists():
                raise BoardRefusedError(f"Error: {file} doesn't exist")
            self._pin(pinned=bool(json.loads(path.read_text())["pinned"]))
        return self.condition()

    def _file(self, file: str | None) -> Path:
        allowed = self._root / "var/lib/hil/clocks.conf"
        if file is None or Path(file) not in (allowed, Path("/var/lib/hil/clocks.conf")):
            raise BoardRefusedError(f"only {allowed} may be written")
        return allowed

    def _pin(self, *, pinned: bool) -> None:
        def alter(condition: Condition) -> None:
            condition.pinned = pinned

        self._machine.change(alter)

    def monitors(self) -> Message:
        """Writes what the power monitors say now into their nodes."""
        with self._machine.lock:
            self._machine.settle()
            registers = self._machine.monitors()
        if registers is not None:
            self._nodes.write(registers)
        return {"dead": registers is None}

    def worked(self, registers: int) -> Message:
        """Takes in that a program has read so many of the monitors' registers just now."""
        with self._machine.lock:
            self._machine.settle()
            self._machine.work(self._machine.model.reading_ns(registers))
        return self.monitors()

    def reset(self, seed: int) -> Message:
        """Cools and reboots the board and reseeds its noise (see `Machine.reset`)."""
        self._machine.reset(seed)
        return self.condition()
