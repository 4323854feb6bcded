"""Raw evidence of one run on one board, as it came home; every figure is computed from it later.

Rule of this file: records and their JSON form only. Nothing here interprets a power line or a
latency; `hil.measure` does, so that an old run can be scored again after a parser is mended.

Format history: hil/evidence@1 (first; one power source); hil/evidence@2 (any number of power
sources, each with its settings; how the load started; plans that may go on, and paced ones).
Both are read, the second is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

SCHEMA = "hil/evidence@2"
FIRST_SCHEMA = "hil/evidence@1"


@dataclass(frozen=True)
class RunPlan:
    """How one engine is exercised. Durations are in board time.

    Attributes:
        idle_s: idle recorded before and after the load, in the same clock state.
        settle_s: load before the first window, long enough for sensor lag and warm-up.
        window_s: length of one block's window.
        blocks: windows in a row inside one steady load; blocks are the unit of replication.
        tail_s: load after the last window, so that it closes before the load stops.
        interval_ms: requested period of the power source.
        warmup: inferences before anything is recorded.
        max_blocks: None for exactly `blocks`; else the run may go on up to so many, block by
            block, until the host has seen enough.
        rate_hz: None for inferences back to back; else one is started each 1 / rate_hz seconds.
    """

    idle_s: float = 4.0
    settle_s: float = 3.0
    window_s: float = 8.0
    blocks: int = 4
    tail_s: float = 0.5
    interval_ms: int = 100
    warmup: int = 10
    max_blocks: int | None = None
    rate_hz: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as the agent's `engine_run` takes it."""
        return asdict(self)


@dataclass(frozen=True)
class Mark:
    """One phase of a run on the board's monotonic clock; `inferences` is None outside load.

    Back to back, a phase of load reaches from the start of its first inference to the end of its
    last; at a fixed rate from the start of its first slot to the start of the slot after its last.
    `missed` counts the slots of a paced phase in which no inference was started, None elsewhere.
    """

    name: str
    index: int
    start_ns: int
    stop_ns: int
    inferences: int | None = None
    missed: int | None = None


@dataclass(frozen=True)
class PowerRecord:
    """What one power source said during a run, raw.

    Attributes:
        source: tegrastats, ina3221, nvml, rapl or command.
        lines: (arrival stamp in ns, raw line), in order of arrival.
        argv: what was started.
        settings: what the source told of itself or was told: interval, the monitor's mode, and
            for a meter on the host `sync`, rows of (host ns before, board ns, host ns after).
        clock: whose monotonic clock the stamps are of, "board" or "host".
    """

    source: str
    lines: tuple[tuple[int, str], ...]
    argv: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    clock: str = "board"


@dataclass(frozen=True)
class Evidence:
    """Everything one run sent home.

    Attributes:
        board: the board as probed (model, release, versions).
        engine: the engine as built (hashes, precision, runtime, tensors).
        power: one record for each power source, the one that figures are read on first; empty
            for a run without power.
        latency_ns: per block, the latency of each inference in order, host to host on the
            board around enqueue and synchronise; copies excluded unless `copies` says so.
        states: clocks, power mode and temperatures seen during the run.
        provenance: measured, emulated or replayed.
        copies: "excluded" or "included" (host-device transfers inside the latency).
        start: how the load came up, in ns: `load_ns` to load the engine, `first_ns` of the first
            inference, `warmup_ns` of those before settling and `settle_ns` of those while
            settling, the first left out; what is absent is unknown.
    """

    board: Mapping[str, Any]
    engine: Mapping[str, Any]
    plan: RunPlan
    marks: tuple[Mark, ...]
    latency_ns: tuple[tuple[int, ...], ...]
    states: tuple[Mapping[str, Any], ...]
    provenance: str
    copies: str = "excluded"
    power: tuple[PowerRecord, ...] = ()
    start: Mapping[str, Any] = field(default_factory=dict)

    @property
    def power_source(self) -> str:
        """Name of the source that figures are read on; "none" for a run without power."""
        return self.power[0].source if self.power else "none"

    @property
    def power_lines(self) -> tuple[tuple[int, str], ...]:
        """Its stamped lines."""
        return self.power[0].lines if self.power else ()

    @property
    def power_argv(self) -> tuple[str, ...]:
        """What was started to read it."""
        return self.power[0].argv if self.power else ()

    def named(self, name: str) -> tuple[Mark, ...]:
        """Return the marks of that name, in order of time."""
        return tuple(mark for mark in self.marks if mark.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` gives back an equal record."""
        return {
            "schema": SCHEMA,
            "board": dict(self.board),
            "engine": dict(self.engine),
            "plan": self.plan.to_json(),
            "power": [_record_json(record) for record in self.power],
            "marks": [asdict(mark) for mark in self.marks],
            "latency_ns": [list(block) for block in self.latency_ns],
            "states": [dict(state) for state in self.states],
            "provenance": self.provenance,
            "copies": self.copies,
            "start": dict(self.start),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote, now or in an earlier release.

        Raises:
            ValueError: the schema is not one this version reads.
        """
        if data.get("schema") not in (SCHEMA, FIRST_SCHEMA):
            raise ValueError(f"evidence of schema {data.get('schema')!r}; this reads {SCHEMA}")
        first = data["schema"] == FIRST_SCHEMA
        return cls(
            board=data["board"],
            engine=data["engine"],
            plan=RunPlan(**data["plan"]),
            marks=tuple(Mark(**mark) for mark in data["marks"]),
            latency_ns=tuple(tuple(block) for block in data["latency_ns"]),
            states=tuple(data["states"]),
            provenance=data["provenance"],
            copies=data["copies"],
            power=_first_power(data) if first else tuple(map(_record, data["power"])),
            start={} if first else data["start"],
        )


def _record_json(record: PowerRecord) -> dict[str, Any]:
    return {
        "source": record.source,
        "lines": [[t_ns, line] for t_ns, line in record.lines],
        "argv": list(record.argv),
        "settings": dict(record.settings),
        "clock": record.clock,
    }


def _record(data: Mapping[str, Any]) -> PowerRecord:
    lines = tuple((int(t_ns), str(line)) for t_ns, line in data["lines"])
    argv, settings = tuple(data["argv"]), data["settings"]
    return PowerRecord(data["source"], lines, argv, settings, data["clock"])


def _first_power(data: Mapping[str, Any]) -> tuple[PowerRecord, ...]:
    """Read the one source of hil/evidence@1."""
    if data["power_source"] == "none":
        return ()
    lines = tuple((int(t_ns), str(line)) for t_ns, line in data["power_lines"])
    return (PowerRecord(data["power_source"], lines, tuple(data["power_argv"])),)
