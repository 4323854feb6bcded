"""Lines of a tegrastats that a TX2 never had: of JetPack 7.2, and of no release at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from hil.emulator.statformat import number

Reading = dict[str, Any]


def of_r39(reading: Reading, means: Mapping[str, int]) -> str:
    """A date in front, lower-case zones with two numbers, milliwatts three times."""
    memory, rails = reading["memory"], reading["rails"]
    cores = ",".join(
        "off" if each is None else f"{each[0]}%@{each[1]}" for each in reading["cores"]
    )
    parts = [
        time.strftime("%m-%d-%Y %H:%M:%S"),
        f"RAM {memory['used_mb']}/{memory['total_mb']}MB (lfb {memory['lfb_blocks']}x4MB)",
        f"SWAP 0/{memory['swap_mb']}MB (cached 0MB)",
        f"CPU [{cores}]",
        f"GR3D_FREQ {reading['gpu_percent']}%@[{reading['gpu_mhz']}]",
        *(f"{zone.lower()}@{number(c)}C/{number(c)}C" for zone, c in reading["temps_c"]),
        *(f"{name} {mw}mW/{means[name]}mW/{mw}mW" for name, mw in rails.items()),
    ]
    return " ".join(parts)


def of_the_future(reading: Reading, means: Mapping[str, int]) -> str:
    """Names and values joined, watts instead of milliwatts, lists in braces."""
    memory, rails = reading["memory"], reading["rails"]
    cores = ";".join("-" if each is None else str(each[0]) for each in reading["cores"])
    temps = ";".join(f"{zone}={number(c)}" for zone, c in reading["temps_c"])
    power = " ".join(
        f"{name}={mw / 1000:.3f}W~{means[name] / 1000:.3f}W" for name, mw in rails.items()
    )
    return (
        f"v2 mem={memory['used_mb']}M:{memory['total_mb']}M cpu={{{cores}}} "
        f"gpu={reading['gpu_percent']}:{reading['gpu_mhz']} temp={{{temps}}} {power}"
    )


GRAMMARS: Mapping[str, Callable[[Reading, Mapping[str, int]], str]] = {
    "r39": of_r39,
    "future": of_the_future,
}
