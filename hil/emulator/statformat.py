"""The text of a tegrastats line as L4T r32 prints it on a TX2, and the running mean beside it.

Order, names and spelling follow recorded lines of TX2 boards (tx2_7.log, tx2_1.log); with the
frequencies behind `EMC_FREQ` and `GR3D_FREQ` that the tool prints where it may read them.
"""

from __future__ import annotations

from typing import Any

Reading = dict[str, Any]


class RunningMean:
    """`avg` of each rail: floor of the mean of all readings since this process started."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: dict[str, int] = {}

    def add(self, rails: dict[str, int]) -> dict[str, int]:
        """Takes one reading in milliwatts and gives the means with it included."""
        self._count += 1
        for name, value in rails.items():
            self._sums[name] = self._sums.get(name, 0) + value
        return {name: total // self._count for name, total in self._sums.items()}


def line(reading: Reading, means: dict[str, int]) -> str:
    """Writes a line, without its newline."""
    memory = reading["memory"]
    rails = reading["rails"]
    parts = [
        f"RAM {memory['used_mb']}/{memory['total_mb']}MB"
        f" (lfb {memory['lfb_blocks']}x{memory['lfb_mb']}MB)",
        f"SWAP 0/{memory['swap_mb']}MB (cached 0MB)",
        f"CPU [{','.join(_core(core) for core in reading['cores'])}]",
        f"EMC_FREQ {reading['emc_percent']}%@{reading['emc_mhz']}",
        f"GR3D_FREQ {reading['gpu_percent']}%@{reading['gpu_mhz']}",
        "APE 150 MTS fg 0% bg 0%",
        *(f"{zone}@{number(temp_c)}C" for zone, temp_c in reading["temps_c"]),
        *(f"{name} {rails[name]}/{means[name]}" for name in rails),
    ]
    return " ".join(parts)


def _core(core: list[int] | None) -> str:
    return "off" if core is None else f"{core[0]}%@{core[1]}"


def number(value: float) -> str:
    """Writes a temperature without trailing zeros: 34, 30.5, 30.25."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
