"""An external power meter in the board's supply line: true power, with an error of its own.

It integrates, as such instruments do: each reading is the mean since the one before. It knows
nothing of the board's sensors, and its clock is its own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hil.emulator.noise import NS, Seed

GAIN_SD = 0.002
"""Assumed: a bench meter of a few tenths of a percent."""
OFFSET_SD_W = 0.002
NOISE_SD_W = 0.005
CLOCK_OFFSET_S = (1000.0, 9000.0)
"""The meter has been on since another moment than the board."""
CLOCK_DRIFT_SD = 20e-6
"""Assumed: two crystals, tens of parts per million apart."""


@dataclass
class Meter:
    """One instrument.

    Attributes:
        gain: what it shows over what is true.
        offset_w: what it shows on top.
        clock_offset_s, clock_drift: its clock is (1 + drift) x the board's + offset.
        noise: generator of each reading's own error.
    """

    gain: float
    offset_w: float
    clock_offset_s: float
    clock_drift: float
    noise: random.Random
    last: tuple[int, float] | None = None

    def read(self, now_ns: int, total_j: float, power_w: float) -> tuple[float, float]:
        """Reads (its own time in seconds, watts).

        Args:
            now_ns: the board's time.
            total_j: energy that has entered the board since its reset.
            power_w: what enters it now, for a first reading.
        """
        mean_w = power_w
        if self.last is not None and now_ns > self.last[0]:
            mean_w = (total_j - self.last[1]) / (now_ns - self.last[0]) * NS
        self.last = (now_ns, total_j)
        shown_w = mean_w * self.gain + self.offset_w + self.noise.gauss(0.0, NOISE_SD_W)
        return now_ns / NS * (1.0 + self.clock_drift) + self.clock_offset_s, shown_w

    def truth(self) -> dict[str, float]:
        """The errors, for tests."""
        return {
            "gain": self.gain,
            "offset_w": self.offset_w,
            "clock_offset_s": self.clock_offset_s,
            "clock_drift": self.clock_drift,
        }


def meter_of(seed: Seed, number: int) -> Meter:
    """The meter on a board's desk: its errors are the board's for good, its noise the run's."""
    errors = Seed(seed.board, 0).stdlib("meter")
    return Meter(
        gain=1.0 + errors.gauss(0.0, GAIN_SD),
        offset_w=errors.gauss(0.0, OFFSET_SD_W),
        clock_offset_s=errors.uniform(*CLOCK_OFFSET_S),
        clock_drift=errors.gauss(0.0, CLOCK_DRIFT_SD),
        noise=seed.stdlib("meter", number),
    )
