"""Two power sources beside each other: how they agree, and what would turn one into the other.

The unit of replication is a window: samples within one are correlated. Windows of several power
levels tell a gain from an offset; windows of one level can only tell a ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hil.core.energy import NS_PER_S, Window
from hil.core.errors import MeasurementError
from hil.core.stats import Estimate, Spread, spread
from hil.measure.sources.series import PowerTrace, RailTrace

MIN_WINDOWS = 2
# Windows whose powers differ by less than this share are of one level: no line goes through them.
MIN_RANGE = 0.05
MAX_LAG_S = 3.0
# Finer than any source looks; a parabola through the best three places the lag in between.
LAG_GRID_S = 0.02
MAX_GRID = 20_000
# Share of one source's movement that the other must follow before a lag means anything.
MIN_FOLLOWED = 0.5


@dataclass(frozen=True)
class SourceComparison:
    """Source b against source a, over the same windows.

    Attributes:
        ratio: power of b over power of a, from the paired logarithms of the windows.
        windows: how many windows the ratio rests on.
        gain: b = gain * a + offset_w, from all windows; None where they are fewer than three, of
            one power level, or leave the gain unknown to half of itself.
        offset_w: see `gain`; in watts.
        residual_w: standard deviation of the windows about that line.
        lag_s: how much later b shows a change than a; None where nothing changes enough to tell.
    """

    ratio: Estimate
    windows: int
    gain: Estimate | None
    offset_w: Estimate | None
    residual_w: float | None
    lag_s: float | None


def compare_sources(
    a: PowerTrace,
    rail_a: str,
    b: PowerTrace,
    rail_b: str,
    windows: Sequence[Window],
    *,
    also: Sequence[Window] = (),
) -> SourceComparison:
    """Compare two sources of one run, both on the board's clock.

    Args:
        a: the reference.
        rail_a: its rail.
        b: the other.
        rail_b: its rail.
        windows: what the ratio is about, each settled; those that a source does not cover are
            left out.
        also: further windows, of other power levels, for gain and offset alone.

    Raises:
        MeasurementError: no such rail, fewer than two windows that both cover, or one without
            power.
    """
    first, second = _rail(a, rail_a), _rail(b, rail_b)
    pairs = _means_w(first, second, windows)
    if len(pairs) < MIN_WINDOWS:
        raise MeasurementError(
            f"{a.source} and {b.source} have {len(pairs)} windows in common, too few to compare",
            why=f"{len(windows)} were asked for",
            fix="both must run from before the first window to beyond the last",
        )
    if min(power_w for pair in pairs for power_w in pair) <= 0:
        raise MeasurementError("a ratio of powers needs powers above zero", why="a window has none")
    of_a, of_b = zip(*pairs, strict=True)
    told = spread(np.log(np.asarray(of_b)) - np.log(np.asarray(of_a))).interval()
    ratio = Estimate(*(math.exp(part) for part in (told.value, told.low, told.high)))
    line = _line([*pairs, *_means_w(first, second, also)])
    gain, offset_w, residual_w = line if line is not None else (None, None, None)
    return SourceComparison(ratio, len(pairs), gain, offset_w, residual_w, lag_s(first, second))


def lag_s(first: RailTrace, second: RailTrace) -> float | None:
    """Return how much later the second rail shows changes, in seconds; negative for earlier.

    It is the shift at which a straight line of the first explains most of the second.
    """
    if first.span_ns is None or second.span_ns is None:
        return None
    start = max(first.span_ns[0], second.span_ns[0]) / NS_PER_S + MAX_LAG_S
    stop = min(first.span_ns[1], second.span_ns[1]) / NS_PER_S - MAX_LAG_S
    if stop - start < 2 * MAX_LAG_S:
        return None
    grid = np.linspace(start, stop, min(MAX_GRID, int((stop - start) / LAG_GRID_S)))
    still = np.interp(grid, *_curve(first))
    seconds, powers = _curve(second)
    shifts = np.arange(-MAX_LAG_S, MAX_LAG_S + LAG_GRID_S / 2, LAG_GRID_S)
    followed = np.array(
        [_correlation(still, np.interp(grid + shift, seconds, powers)) for shift in shifts]
    )
    best = int(followed.argmax())
    if followed[best] < MIN_FOLLOWED or best in (0, len(shifts) - 1):
        return None
    left, middle, right = followed[best - 1 : best + 2]
    bend = left - 2 * middle + right
    aside = 0.0 if bend == 0 else float((left - right) / (2 * bend))
    return float(shifts[best]) + aside * LAG_GRID_S


def _rail(trace: PowerTrace, name: str) -> RailTrace:
    if name not in trace.rails:
        raise MeasurementError(
            f"{trace.source} has no rail {name!r}",
            why=f"it has {', '.join(trace.rails) or 'none'}",
        )
    return trace.rails[name]


def _means_w(
    first: RailTrace, second: RailTrace, windows: Sequence[Window]
) -> list[tuple[float, float]]:
    return [
        (first.mean_power_w(window), second.mean_power_w(window))
        for window in windows
        if first.covers(window) and second.covers(window)
    ]


def _line(
    pairs: Sequence[tuple[float, float]],
) -> tuple[Estimate, Estimate, float] | None:
    """Return gain, offset and residual of b on a by least squares, with t intervals."""
    if len(pairs) <= MIN_WINDOWS:
        return None
    a, b = (np.asarray(column, dtype=float) for column in zip(*pairs, strict=True))
    if float(np.ptp(a)) <= MIN_RANGE * float(a.mean()):
        return None
    centred = a - a.mean()
    squares = float(centred @ centred)
    slope = float(centred @ (b - b.mean())) / squares
    start = float(b.mean()) - slope * float(a.mean())
    df = len(pairs) - 2
    residual = math.sqrt(float(((b - start - slope * a) ** 2).sum()) / df)
    gain = Spread(slope, residual / math.sqrt(squares), df).interval()
    if gain.high - gain.low > abs(slope):
        return None
    error = residual * math.sqrt(1 / len(pairs) + float(a.mean()) ** 2 / squares)
    return gain, Spread(start, error, df).interval(), residual


def _curve(rail: RailTrace) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return seconds and watts; a counter's intervals stand in their middle."""
    stamps = np.array([sample.t_ns for sample in rail.samples], dtype=np.float64)
    if rail.kind == "counter":
        starts = np.array([point.t_ns for point in rail.points[:-1]], dtype=np.float64)
        stamps = (stamps + starts) / 2
    return stamps / NS_PER_S, np.array([s.power_w for s in rail.samples], dtype=np.float64)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Share of the variance of y that a rising line of x explains; 0 for a falling one."""
    x, y = x - x.mean(), y - y.mean()
    both = float(x @ x) * float(y @ y)
    inner = float(x @ y)
    return inner**2 / both if both > 0 and inner > 0 else 0.0
