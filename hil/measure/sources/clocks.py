"""Clocks of two machines, and of a meter, laid over each other.

Two ways of knowing. Where the board was asked for its time between two looks at the host's clock,
the answer lies between both: the shortest round trip tells most, and half of it bounds the error.
Where a program prints its own time, a line arrives after it was printed and never before: the
least delays bound the offset from below, and a straight line under all of them is the estimate
(clock skew by linear programming: Moon, Skelly and Towsley, INFOCOM 1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from hil.core.energy import NS_PER_S
from hil.core.errors import MeasurementError

# Crystals differ by under 100 ppm and clocks that are being slewed by 500 (adjtimex); what
# differs by more is no clock that runs in seconds.
MOST_SKEW = 1e-3
# Over a shorter stretch than this the jitter of arrival hides any skew.
SKEW_SPAN_NS = 10 * NS_PER_S
# Stretch from which two clocks can be told to run at different speeds at all.
SPEED_SPAN_NS = NS_PER_S
MOST_SPEED_RATIO = 1.1


@dataclass(frozen=True)
class ClockMap:
    """From one clock to another: t + offset, which itself drifts by `skew` a second.

    Attributes:
        error_ns: half width of what the result may be off.
    """

    at_ns: int
    offset_ns: int
    skew: float
    error_ns: int

    def __call__(self, t_ns: int) -> int:
        """Return the other clock's time at `t_ns` of this one."""
        return t_ns + self.offset_ns + round(self.skew * (t_ns - self.at_ns))


def from_sync(rows: Sequence[Sequence[int]]) -> ClockMap:
    """Return the map from the host's clock to the board's.

    Args:
        rows: (host ns before, board ns, host ns after) of questions to the board.

    Raises:
        MeasurementError: no row, or clocks that run at different speeds.
    """
    looks = [(before, board, after) for before, board, after in rows if after >= before]
    if not looks:
        raise MeasurementError(
            "a meter on this machine has no points that tie its clock to the board's",
            fix="measure again: the record is not complete",
        )
    best = min(looks, key=_trip)
    middle_ns = (looks[0][0] + looks[-1][2]) // 2
    halves = [[r for r in looks if r[2] <= middle_ns], [r for r in looks if r[0] >= middle_ns]]
    if not all(halves):
        return ClockMap(_at(best), best[1] - _at(best), 0.0, _error(best))
    first, last = (min(half, key=_trip) for half in halves)
    span_ns = _at(last) - _at(first)
    skew = ((last[1] - first[1]) - span_ns) / span_ns if span_ns else 0.0
    error_ns = max(_error(first), _error(last))
    if abs(skew) > MOST_SKEW + 2 * error_ns / max(span_ns, 1):
        raise MeasurementError(
            "the board's clock and this machine's run at different speeds",
            why=f"{skew * 1e6:+.0f} ppm over {span_ns / NS_PER_S:.1f} s",
            fix="read the meter on the board (`where: board`); an emulated board has a time "
            "of its own, that no meter outside it can follow",
        )
    if span_ns < SKEW_SPAN_NS:
        return ClockMap(_at(best), best[1] - _at(best), 0.0, _error(best))
    return ClockMap(_at(first), first[1] - _at(first), skew, error_ns)


def from_arrivals(printed_ns: Sequence[int], arrived_ns: Sequence[int]) -> ClockMap:
    """Return the map from a program's printed time to the clock its lines were stamped with.

    The least delay between printing and arrival cannot be seen and is left out; `error_ns` is
    the median of how much later than that lines came.

    Raises:
        MeasurementError: the printed time does not run in seconds, or lines were held back.
    """
    pairs = sorted(zip(printed_ns, arrived_ns, strict=True))
    span_ns = pairs[-1][0] - pairs[0][0]
    waited_ns = max(arrived_ns) - min(arrived_ns)
    if max(span_ns, waited_ns) > SPEED_SPAN_NS:
        ratio = max(span_ns, waited_ns) / max(1, min(span_ns, waited_ns))
        if ratio > MOST_SPEED_RATIO:
            raise MeasurementError(
                "the time that the meter prints does not fit the time its lines came at",
                why=f"{span_ns / NS_PER_S:.3f} s printed within {waited_ns / NS_PER_S:.3f} s",
                fix="it must print seconds first, then watts, and flush each line as it is read",
            )
    at_ns = pairs[0][0]
    offsets = [(printed - at_ns, arrived - printed) for printed, arrived in pairs]
    least_ns, skew = min(offset for _, offset in offsets), 0.0
    if span_ns >= SKEW_SPAN_NS:
        start, slope = _line_below(offsets)
        if abs(slope) <= MOST_SKEW:
            least_ns, skew = round(start), slope
    late_ns = median(offset - (least_ns + skew * x) for x, offset in offsets)
    return ClockMap(at_ns, least_ns, skew, max(0, round(late_ns)))


def _line_below(points: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return (value at 0, slope) of the line below all points that is nearest to them on average.

    It is the edge of the lower convex hull above or below the mean abscissa.
    """
    hull: list[tuple[int, int]] = []
    for x, y in points:
        if hull and hull[-1][0] == x:
            continue  # sorted: the lowest of equal abscissae came first
        while len(hull) > 1 and _turns_right(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    mean = sum(x for x, _ in points) / len(points)
    right = next(i for i, (x, _) in enumerate(hull) if x >= mean or i == len(hull) - 1)
    (x0, y0), (x1, y1) = hull[max(0, right - 1)], hull[max(1, right)]
    slope = (y1 - y0) / (x1 - x0)
    return y0 - slope * x0, slope


def _turns_right(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0


def _trip(row: tuple[int, int, int]) -> int:
    return row[2] - row[0]


def _at(row: tuple[int, int, int]) -> int:
    return (row[0] + row[2]) // 2


def _error(row: tuple[int, int, int]) -> int:
    return -(-_trip(row) // 2)
