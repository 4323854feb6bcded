"""The board's physics as the running machine needs it: what changes while the board runs.

The physics modules are pure functions of a `Board`; this file holds the state between calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hil.emulator.board import Board, Clocks, Mode, load_board
from hil.emulator.hostile.quirks import SYSTEM_MB
from hil.emulator.noise import NS, Seed
from hil.emulator.power import Activity, idle_power_w, rail_power_w
from hil.emulator.sensor import Burst, RailSensors, os_bursts, specimen
from hil.emulator.thermal import ThermalState, cool

DENVER_CORES = (1, 2)
"""Which of a TX2's six cores are Denver cores; core 0 is an A57 and never off."""
CORES = 6
GOVERNOR_LEVELS = 4
GOVERNOR_NS = 50_000_000
"""Free clocks rise by a level for each tick that saw work, and fall by one for each that saw
none: 200 ms from idle to full. Assumed; the kernel's governors poll at some tens of ms."""
ZONE_ORDER = ("PLL", "MCPU", "PMIC", "Tboard", "GPU", "BCPU", "thermal", "Tdiode")
"""Order of the zones in recorded r32 lines of a TX2."""


@dataclass
class Condition:
    """What can change about the board.

    Attributes:
        mode: identifier of the power mode.
        pinned: whether `jetson_clocks` holds the clocks.
        idle_clocks: clocks while nothing runs.
        load_clocks: clocks under load at this moment.
        peak_clocks: clocks under sustained load.
        thermal: heat in the module, and whether it has lowered the clocks.
        busy: whether the GPU has worked in the last second.
        derived_at_c: temperature at which engines last derived their figures.
        other_gpu: share of the GPU that somebody else's program takes.
        mode_set: whether somebody has set the power mode since the boot.
        level: how far the governors have raised free clocks, 0 to `GOVERNOR_LEVELS`.
    """

    mode: int
    pinned: bool
    idle_clocks: Clocks
    load_clocks: Clocks
    peak_clocks: Clocks
    thermal: ThermalState
    busy: bool = False
    derived_at_c: float = 0.0
    level: int = 0
    other_gpu: float = 0.0
    mode_set: bool = False

    @property
    def temp_c(self) -> float:
        """Temperature of the GPU zone."""
        return self.thermal.temp_c

    def clocks(self, *, loaded: bool) -> Clocks:
        """The clocks at this moment; without pinning, the governors raise them under load."""
        return self.load_clocks if loaded else self.idle_clocks


class BoardModel:
    """One kind of board.

    Args:
        name: a shipped board or a path to a board file.
        sensor_mode: "continuous" (the monitors average) or "triggered" (each reading starts a
            conversion of its own), None for the board file's.
    """

    def __init__(self, name: str, sensor_mode: str | None = None) -> None:
        self.name = name
        self.board = _in_mode(load_board(name), sensor_mode)
        self.rails = tuple(rail.name for rail in self.board.sensor.rails)
        self.mode_ids = tuple(mode.id for mode in self.board.modes)
        self.default_mode = 0
        self.boot_pinned = False
        self.system_mb = SYSTEM_MB

    @property
    def averaging(self) -> bool:
        """Whether the power monitors run freely and average, as `running_mode` 1 says."""
        return self.board.sensor.tau_s > 0

    def mode_name(self, mode: int) -> str:
        """The name that nvpmodel prints."""
        return self.board.mode(mode).name

    def boot(self) -> Condition:
        """The state after a boot: default mode, free clocks, cooled down at idle."""
        mode = self.board.mode(self.default_mode)
        idle = mode.clocks(pinned=self.boot_pinned)
        thermal = ThermalState(self.board.thermal.ambient_c)
        for _ in range(20):
            # Leakage follows temperature and temperature the power: a few turns settle it.
            power_w = idle_power_w(self.board, idle, thermal.temp_c)
            thermal = cool(self.board, power_w[self.board.sensor.total_rail])
        peak = mode.clocks(pinned=True)
        condition = Condition(mode.id, self.boot_pinned, idle, peak, peak, thermal)
        self.settle(condition)
        return condition

    def settle(self, condition: Condition) -> None:
        """Works out the clocks from mode, pinning and heat."""
        mode = self.board.mode(condition.mode)
        thermal = self.board.thermal
        condition.idle_clocks = condition.thermal.clocks(
            thermal, mode.clocks(pinned=condition.pinned)
        )
        condition.peak_clocks = condition.thermal.clocks(
            thermal, mode.clocks(pinned=condition.pinned, busy=True)
        )
        level = GOVERNOR_LEVELS if condition.pinned else condition.level
        condition.load_clocks = self._between(condition.idle_clocks, condition.peak_clocks, level)
        condition.derived_at_c = condition.temp_c

    def _between(self, idle: Clocks, peak: Clocks, level: int) -> Clocks:
        """What the governors have come to on their way from idle to full clocks."""
        share = level / GOVERNOR_LEVELS
        if share >= 1.0:
            return peak
        wanted = idle.gpu_mhz + share * (peak.gpu_mhz - idle.gpu_mhz)
        steps = [mhz for mhz in self.board.gpu.clock_steps_mhz if mhz <= wanted]
        return Clocks(
            max([idle.gpu_mhz, *steps]),
            idle.emc_mhz + share * (peak.emc_mhz - idle.emc_mhz),
            idle.cpu_mhz + share * (peak.cpu_mhz - idle.cpu_mhz),
            peak.cpu_cores,
        )

    def govern(self, condition: Condition, *, busy: bool) -> bool:
        """Lets the governors take a step; True where it changed a clock."""
        target = condition.level + (1 if busy else -1)
        target = max(0, min(GOVERNOR_LEVELS, target))
        changed = target != condition.level
        condition.level = target
        return changed and not condition.pinned

    def set_mode(self, condition: Condition, mode: int) -> None:
        """Changes the power mode, which lets go of pinned clocks."""
        condition.mode, condition.mode_set = mode, True
        condition.pinned = False
        condition.level = 0

    def warm(self, condition: Condition, power_w: float, span_s: float) -> None:
        """Lets the module's heat follow its power for some time."""
        condition.thermal = condition.thermal.step(self.board.thermal, power_w, span_s)

    def idle_w(self, condition: Condition) -> tuple[float, ...]:
        """Power of every rail while nothing runs."""
        other = condition.other_gpu
        clocks = condition.load_clocks if other else condition.idle_clocks
        doing = Activity(gpu_busy=other, submitting=other)
        power_w = rail_power_w(self.board, clocks, condition.temp_c, doing)
        return tuple(power_w.get(rail, 0.0) for rail in self.rails)

    def sensors(self, condition: Condition, board_seed: int) -> RailSensors:
        """Fresh power monitors of one board that have settled at idle."""
        idle_w = dict(zip(self.rails, self.idle_w(condition), strict=True))
        own = specimen(self.board.sensor, Seed(board_seed, 0).stdlib("sensors"))
        return RailSensors(own, idle_w)

    def working_w(self, condition: Condition) -> tuple[float, ...]:
        """What a program at work on one core adds to every rail."""
        clocks = condition.load_clocks if condition.busy else condition.idle_clocks
        working = rail_power_w(self.board, clocks, condition.temp_c, Activity(submitting=1.0))
        resting = idle_power_w(self.board, clocks, condition.temp_c)
        return tuple(working.get(rail, 0.0) - resting.get(rail, 0.0) for rail in self.rails)

    def reading_ns(self, registers: int) -> int:
        """How long a program takes to read so many of the monitors' registers."""
        sensor = self.board.sensor
        # In triggered mode each node read (two registers of power) starts a conversion first.
        waited_us = 0.0 if self.averaging else sensor.conversion_us * (registers + 1) // 2
        return round((registers * sensor.register_us + waited_us) * NS / 1e6)

    def background(self, seed: Seed, start_ns: int) -> Iterator[Burst]:
        """The operating system's bursts of work."""
        return os_bursts(self.board.noise, seed.stdlib("bursts"), start_ns)

    def zones(self, condition: Condition) -> list[tuple[str, float]]:
        """What the thermal zones read, in the order that tegrastats prints them."""
        read = condition.thermal.zones_c(self.board.thermal)
        known = [(name, read[name]) for name in ZONE_ORDER if name in read]
        return known + [(name, value) for name, value in read.items() if name not in ZONE_ORDER]

    def cores_online(self, condition: Condition) -> list[bool]:
        """Which cores the power mode leaves on, by number."""
        return online(self.board.mode(condition.mode))


def online(mode: Mode) -> list[bool]:
    """Which of the six cores a mode leaves on: Denver cores 1 and 2, A57 cores 0, 3, 4, 5."""
    a57 = [core for core in range(CORES) if core not in DENVER_CORES]
    on = {*DENVER_CORES[: mode.denver_cores], *a57[: mode.a57_cores]}
    return [core in on for core in range(CORES)]


def _in_mode(board: Board, sensor_mode: str | None) -> Board:
    if sensor_mode != "triggered":
        return board
    return board.model_copy(update={"sensor": board.sensor.model_copy(update={"tau_s": 0.0})})
