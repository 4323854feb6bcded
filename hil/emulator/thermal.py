"""How warm the board gets, and when that slows it down: one thermal mass, exact between changes."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from hil.emulator.board import Board, Clocks, Thermal


@dataclass(frozen=True)
class ThermalState:
    """Die temperature (what GPU@ reads), and whether the board has slowed itself down."""

    temp_c: float
    throttled: bool = False

    def step(self, thermal: Thermal, power_w: float, seconds: float) -> ThermalState:
        """Returns the state after some time at constant power.

        Args:
            thermal: the board's.
            power_w: what enters the module (VDD_IN).
            seconds: how long.
        """
        target = steady_c(thermal, power_w)
        temp = target + (self.temp_c - target) * exp(-seconds / thermal.tau_s)
        limit = thermal.release_c if self.throttled else thermal.throttle_c
        return ThermalState(temp, temp >= limit)

    def clocks(self, thermal: Thermal, asked: Clocks) -> Clocks:
        """Returns what the board really runs at, given what it was asked to."""
        if not self.throttled:
            return asked
        return Clocks(
            min(asked.gpu_mhz, thermal.throttle_gpu_mhz),
            asked.emc_mhz,
            min(asked.cpu_mhz, thermal.throttle_cpu_mhz),
            asked.cpu_cores,
        )

    def zones_c(self, thermal: Thermal) -> dict[str, float]:
        """Returns what the board's thermal zones read, by name, in half degrees."""
        read = {
            name: round(2.0 * (self.temp_c + offset)) / 2.0
            for name, offset in thermal.zone_offsets_c.items()
        }
        return {**read, **thermal.constant_zones_c}


def steady_c(thermal: Thermal, power_w: float) -> float:
    """Returns where the temperature settles at constant power."""
    return thermal.ambient_c + thermal.resistance_c_per_w * power_w


def cool(board: Board, idle_power_w: float) -> ThermalState:
    """Returns a board that has been idle for long."""
    return ThermalState(steady_c(board.thermal, idle_power_w))
