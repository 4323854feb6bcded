"""INA3221 monitors read from sysfs: `VDD_IN=19152mV,252mA,4823mW ...`, one token a channel.

The iio driver (L4T r28 and r32) gives a power; the hwmon driver (r35 and later) gives voltage and
current alone, and power is their product, which is what the driver before it did by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hil.core.energy import PowerSample
from hil.core.evidence import PowerRecord
from hil.measure.sources.series import Ordered, PowerTrace, by_rail, power_rail
from hil.measure.sources.tokens import tokens

_CHANNEL = re.compile(
    r"(?:(?P<mv>-?\d+)mV,(?P<ma>-?\d+)mA)?(?:(?:(?<=mA),|^)(?P<mw>-?\d+)mW)?", re.ASCII
)


def read(record: PowerRecord, lines: Sequence[tuple[int, str]], clock_error_ns: int) -> PowerTrace:
    """Read stamped lines of the sampler."""
    ordered = Ordered(lines, channels_w)
    rails = {
        name: power_rail(PowerSample(*sample) for sample in samples)
        for name, samples in by_rail(ordered.kept).items()
    }
    return ordered.trace(record.source, rails, dict(record.settings), clock_error_ns)


def channels_w(line: str) -> dict[str, float] | None:
    """Return the power of every channel in watts; None where the line is damaged."""
    found = tokens(line, _CHANNEL)
    if found is None:
        return None
    powers: dict[str, float] = {}
    for name, channel in found.items():
        if channel["mw"] is not None:
            powers[name] = int(channel["mw"]) / 1000.0
        elif channel["mv"] is not None:
            powers[name] = int(channel["mv"]) * int(channel["ma"]) / 1e6
        else:
            return None
    return powers
