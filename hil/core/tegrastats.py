"""What one line of `tegrastats` says, for every release whose lines we have seen.

Rules of this file:

* Figures are found by name, never by position: the order changed between L4T r28 and r32.
* Unknown is None or absent. Sensors that print constants are left out: `PMIC@100C` (older r32) and
  `PMIC@50C` (r32.7) are dummies, `-256C` is an unpowered zone on Orin, and r28 has shown -45 and
  -51 C on a warm board.
* A cut line must not give a wrong figure. `VDD_IN 1840/18` is the start of `VDD_IN 1840/1843` and
  parses as a valid smaller number. So `LineReader` holds back what has no newline yet, and `parse`
  refuses (None) a line that ends inside a token; where a line comes without its newline and ends
  in a digit, the figure that it ends with is left out.

Grammar by release, as recorded in the logs under `tests/data/tegrastats`:

* TX1 r24 to r28.1 and TX2 r27 to r28.1, without power: `cpu [17%,13%,29%,5%]@408` or
  `cpu [0%@345,off]`, `EMC 1%@408 APE 25 GR3D 3%@76`, on r24
  also `AVP 5%@115 VDE 0 .. EDP limit 1912`.
* r28.2 and r32: `RAM 896/7859MB (lfb 26x4MB) SWAP .. CPU [4%@345,off,..] EMC_FREQ 1%@665 GR3D_FREQ
  0%@140 APE 150 MTS fg 0% bg 0% PLL@34C .. VDD_IN 1383/1383 ..`; without root there is no `@MHz`,
  no APE and no MTS, and `EMC_FREQ 0%` is a constant. Nano as root: `IRAM 0/252kB(lfb 252kB)`.
* AGX Xavier r32: bare rail names, `GPU 463/463` beside the zone `GPU@37C`.
* r35 and r36: a date first, `2399mW/2399mW`, `GR3D_FREQ 40%@[305,305]`, a second GPU cluster
  `GR3D2_FREQ`, lower-case zones.
* r38 and r39 (JetPack 7): `52.9C/52.9C`; a third figure on each rail whose meaning is unknown
  (ignored); on Thor `GR3D_FREQ @[314,314,314]` or none at all, and rails that may read below zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hil.core.running_mean import MeanFault, RunningMean
from hil.core.tegrastats_grammar import (
    DUMMY_ZONES,
    LOWEST_PLAUSIBLE_C,
    NOT_CONNECTED,
    Core,
    DamagedLineError,
    RailReading,
    Reading,
    items,
    reading,
)
from hil.core.tegrastats_layout import Layouts

__all__ = [
    "DUMMY_ZONES",
    "LOWEST_PLAUSIBLE_C",
    "NOT_CONNECTED",
    "Core",
    "LineReader",
    "MeanFault",
    "RailReading",
    "Reading",
    "RunningMean",
    "parse",
    "parse_slowly",
    "swapped",
]

_LAYOUTS = Layouts()


class LineReader:
    """Cut a stream into whole lines, whatever its chunks; what has no newline yet is held back."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, chunk: str) -> tuple[str, ...]:
        """Return the lines this chunk completes, without their newline."""
        *whole, self._pending = (self._pending + chunk).split("\n")
        return tuple(line.removesuffix("\r") for line in whole)


def parse(line: str) -> Reading | None:
    """Read one line.

    Args:
        line: with its newline where it is known to be whole. Without, a figure that the line
            ends with is left out if another digit might have followed: the mean of the last rail
            of r28 and r32, the GPU's clock of r28.1.

    Returns:
        None where the line is not one of tegrastats or is damaged.
    """
    vouched = line.endswith("\n")
    text = line.rstrip()
    try:
        known = _LAYOUTS.read(text, vouched)
        if known is not None:
            return known
        tokens = items(text, vouched=vouched)
        said = reading(tokens, vouched=vouched)
    except DamagedLineError:
        return None
    _LAYOUTS.learn(tokens, text)
    return said


def parse_slowly(line: str) -> Reading | None:
    """Read one line token by token, whatever was met before; `parse` says the same, faster."""
    vouched = line.endswith("\n")
    try:
        return reading(items(line.rstrip(), vouched=vouched), vouched=vouched)
    except DamagedLineError:
        return None


def swapped(
    readings: Sequence[Reading], total: str, parts: Iterable[str] | None = None
) -> bool | None:
    """Whether parts of a module draw more than all of it, so that labels must be wrong.

    Seen on a Nano under load: `POM_5V_GPU 8949/8742 POM_5V_IN 3227/3086`.

    Args:
        readings: the first lines of a run; their figures are added up.
        total: the rail that holds the module.
        parts: rails inside it; None for all others.

    Returns:
        None where no line has the total and one of the parts.
    """
    total_mw = parts_mw = seen = 0
    wanted = None if parts is None else set(parts)
    for line in readings:
        inside = [
            rail.now_mw
            for name, rail in line.rails.items()
            if name != total and (wanted is None or name in wanted)
        ]
        if total in line.rails and inside:
            seen += 1
            total_mw += line.rails[total].now_mw
            parts_mw += sum(inside)
    return parts_mw > total_mw if seen else None
