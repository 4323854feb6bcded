"""NVML, NVIDIA's library for GPUs on hosts: `gpu_energy=123456mJ gpu_power=71500mW`.

The energy counter is the better figure: it is filled inside the board about every 100 ms, while
the instantaneous power of some GPUs covers a quarter of the time (arXiv 2312.02741). So rail
`gpu` is the counter where the GPU has one (Volta and later), else the power; `gpu_power` is
always the power. A counter's first reading sets its zero, and between two updates only the sum
is known: `RailTrace.edge_bound_j` says what that can do to a window. What else a line tells
(clocks, what holds them down, other processes) judges a run and is no part of any figure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hil.core.energy import PowerSample
from hil.core.evidence import PowerRecord
from hil.measure.sources.counters import counted
from hil.measure.sources.series import Ordered, PowerTrace, RailTrace, counter_rail, power_rail
from hil.measure.sources.tokens import tokens

COUNTER = "gpu_energy"
POWER = "gpu_power"
RAIL = "gpu"
_FIGURE = re.compile(r"(\d+)(mJ|mW|MHz|C|bits|%|held)", re.ASCII)
_STATE = {
    "sm_clock": "MHz",
    "memory_clock": "MHz",
    "gpu_temp": "C",
    "throttle": "bits",
    "gpu_busy": "%",
    "processes": "held",
    "displays": "held",
}
_UNITS = {COUNTER: "mJ", POWER: "mW", **_STATE}


def read(record: PowerRecord, lines: Sequence[tuple[int, str]], clock_error_ns: int) -> PowerTrace:
    """Read stamped lines of the sampler.

    Raises:
        MeasurementError: the counter went back or jumped.
    """
    ordered = Ordered(lines, figures)
    energies = [(t, said[COUNTER], None) for t, said in ordered.kept if COUNTER in said]
    powers = [PowerSample(t, said[POWER] / 1000.0) for t, said in ordered.kept if POWER in said]
    rails: dict[str, RailTrace] = {}
    points = counted(energies, 1e-3, RAIL)
    if len(points) > 1:
        rails[RAIL] = counter_rail(points)
    elif powers:
        rails[RAIL] = power_rail(powers)
    if powers:
        rails[POWER] = power_rail(powers)
    trace = ordered.trace(record.source, rails, dict(record.settings), clock_error_ns)
    told = tuple((t, {n: v for n, v in said.items() if n in _STATE}) for t, said in ordered.kept)
    return replace(trace, told=told)


def figures(line: str) -> dict[str, int] | None:
    """Return the figures by name, in the units of their names; None where the line is damaged."""
    found = tokens(line, _FIGURE)
    if found is None or any(_UNITS.get(name) != match[2] for name, match in found.items()):
        return None
    return {name: int(match[1]) for name, match in found.items()}
