"""tegrastats: power of every rail beside loads, clocks and temperatures."""

from __future__ import annotations

from collections.abc import Sequence

from hil.core.energy import PowerSample
from hil.core.evidence import PowerRecord
from hil.core.tegrastats import MeanFault, Reading, RunningMean, parse
from hil.measure.sources.series import Ordered, PowerTrace, RailTrace, power_rail


def read(record: PowerRecord, lines: Sequence[tuple[int, str]], clock_error_ns: int) -> PowerTrace:
    """Read stamped lines; the tool's own running mean is checked over all of them."""
    means = RunningMean()
    faults: list[MeanFault] = []

    def one(line: str) -> Reading | None:
        reading = parse(line + "\n")  # whoever stamped it saw its newline
        fault = None if reading is None else means.add(reading)
        if fault is not None:
            faults.append(fault)
        return reading

    ordered = Ordered(lines, one)
    return PowerTrace(
        source=record.source,
        stamps_ns=tuple(t_ns for t_ns, _ in ordered.kept),
        readings=tuple(reading for _, reading in ordered.kept),
        rails=_rails(ordered.kept),
        unread=ordered.unread,
        repeated=ordered.repeated,
        backwards=ordered.backwards,
        fault=faults[0] if faults else None,
        settings=dict(record.settings),
        clock_error_ns=clock_error_ns,
    )


def _rails(kept: Sequence[tuple[int, Reading]]) -> dict[str, RailTrace]:
    found: dict[str, list[PowerSample]] = {}
    for t_ns, reading in kept:
        for name, rail in reading.rails.items():
            found.setdefault(name, []).append(PowerSample(t_ns, rail.now_mw / 1000.0))
    return {name: power_rail(samples) for name, samples in found.items()}
