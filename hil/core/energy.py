"""Energy from power samples on an integer clock.

Rule of this file: a window that the samples do not cover has no energy. Nothing is extrapolated.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

NS_PER_S = 1_000_000_000
_STAMP = attrgetter("t_ns")


class PowerSample(NamedTuple):
    """Power read at one moment of the board's monotonic clock."""

    t_ns: int
    power_w: float


@dataclass(frozen=True)
class Window:
    """A stretch of the board's monotonic clock.

    Raises:
        ValueError: it is empty.
    """

    start_ns: int
    stop_ns: int

    def __post_init__(self) -> None:
        if self.stop_ns <= self.start_ns:
            raise ValueError(f"empty window: {self.start_ns} ns to {self.stop_ns} ns")

    @property
    def duration_s(self) -> float:
        """Its length."""
        return (self.stop_ns - self.start_ns) / NS_PER_S


def energy_j(samples: Sequence[PowerSample], window: Window) -> float:
    """Integrate power over the window by trapezoids; the edges are interpolated.

    Additive over adjacent windows up to rounding.

    Args:
        samples: in order of time, stamps strictly rising.
        window: inside the span of the samples.

    Raises:
        ValueError: the samples do not cover the window, or their stamps do not rise.
    """
    clipped = _clipped(samples, window)
    return sum(
        (left.power_w + right.power_w) / 2 * ((right.t_ns - left.t_ns) / NS_PER_S)
        for left, right in pairwise(clipped)
    )


def mean_power_w(samples: Sequence[PowerSample], window: Window) -> float:
    """Return the window's energy over its length.

    Raises:
        ValueError: as `energy_j`.
    """
    return energy_j(samples, window) / window.duration_s


def inside(samples: Sequence[PowerSample], window: Window) -> Sequence[PowerSample]:
    """Return the samples stamped within the window, both ends included."""
    first = bisect_left(samples, window.start_ns, key=_STAMP)
    last = bisect_right(samples, window.stop_ns, key=_STAMP)
    return samples[first:last]


def _clipped(samples: Sequence[PowerSample], window: Window) -> list[PowerSample]:
    if not samples or samples[0].t_ns > window.start_ns or samples[-1].t_ns < window.stop_ns:
        span = f"{samples[0].t_ns} to {samples[-1].t_ns} ns" if samples else "no sample"
        raise ValueError(
            f"samples do not cover the window {window.start_ns} to {window.stop_ns} ns: {span}"
        )
    first = bisect_right(samples, window.start_ns, key=_STAMP)
    last = bisect_left(samples, window.stop_ns, key=_STAMP)
    clipped = [
        _at(samples, first, window.start_ns),
        *samples[first:last],
        _at(samples, last, window.stop_ns),
    ]
    if any(right.t_ns <= left.t_ns for left, right in pairwise(clipped)):
        raise ValueError("the stamps of the power samples do not rise")
    return clipped


def _at(samples: Sequence[PowerSample], index: int, t_ns: int) -> PowerSample:
    """Interpolate between the samples on both sides of `index` (the first one past `t_ns`)."""
    if samples[min(index, len(samples) - 1)].t_ns == t_ns:
        return samples[min(index, len(samples) - 1)]
    left = samples[index - 1]
    if left.t_ns == t_ns:
        return left
    right = samples[index]
    fraction = (t_ns - left.t_ns) / (right.t_ns - left.t_ns)
    return PowerSample(t_ns, left.power_w + fraction * (right.power_w - left.power_w))
