"""Power lines as they came home, read into samples per rail and checked for their order.

The agent stamps each line as it arrives, so time is never computed from the interval that was
asked for: a source that is asked for 500 ms has been seen to take 522. A source is one file in
`hil.measure.sources` and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hil.core.errors import MeasurementError
from hil.core.evidence import PowerRecord
from hil.measure.sources import clocks, command, ina3221, nvml, rapl, tegrastats
from hil.measure.sources.series import CounterPoint, PowerTrace, RailTrace

__all__ = ["DEFAULT_RAILS", "SOURCES", "CounterPoint", "PowerTrace", "RailTrace", "read_power"]

SOURCES: Mapping[str, Callable[[PowerRecord, Sequence[tuple[int, str]], int], PowerTrace]] = {
    "tegrastats": tegrastats.read,
    "ina3221": ina3221.read,
    "nvml": nvml.read,
    "rapl": rapl.read,
    "command": command.read,
}
"""How to read a source's lines, given stamps on the board's clock and what those may be off."""

DEFAULT_RAILS: Mapping[str, str] = {
    "nvml": nvml.RAIL,
    "rapl": "package-0",
    "command": command.RAIL,
}
"""The rail that is meant where nobody names one; a Jetson's depends on the board."""


def read_power(record: PowerRecord) -> PowerTrace:
    """Read one source's stamped lines; nothing is repaired, and what is left out is counted.

    Stamps of a meter on the host are laid on the board's clock by the record's `sync` rows.

    Raises:
        MeasurementError: a source that nothing here reads, a counter that cannot be followed,
            or clocks that cannot be laid over each other.
    """
    reader = SOURCES.get(record.source)
    if reader is None:
        raise MeasurementError(
            f"no reader for power source {record.source!r}", why=f"known: {', '.join(SOURCES)}"
        )
    if record.clock != "host":
        return reader(record, record.lines, 0)
    to_board = clocks.from_sync(record.settings.get("sync", ()))
    lines = [(to_board(t_ns), line) for t_ns, line in record.lines]
    return reader(record, lines, to_board.error_ns)
