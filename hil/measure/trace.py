"""Power lines as they came home, read into samples per rail and checked for their order.

A power source is what to watch and how to read a line; `SOURCES` is the second half. The agent
stamps each line as it arrives, so time is never computed from the interval that was asked for:
a source that is asked for 500 ms has been seen to take 522.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median

from hil.core.energy import PowerSample, Window
from hil.core.tegrastats import MeanFault, Reading, RunningMean, parse

SOURCES: Mapping[str, Callable[[str], Reading | None]] = {"tegrastats": parse}
NS_PER_MS = 1e6


@dataclass(frozen=True)
class PowerTrace:
    """One run of a power source.

    Attributes:
        stamps_ns: arrival of each line that could be read, strictly rising.
        readings: what those lines say, aligned with the stamps.
        unread: lines that could not be read.
        repeated: lines dropped because the next one bears the same stamp.
        backwards: lines dropped because an earlier one bears a later stamp.
        fault: where the source's own running mean first breaks.
    """

    stamps_ns: tuple[int, ...]
    readings: tuple[Reading, ...]
    unread: int
    repeated: int
    backwards: int
    fault: MeanFault | None

    @cached_property
    def rails(self) -> Mapping[str, tuple[PowerSample, ...]]:
        """Samples of every rail, in the order lines name them."""
        found: dict[str, list[PowerSample]] = {}
        for t_ns, reading in zip(self.stamps_ns, self.readings, strict=True):
            for name, rail in reading.rails.items():
                found.setdefault(name, []).append(PowerSample(t_ns, rail.now_mw / 1000.0))
        return {name: tuple(samples) for name, samples in found.items()}

    @cached_property
    def period_ms(self) -> float | None:
        """Median spacing of the lines; None for fewer than two."""
        steps = [right - left for left, right in pairwise(self.stamps_ns)]
        return median(steps) / NS_PER_MS if steps else None

    def during(self, window: Window) -> tuple[tuple[int, Reading], ...]:
        """Return stamp and reading of the lines within the window."""
        return tuple(
            (t_ns, reading)
            for t_ns, reading in zip(self.stamps_ns, self.readings, strict=True)
            if window.start_ns <= t_ns <= window.stop_ns
        )


def read_trace(
    lines: Sequence[tuple[int, str]], read: Callable[[str], Reading | None] = parse
) -> PowerTrace:
    """Read stamped lines; nothing is repaired, and what is left out is counted."""
    kept: list[tuple[int, Reading]] = []
    unread = repeated = backwards = 0
    fault: MeanFault | None = None
    means = RunningMean()
    for t_ns, line in lines:
        reading = read(line)
        if reading is None:
            unread += 1
            continue
        fault = means.add(reading) if fault is None else fault
        if kept and t_ns < kept[-1][0]:
            backwards += 1
            continue
        if kept and t_ns == kept[-1][0]:
            # Both waited in the pipe; the later one was read closer to the stamp.
            repeated += 1
            kept.pop()
        kept.append((t_ns, reading))
    return PowerTrace(
        tuple(t_ns for t_ns, _ in kept),
        tuple(reading for _, reading in kept),
        unread,
        repeated,
        backwards,
        fault,
    )
