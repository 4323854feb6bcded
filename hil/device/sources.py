"""Which power sources a run reads, where each is read, and the host's part in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hil.core.errors import MeasurementError
from hil.core.evidence import PowerRecord
from hil.device.config import Power, PowerSource
from hil.device.hostmeter import HostMeter

SYNC_ROUNDS = 8  # the shortest of so many round trips ties the clocks together
FIRST_LINE_S = 10.0  # a meter's program may have to open a serial port first
MORE_LINES_S = 2.0
LOOK_S = 0.01
Sync = tuple[int, int, int]


@dataclass(frozen=True)
class Chosen:
    """The sources of one run, the one that figures are read on first.

    `on_board` holds the specifications for the agent; `places` says for each source whether it
    is the board's (its place in `on_board`) or the host's (None).
    """

    sources: tuple[PowerSource, ...]
    on_board: tuple[Mapping[str, Any], ...]
    places: tuple[int | None, ...]

    @property
    def on_host(self) -> tuple[PowerSource, ...]:
        """The meters that programs on this machine read."""
        return tuple(one for one in self.sources if one.where == "host")


def choose(power: Power, name: str) -> Chosen:
    """Return the sources of a run.

    Args:
        power: the device file's.
        name: the source that figures are read on; "none" reads nothing at all.
    """
    if name == "none":
        return Chosen((), (), ())
    first = power.first if power.source == name else PowerSource.model_validate({"source": name})
    sources = (first, *power.also)
    on_board: list[Mapping[str, Any]] = []
    places: list[int | None] = []
    for one in sources:
        places.append(len(on_board) if one.where == "board" else None)
        if one.where == "board":
            on_board.append(one.to_agent())
    return Chosen(sources, tuple(on_board), tuple(places))


@dataclass
class HostMeters:
    """The meters on this machine during one run, and what ties its clock to the board's."""

    meters: tuple[HostMeter, ...] = ()
    sync: list[Sync] = field(default_factory=list)

    def so_far(self, later: int, patience_s: float = MORE_LINES_S) -> list[PowerRecord]:
        """Return what they have said once each has told `later` more lines, or has not in time."""
        before = [len(meter.so_far().lines) for meter in self.meters]
        deadline_s = time.monotonic() + patience_s
        while True:
            records = [meter.so_far(self.sync) for meter in self.meters]
            told = zip(records, before, strict=True)
            if all(len(record.lines) >= count + later for record, count in told):
                return records
            if time.monotonic() >= deadline_s:
                return records
            time.sleep(LOOK_S)

    def stop(self) -> list[PowerRecord]:
        """End them; return their records, each with every row of `sync`."""
        return [meter.stop(self.sync) for meter in self.meters]


@contextmanager
def host_meters(chosen: Chosen, board_ns: Callable[[], int]) -> Iterator[HostMeters]:
    """Read the host's meters during a `with` block; nothing is started where there are none.

    Raises:
        MeasurementError: a meter's program does not start or says nothing.
    """
    if not chosen.on_host:
        yield HostMeters()
        return
    running: list[HostMeter] = []
    try:
        for one in chosen.on_host:
            meter = HostMeter(one.command or (), rail=one.rail)
            meter.start()
            running.append(meter)
        for meter in running:
            if not meter.wait_first_line(FIRST_LINE_S):
                meter.stop()  # raises with what it said
        both = HostMeters(tuple(running), clock_rows(board_ns))
        yield both
    finally:
        for meter in running:
            meter.__exit__(None, None, None)


def clock_rows(
    board_ns: Callable[[], int], clock: Callable[[], int] = time.monotonic_ns
) -> list[Sync]:
    """Ask the board for its time between two looks at ours, a few times.

    Returns:
        (our ns before, the board's ns, our ns after) of each question.
    """
    rows = []
    for _ in range(SYNC_ROUNDS):
        before_ns = clock()
        there_ns = board_ns()
        rows.append((before_ns, there_ns, clock()))
    return rows


def in_order(
    chosen: Chosen, board: Sequence[PowerRecord], host: Sequence[PowerRecord]
) -> tuple[PowerRecord, ...]:
    """Return records of both sides in the order the sources were chosen in.

    Raises:
        MeasurementError: a source told nothing.
    """
    if (len(board), len(host)) != (len(chosen.on_board), len(chosen.on_host)):
        raise MeasurementError(
            "a power source of the run left no record",
            why=f"{len(board)} of {len(chosen.on_board)} told on the board, "
            f"{len(host)} of {len(chosen.on_host)} on this machine",
        )
    later = iter(host)
    return tuple(next(later) if at is None else board[at] for at in chosen.places)
