"""What one tegrastats line says, read from the board at the moment the line is due."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hil.emulator import clockfile
from hil.emulator.noise import NS, Seed
from hil.emulator.timeline import Use

if TYPE_CHECKING:
    from hil.emulator.machine import Machine

WORK_MS = (3.5, 5.5)
"""What making a line takes on top of the interval. Only one recorded log allows an estimate
(4.5 % over an interval of 500 ms on another board); a TX2's own figure is not known."""

TOTAL_MB, SWAP_MB, LFB_MB = 7852, 3926, 4


def work_ns(seed: Seed, number: int, line: int) -> int:
    """The time a line takes to make; it differs from line to line."""
    return round(seed.stdlib("tegrastats", number, line).uniform(*WORK_MS) * NS / 1000)


@dataclass
class Since:
    """Where a tegrastats last looked; its percentages are of the time since then."""

    at_ns: int | None = None
    use: Use = field(default_factory=Use)


def reading(machine: Machine, line: int, since: Since) -> dict[str, Any]:
    """Collects one reading under the machine's lock, and starts the next stretch of use."""
    machine.settle()
    condition, total = machine.condition, machine.timeline.total
    if since.at_ns is None or since.at_ns > machine.now_ns:  # a first line, or a reset between
        since.at_ns, since.use = machine.now_ns, replace(total)
    use = total.since(since.use)
    span_ns = max(1, machine.now_ns - since.at_ns)
    since.at_ns, since.use = machine.now_ns, replace(total)
    clocks = condition.clocks(loaded=use.gpu_ns > 0)
    used_mb = machine.model.system_mb + clockfile.memory_in_use(machine.words) // 2**20
    return {
        "memory": {
            "used_mb": used_mb,
            "total_mb": TOTAL_MB,
            "lfb_blocks": max(1, (TOTAL_MB - used_mb) // (2 * LFB_MB)),
            "lfb_mb": LFB_MB,
            "swap_mb": SWAP_MB,
        },
        "cores": _cores(machine, use.cpu_ns / span_ns, line),
        "emc_percent": min(99, round(100 * use.emc_ns / span_ns)),
        "emc_mhz": round(clocks.emc_mhz),
        "gpu_percent": min(99, round(100 * use.gpu_ns / span_ns)),
        "gpu_mhz": int(clocks.gpu_mhz),
        "temps_c": machine.model.zones(condition),
        "rails": {name: values.mw for name, values in (machine.monitors() or {}).items()},
    }


def _cores(machine: Machine, busy: float, line: int) -> list[list[int] | None]:
    """The submitting thread keeps one A57 core busy; the others show the system's small change."""
    draw = machine.seed.stdlib("cores", line)
    clocks = machine.condition.clocks(loaded=busy > 0)
    cores: list[list[int] | None] = []
    for online in machine.model.cores_online(machine.condition):
        percent = draw.choice((0, 0, 1, 1, 2, 4))
        cores.append([percent, round(clocks.cpu_mhz)] if online else None)
    first = cores[0]
    if first is not None:
        first[0] = min(100, first[0] + round(100 * busy))
    return cores
