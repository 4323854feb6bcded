"""RAPL, the energy counters of x86 processors: `package-0=8123uJ/262143328850uJ ...`.

Each token has the counter and the highest value that it shows before it starts over. Between two
readings it may have wrapped; the number of wraps is known for certain as long as no package draws
more than `counters.MOST_W`, and where two numbers would fit the record is refused. The kernel
states the range in whole microjoules of a counter with a coarser unit (61 uJ on most), so each
wrap may be off by less than one such unit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hil.core.evidence import PowerRecord
from hil.measure.sources.counters import counted
from hil.measure.sources.series import Ordered, PowerTrace, by_rail, counter_rail
from hil.measure.sources.tokens import tokens

_COUNTER = re.compile(r"(\d+)uJ/(\d+)uJ", re.ASCII)


def read(record: PowerRecord, lines: Sequence[tuple[int, str]], clock_error_ns: int) -> PowerTrace:
    """Read stamped lines of the sampler.

    Raises:
        MeasurementError: a counter jumped, or may have wrapped more than once.
    """
    ordered = Ordered(lines, counters)
    rails = {}
    for name, readings in by_rail(ordered.kept).items():
        points = counted([(t, now, most + 1) for t, (now, most) in readings], 1e-6, name)
        if len(points) > 1:
            rails[name] = counter_rail(points)
    return ordered.trace(record.source, rails, dict(record.settings), clock_error_ns)


def counters(line: str) -> dict[str, tuple[int, int]] | None:
    """Return counter and range by domain, in uJ; None where the line is damaged."""
    found = tokens(line, _COUNTER)
    if found is None:
        return None
    said = {name: (int(match[1]), int(match[2])) for name, match in found.items()}
    return None if any(now > most for now, most in said.values()) else said
