"""Which power source is really read: the one the device file names, else what the board has.

tegrastats steps down to the board's own monitors (sysfs INA3221), those to no power at all:
latency is still measured then and joules are refused. Every step down is kept as a fact with its
reason. Meters that a person names (`command`) and sources of other machines never step down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hil.core import tegrastats
from hil.core.errors import MeasurementError
from hil.core.evidence import PowerRecord
from hil.device.config import Power
from hil.device.sources import Chosen, choose

FIRST_LINES = 5
"""Lines of a source of which not one is understood, after which it is given up."""
STEPS = ("tegrastats", "ina3221")
Take = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


class PowerLostError(MeasurementError):
    """A source failed and the session has stepped down: the same run again reads another one."""


class PowerChoice:
    """What a session reads, run after run.

    Args:
        power: the device file's.
        probe: what the board told of itself.
    """

    def __init__(self, power: Power, probe: Mapping[str, Any]) -> None:
        self._power = power
        self._probe = probe
        self._now: str | None = power.source if power.source in STEPS else None
        self._lost: dict[str, Any] | None = None
        if self._now == "tegrastats" and probe.get("tegrastats", "") is None:
            self.step_down("the board has no tegrastats")
        elif self._now == "ina3221" and self._missing() is not None:
            self.step_down(str(self._missing()))

    def chosen(self, name: str) -> Chosen:
        """Return the sources of a run that is to read `name`."""
        if self._lost is None or name != self._power.source:
            return choose(self._power, name)
        instead = self._lost["instead"]
        if instead is None:
            return choose(self._power, "none")
        also = tuple(one for one in self._power.also if one.source not in (instead, name))
        return choose(self._power.model_copy(update={"source": instead, "also": also}), instead)

    def lost(self, name: str) -> Mapping[str, Any] | None:
        """Return what became of `name`: {source, why, instead}; None where nothing did."""
        return self._lost if name == self._power.source else None

    def watched(self, name: str) -> str | None:
        """Return the source whose failure can be made up for in a run that is to read `name`."""
        if name != self._power.source or self._now is None:
            return None
        return self._now

    def step_down(self, why: str) -> None:
        """Give up what is read now."""
        if self._lost is None:
            self._lost = {"source": self._power.source, "why": why, "instead": None}
        else:
            self._lost["why"] = f"{self._lost['why']}; {why}"
        missing = self._missing() if self._now == "tegrastats" else "nothing else is there to read"
        if missing is None:
            self._lost["instead"] = self._now = "ina3221"
            return
        self._lost["instead"] = self._now = None
        if self._power.source == "tegrastats":
            self._lost["why"] += f"; {missing}"

    def _missing(self) -> str | None:
        """Say why the board's own monitors cannot stand in; None where they can."""
        rails = self._probe.get("rails") or ()
        if self._power.rail in rails:
            return None
        if not rails:
            return "sysfs shows no INA3221 power monitor"
        return f"sysfs shows no rail {self._power.rail}, but {', '.join(rails)}"


class FirstLines:
    """Hands a run's events on and gives up a source that is not understood or ends.

    Args:
        source: its name.
        take: what takes the events.
    """

    def __init__(self, source: str, take: Take) -> None:
        self._source = source
        self._take = take
        self._seen: list[str] = []
        self._understood = source != "tegrastats"

    def take(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Take one event.

        Raises:
            PowerLostError: the source is of no use.
        """
        if event.get("source") == 0 and event.get("kind") == "source_ended":
            last = "" if self._understood or not self._seen else f": {self._seen[-1][:120]!r}"
            raise PowerLostError(f"{self._source} ended by itself during the run{last}")
        if event.get("source") == 0 and event.get("kind") == "power" and not self._understood:
            self._look([str(line) for _, line in event["lines"]])
        return self._take(event)

    def _look(self, lines: list[str]) -> None:
        readings = [tegrastats.parse(line + "\n") for line in lines]
        self._understood = any(reading and reading.rails for reading in readings)
        self._seen += lines
        if self._understood or len(self._seen) < FIRST_LINES:
            return
        read = any(reading is not None for reading in map(tegrastats.parse, self._seen))
        what = "tell no power" if read else "are not understood"
        raise PowerLostError(
            f"the first {len(self._seen)} lines of {self._source} {what}: {self._seen[-1][:120]!r}"
        )


def told_instead(
    records: tuple[PowerRecord, ...], lost: Mapping[str, Any] | None
) -> tuple[PowerRecord, ...]:
    """Return the records, the first one saying what it stands in for."""
    if lost is None or not records:
        return records
    settings = {**records[0].settings, "instead_of": dict(lost)}
    return (replace(records[0], settings=settings), *records[1:])
