"""What every power source is read into: samples per rail on the board's clock.

A rail is of one of two kinds. *Power* was looked at, at moments: between two of them it is taken
to run straight. A *counter* has added up energy by itself: between two readings only its
difference is known, whatever the power did meanwhile, and it is shared evenly over the time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from hil.core import energy
from hil.core.energy import NS_PER_S, PowerSample, Window
from hil.core.tegrastats import MeanFault, Reading

NS_PER_MS = 1e6
_What = TypeVar("_What")
_Raw = TypeVar("_Raw")


class CounterPoint(NamedTuple):
    """A counter of energy at one moment, counted from its first reading."""

    t_ns: int
    energy_j: float


@dataclass(frozen=True)
class RailTrace:
    """One rail of one source.

    Attributes:
        kind: "power" or "counter".
        samples: power at moments; of a counter the mean power of each interval, stamped at the
            interval's end. Stamps rise strictly.
        points: the counter itself; one more than `samples`. Empty for power.
    """

    kind: Literal["power", "counter"]
    samples: tuple[PowerSample, ...]
    points: tuple[CounterPoint, ...] = ()

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last moment that figures can be given for; None without samples."""
        known: Sequence[PowerSample | CounterPoint] = self.points or self.samples
        return (known[0].t_ns, known[-1].t_ns) if known else None

    def covers(self, window: Window) -> bool:
        """Whether the rail is known over the whole window."""
        span = self.span_ns
        return span is not None and span[0] <= window.start_ns and window.stop_ns <= span[1]

    def energy_j(self, window: Window) -> float:
        """Return the energy of the window in joules.

        Power is integrated by trapezoids with interpolated edges; a counter is the difference
        of its interpolated readings.

        Raises:
            ValueError: the samples do not cover the window.
        """
        if self.kind == "power":
            return energy.energy_j(self.samples, window)
        if not self.covers(window):
            raise ValueError(
                f"the counter does not cover the window {window.start_ns} to {window.stop_ns} ns: "
                f"{self.span_ns or 'no reading'}"
            )
        return self._counted_j(window.stop_ns) - self._counted_j(window.start_ns)

    def mean_power_w(self, window: Window) -> float:
        """Return the window's energy over its length, in watts.

        Raises:
            ValueError: as `energy_j`.
        """
        return self.energy_j(window) / window.duration_s

    def edge_bound_j(self, window: Window) -> float:
        """Bound the error of a counter's window by its edges, in joules; 0 for power.

        An edge lies between two readings, and how the energy between them is spread is unknown.

        Raises:
            ValueError: the samples do not cover the window.
        """
        self.energy_j(window)
        if self.kind == "power":
            return 0.0
        return self._unknown_j(window.start_ns) + self._unknown_j(window.stop_ns)

    def _unknown_j(self, t_ns: int) -> float:
        after = bisect_right(self.points, t_ns, key=lambda point: point.t_ns)
        left = self.points[after - 1]
        if left.t_ns == t_ns or after == len(self.points):
            return 0.0
        right = self.points[after]
        at_j = self._counted_j(t_ns)
        return max(at_j - left.energy_j, right.energy_j - at_j)

    def _counted_j(self, t_ns: int) -> float:
        after = bisect_right(self.points, t_ns, key=lambda point: point.t_ns)
        left = self.points[after - 1]
        if left.t_ns == t_ns or after == len(self.points):
            return left.energy_j
        right = self.points[after]
        fraction = (t_ns - left.t_ns) / (right.t_ns - left.t_ns)
        return left.energy_j + fraction * (right.energy_j - left.energy_j)


@dataclass(frozen=True)
class PowerTrace:
    """One run of a power source.

    Attributes:
        source: its name.
        stamps_ns: moment of each line that was read, on the board's clock, strictly rising.
        readings: what those lines say, aligned with the stamps; tegrastats alone, else empty.
        rails: by name, in the order lines name them.
        unread: lines that could not be read.
        repeated: lines dropped because the next one bears the same stamp.
        backwards: lines dropped because an earlier one bears a later stamp.
        fault: where the source's own running mean first breaks.
        settings: what the source told of itself.
        clock_error_ns: half width of what the stamps may be off as a whole; 0 where the board
            itself stamped them.
        told: stamp and what else a line said of the device beside its power; NVML alone, else
            empty.
    """

    source: str
    stamps_ns: tuple[int, ...]
    readings: tuple[Reading, ...]
    rails: Mapping[str, RailTrace]
    unread: int = 0
    repeated: int = 0
    backwards: int = 0
    fault: MeanFault | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    clock_error_ns: int = 0
    told: tuple[tuple[int, Mapping[str, int]], ...] = ()

    @cached_property
    def period_ms(self) -> float | None:
        """Median spacing of the lines; None for fewer than two."""
        steps = [right - left for left, right in pairwise(self.stamps_ns)]
        return median(steps) / NS_PER_MS if steps else None

    def during(self, window: Window) -> tuple[tuple[int, Reading], ...]:
        """Return stamp and reading of the lines within the window, both ends included."""
        return tuple(
            (t_ns, reading)
            for t_ns, reading in zip(self.stamps_ns, self.readings, strict=False)
            if window.start_ns <= t_ns <= window.stop_ns
        )


def power_rail(samples: Iterable[PowerSample]) -> RailTrace:
    """Return a rail that was looked at."""
    return RailTrace("power", tuple(samples))


def counter_rail(points: Sequence[tuple[int, float]]) -> RailTrace:
    """Return a rail that counts energy by itself.

    Args:
        points: stamp and joules counted since the first point, stamps strictly rising.
    """
    return RailTrace(
        "counter",
        tuple(
            PowerSample(right[0], (right[1] - left[1]) / ((right[0] - left[0]) / NS_PER_S))
            for left, right in pairwise(points)
        ),
        tuple(CounterPoint(*point) for point in points),
    )


class Ordered(Generic[_What]):
    """Lines that could be read, in order of time; what was left out is counted."""

    def __init__(
        self, lines: Iterable[tuple[int, _Raw]], read: Callable[[_Raw], _What | None]
    ) -> None:
        """Read stamped lines; nothing is repaired.

        Args:
            lines: stamp in ns and raw line, in order of arrival.
            read: what a line says, None where it cannot be read. Called once for every line.
        """
        self.kept: list[tuple[int, _What]] = []
        self.unread = self.repeated = self.backwards = 0
        for t_ns, line in lines:
            said = read(line)
            if said is None:
                self.unread += 1
            elif self.kept and t_ns < self.kept[-1][0]:
                self.backwards += 1
            else:
                if self.kept and t_ns == self.kept[-1][0]:
                    # Both waited in the pipe; the later one was read closer to the stamp.
                    self.repeated += 1
                    self.kept.pop()
                self.kept.append((t_ns, said))

    def trace(
        self,
        source: str,
        rails: Mapping[str, RailTrace],
        settings: Mapping[str, Any],
        clock_error_ns: int = 0,
    ) -> PowerTrace:
        """Return a trace of these lines without tegrastats readings."""
        return PowerTrace(
            source=source,
            stamps_ns=tuple(t_ns for t_ns, _ in self.kept),
            readings=(),
            rails=rails,
            unread=self.unread,
            repeated=self.repeated,
            backwards=self.backwards,
            settings=settings,
            clock_error_ns=clock_error_ns,
        )


def by_rail(
    kept: Iterable[tuple[int, Mapping[str, _What]]],
) -> dict[str, list[tuple[int, _What]]]:
    """Sort what lines say by rail, in the order in which rails are first named."""
    found: dict[str, list[tuple[int, _What]]] = {}
    for t_ns, said in kept:
        for name, what in said.items():
            found.setdefault(name, []).append((t_ns, what))
    return found
