"""Any program that prints `time_s watts`, one reading a line: external meters.

Its time counts seconds from wherever it likes; lines are laid on the board's clock by when they
came (`clocks.from_arrivals`). Lines that start with `#` are remarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from math import isfinite

from hil.core.energy import NS_PER_S, PowerSample
from hil.core.evidence import PowerRecord
from hil.measure.sources.clocks import from_arrivals
from hil.measure.sources.series import Ordered, PowerTrace, power_rail

RAIL = "meter"
_FIGURES = 2


def read(record: PowerRecord, lines: Sequence[tuple[int, str]], clock_error_ns: int) -> PowerTrace:
    """Read stamped lines; samples bear the program's own time, mapped.

    Raises:
        MeasurementError: the program's time cannot be followed.
    """
    said = [(t_ns, line) for t_ns, line in lines if not line.lstrip().startswith("#")]
    both = [(t_ns, reading) for t_ns, line in said if (reading := figures(line)) is not None]
    unread = len(said) - len(both)
    settings = dict(record.settings)
    if not both:
        return PowerTrace(record.source, (), (), {}, unread, settings=settings)
    clock = from_arrivals([reading[0] for _, reading in both], [t_ns for t_ns, _ in both])
    ordered = Ordered(((clock(t_ns), watts) for _, (t_ns, watts) in both), lambda watts: watts)
    ordered.unread = unread
    settings["alignment"] = {
        "offset_ns": clock.offset_ns,
        "skew_ppm": clock.skew * 1e6,
        "late_ns": clock.error_ns,
    }
    rail = power_rail(PowerSample(*sample) for sample in ordered.kept)
    name = str(settings.get("rail") or RAIL)
    error_ns = clock_error_ns + clock.error_ns
    return ordered.trace(record.source, {name: rail}, settings, error_ns)


def figures(line: str) -> tuple[int, float] | None:
    """Return printed time in ns and power in watts; None where the line is neither."""
    words = line.replace(",", " ").split()
    if len(words) != _FIGURES:
        return None
    try:
        time_s, power_w = Decimal(words[0]), float(words[1])
    except (InvalidOperation, ValueError):
        return None
    if not time_s.is_finite() or not isfinite(power_w) or abs(time_s) >= 10**12:
        return None
    return int(time_s * NS_PER_S), power_w
