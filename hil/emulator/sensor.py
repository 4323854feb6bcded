"""What the board's power monitors make of true power: lag, register steps, and the system's noise.

Rule of this file: pure; time comes in as durations or as stamps, randomness as a generator.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import exp

from hil.emulator.board import Noise, Rail, Sensor

NS = 1_000_000_000
BUS_STEP_MV = 8
"""Step of the INA3221's bus voltage register (data sheet)."""
SHUNT_STEP_UV = 40.0
"""Step of its shunt voltage register (data sheet); one of them is a rail's `lsb_ma`."""


@dataclass
class LagFilter:
    """A first-order lag, exact over stretches of constant input.

    The monitor's running average (new = old + (x - old) / N) is such a lag. A time constant of
    0 follows at once, as the monitor does when each reading triggers its own conversion.
    """

    tau_s: float
    value: float

    def advance(self, power_w: float, seconds: float) -> float:
        """Holds the input at `power_w` for some time and returns the output at its end."""
        if self.tau_s <= 0.0:
            self.value = power_w
        else:
            kept = exp(-seconds / self.tau_s)
            self.value = power_w + (self.value - power_w) * kept
        return self.value


def bus_mv(rail: Rail, input_w: float) -> int:
    """Returns what the monitor's voltage register holds while the module draws `input_w`.

    The supply and its cable have a resistance: the bus voltage falls with the input current.
    """
    dropped = rail.droop_mohm * input_w / rail.bus_mv * 1e3 if rail.droop_mohm else 0.0
    return BUS_STEP_MV * round((rail.bus_mv - dropped) / BUS_STEP_MV)


def quantise_mw(rail: Rail, power_w: float, input_w: float = 0.0) -> int:
    """Returns the milliwatts a rail's monitor reports for a true power.

    The current is rounded to the register's step, and the product with the bus voltage is cut
    to whole milliwatts, as the kernel driver does. Readings never fall below zero.

    Args:
        rail: the monitor's channel.
        power_w: what the rail carries.
        input_w: what the whole module draws.
    """
    return registers(rail, power_w, input_w).mw


@dataclass(frozen=True)
class Registers:
    """What one channel's nodes read: millivolts, milliamperes, milliwatts."""

    mv: int
    ma: int
    mw: int


def registers(rail: Rail, power_w: float, input_w: float = 0.0) -> Registers:
    """Returns what a rail's monitor holds for a true power (see `quantise_mw`)."""
    volts_mv = bus_mv(rail, input_w)
    current_ma = power_w * 1e6 / volts_mv * rail.gain + rail.offset_ma
    steps = max(0, round(current_ma / rail.lsb_ma))
    milliamperes = steps * rail.lsb_ma
    return Registers(volts_mv, milliamperes, volts_mv * milliamperes // 1000)


def specimen(sensor: Sensor, rng: random.Random) -> Sensor:
    """One board's own monitors: every channel's offset and gain drawn from the stated tolerances.

    Normal, a third of the limit wide and cut there: the limits are what no good part exceeds.
    """

    def drawn(limit: float) -> float:
        return max(-limit, min(limit, rng.gauss(0.0, limit / 3.0)))

    rails = tuple(
        rail.model_copy(
            update={
                "offset_ma": rail.offset_ma + drawn(sensor.offset_uv / SHUNT_STEP_UV * rail.lsb_ma),
                "gain": rail.gain * (1.0 + drawn(sensor.gain_error) + drawn(sensor.shunt_error)),
            }
        )
        for rail in sensor.rails
    )
    return sensor.model_copy(update={"rails": rails})


class RailSensors:
    """All monitors of a board: feed them true power, read them as sysfs would be read."""

    def __init__(self, sensor: Sensor, power_w: Mapping[str, float]) -> None:
        self._rails = sensor.rails
        self._total = sensor.total_rail
        self._lags = {
            rail.name: LagFilter(sensor.tau_s, power_w.get(rail.name, 0.0)) for rail in sensor.rails
        }

    def advance(self, power_w: Mapping[str, float], seconds: float) -> None:
        """Holds every rail at a true power (watts) for some time."""
        for name, lag in self._lags.items():
            lag.advance(power_w.get(name, 0.0), seconds)

    def read(self) -> dict[str, Registers]:
        """Returns what the monitors hold now, by rail, in the board's order."""
        input_w = self._lags[self._total].value
        return {
            rail.name: registers(rail, self._lags[rail.name].value, input_w) for rail in self._rails
        }

    def errors(self) -> dict[str, dict[str, float]]:
        """What each channel is off by, for tests: offset in mA, gain over the true one."""
        return {rail.name: {"offset_ma": rail.offset_ma, "gain": rail.gain} for rail in self._rails}

    def read_mw(self) -> dict[str, int]:
        """Returns the milliwatts of `read`, which is what tegrastats prints."""
        return {name: values.mw for name, values in self.read().items()}


@dataclass(frozen=True)
class Burst:
    """Background work of the operating system: watts that VDD_IN shows on top, for a while."""

    start_ns: int
    stop_ns: int
    power_w: float


def mean_burst_w(noise: Noise) -> float:
    """What the system's bursts add to VDD_IN in the long mean, in watts."""
    lasting_s, watts = sum(noise.burst_seconds) / 2, sum(noise.burst_w) / 2
    return watts * lasting_s / (noise.burst_period_s + lasting_s)


def os_bursts(noise: Noise, rng: random.Random, start_ns: int) -> Iterator[Burst]:
    """Yields the system's bursts from a moment on, for ever, in order and never overlapping."""
    at_ns = start_ns
    while True:
        at_ns += round(rng.expovariate(1.0 / noise.burst_period_s) * NS)
        stop_ns = at_ns + round(rng.uniform(*noise.burst_seconds) * NS)
        yield Burst(at_ns, stop_ns, rng.uniform(*noise.burst_w))
        at_ns = stop_ns
