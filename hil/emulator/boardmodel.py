"""The board's physics as the running machine needs it: what changes while the board runs.

The physics modules are pure functions of a `Board`; this file holds the state between calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hil.emulator.board import Clocks, Mode, load_board
from hil.emulator.noise import Seed
from hil.emulator.power import idle_power_w
from hil.emulator.sensor import Burst, RailSensors, os_bursts
from hil.emulator.thermal import ThermalState, cool

DENVER_CORES = (1, 2)
"""Which of a TX2's six cores are Denver cores; core 0 is an A57 and never off."""
CORES = 6
ZONE_ORDER = ("PLL", "MCPU", "PMIC", "Tboard", "GPU", "BCPU", "thermal", "Tdiode")
"""Order of the zones in recorded r32 lines of a TX2."""


@dataclass
class Condition:
    """What can change about the board.

    Attributes:
        mode: identifier of the power mode.
        pinned: whether `jetson_clocks` holds the clocks.
        idle_clocks: clocks while nothing runs.
        load_clocks: clocks under sustained load.
        thermal: heat in the module, and whether it has lowered the clocks.
        busy: whether the GPU has worked in the last second.
        derived_at_c: temperature at which engines last derived their figures.
    """

    mode: int
    pinned: bool
    idle_clocks: Clocks
    load_clocks: Clocks
    thermal: ThermalState
    busy: bool = False
    derived_at_c: float = 0.0

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
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.board = load_board(name)
        self.rails = tuple(rail.name for rail in self.board.sensor.rails)
        self.mode_ids = tuple(mode.id for mode in self.board.modes)
        self.default_mode = 0

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
        idle = mode.clocks(pinned=False)
        thermal = ThermalState(self.board.thermal.ambient_c)
        for _ in range(20):
            # Leakage follows temperature and temperature the power: a few turns settle it.
            power_w = idle_power_w(self.board, idle, thermal.temp_c)
            thermal = cool(self.board, power_w[self.board.sensor.total_rail])
        condition = Condition(mode.id, False, idle, mode.clocks(pinned=True), thermal)
        self.settle(condition)
        return condition

    def settle(self, condition: Condition) -> None:
        """Works out the clocks from mode, pinning and heat."""
        mode = self.board.mode(condition.mode)
        thermal = self.board.thermal
        condition.idle_clocks = condition.thermal.clocks(
            thermal, mode.clocks(pinned=condition.pinned)
        )
        condition.load_clocks = condition.thermal.clocks(
            thermal, mode.clocks(pinned=condition.pinned, busy=True)
        )
        condition.derived_at_c = condition.temp_c

    def set_mode(self, condition: Condition, mode: int) -> None:
        """Changes the power mode, which lets go of pinned clocks."""
        condition.mode = mode
        condition.pinned = False

    def warm(self, condition: Condition, power_w: float, span_s: float) -> None:
        """Lets the module's heat follow its power for some time."""
        condition.thermal = condition.thermal.step(self.board.thermal, power_w, span_s)

    def idle_w(self, condition: Condition) -> tuple[float, ...]:
        """Power of every rail while nothing runs."""
        power_w = idle_power_w(self.board, condition.idle_clocks, condition.temp_c)
        return tuple(power_w.get(rail, 0.0) for rail in self.rails)

    def sensors(self, condition: Condition) -> RailSensors:
        """Fresh power monitors that have settled at idle."""
        idle_w = dict(zip(self.rails, self.idle_w(condition), strict=True))
        return RailSensors(self.board.sensor, idle_w)

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
