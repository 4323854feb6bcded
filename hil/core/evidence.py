"""Raw evidence of one run on one board, as it came home; every figure is computed from it later.

Rule of this file: records and their JSON form only. Nothing here interprets a power line or a
latency; `hil.measure` does, so that an old run can be scored again after a parser is mended.

Format history: hil/evidence@1 (first).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

SCHEMA = "hil/evidence@1"


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
    """

    idle_s: float = 4.0
    settle_s: float = 3.0
    window_s: float = 8.0
    blocks: int = 4
    tail_s: float = 0.5
    interval_ms: int = 100
    warmup: int = 10

    def to_json(self) -> dict[str, Any]:
        """Return the plan as the agent's `engine_run` takes it."""
        return asdict(self)


@dataclass(frozen=True)
class Mark:
    """One phase of a run on the board's monotonic clock; `inferences` is None outside load."""

    name: str
    index: int
    start_ns: int
    stop_ns: int
    inferences: int | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything one run sent home.

    Attributes:
        board: the board as probed (model, release, versions).
        engine: the engine as built (hashes, precision, runtime, tensors).
        power_source: name of the source ("tegrastats") or "none".
        power_lines: (arrival stamp in ns on the board's monotonic clock, raw line).
        latency_ns: per block, the latency of each inference in order, host to host on the
            board around enqueue and synchronise; copies excluded unless `copies` says so.
        states: clocks, power mode and temperatures seen during the run.
        provenance: measured, emulated or replayed.
        copies: "excluded" or "included" (host-device transfers inside the latency).
    """

    board: Mapping[str, Any]
    engine: Mapping[str, Any]
    plan: RunPlan
    power_source: str
    power_lines: tuple[tuple[int, str], ...]
    marks: tuple[Mark, ...]
    latency_ns: tuple[tuple[int, ...], ...]
    states: tuple[Mapping[str, Any], ...]
    provenance: str
    copies: str = "excluded"
    power_argv: tuple[str, ...] = field(default=())

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
            "power_source": self.power_source,
            "power_lines": [[t_ns, line] for t_ns, line in self.power_lines],
            "marks": [asdict(mark) for mark in self.marks],
            "latency_ns": [list(block) for block in self.latency_ns],
            "states": [dict(state) for state in self.states],
            "provenance": self.provenance,
            "copies": self.copies,
            "power_argv": list(self.power_argv),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the schema is not one this version reads.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"evidence of schema {data.get('schema')!r}; this reads {SCHEMA}")
        return cls(
            board=data["board"],
            engine=data["engine"],
            plan=RunPlan(**data["plan"]),
            power_source=data["power_source"],
            power_lines=tuple((int(t_ns), str(line)) for t_ns, line in data["power_lines"]),
            marks=tuple(Mark(**mark) for mark in data["marks"]),
            latency_ns=tuple(tuple(block) for block in data["latency_ns"]),
            states=tuple(data["states"]),
            provenance=data["provenance"],
            copies=data["copies"],
            power_argv=tuple(data["power_argv"]),
        )
