"""What one line of `tegrastats` says, for every release whose lines we have seen.

Rules of this file:

* Figures are found by name, never by position: the order changed between L4T r28 and r32.
* Unknown is None or absent. Sensors that print constants are left out: `PMIC@100C` (older r32) and
  `PMIC@50C` (r32.7) are dummies, `-256C` is an unpowered zone on Orin, and r28 has shown -45 and
  -51 C on a warm board.
* A cut line must not give a wrong figure. `VDD_IN 1840/18` is the start of `VDD_IN 1840/1843` and
  parses as a valid smaller number, so the first defence is `LineReader`, which holds back what has
  no newline yet. The second is `parse`, which refuses (None) any line that ends inside a token.

Grammar by release, as recorded in the logs under `tests/data/tegrastats`:

* r28 and r32: `RAM 896/7859MB (lfb 26x4MB) SWAP .. CPU [4%@345,off,..] EMC_FREQ 1%@665 GR3D_FREQ
  0%@140 APE 150 MTS fg 0% bg 0% PLL@34C .. VDD_IN 1383/1383 ..`; without root there is no `@MHz`,
  no APE and no MTS, and `EMC_FREQ 0%` is a constant.
* AGX Xavier r32: bare rail names, `GPU 463/463` beside the zone `GPU@37C`.
* r35 and r36: a date first, `2399mW/2399mW`, `GR3D_FREQ 40%@[305,305]`, lower-case zones.
* r39: `52.9C/52.9C`, and a third figure on each rail whose meaning is unknown (ignored).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

_Figure = TypeVar("_Figure")

# Below this no zone of a working module can be: the module itself is rated from -25 C.
LOWEST_PLAUSIBLE_C = -40.0
DUMMY_ZONES = frozenset({"PMIC"})
NOT_CONNECTED = "NC"

_ITEM = re.compile(
    r"""\s*(?:
      (?P<memory>RAM|SWAP|IRAM)\s+(?P<used>\d+)/(?P<total>\d+)(?P<unit>[kM]B)(?![^\s(])
    | CPU\s*\[(?P<cpus>[^][]*)\](?!\S)
    | \((?P<note>[^()]*)\)
    | (?P<load>EMC_FREQ|GR3D\d?_FREQ)\s+(?P<percent>\d+)%(?:@(?P<mhz>\d+|\[\d+(?:,\d+)*\]))?(?!\S)
    | (?P<zone>[A-Za-z][\w-]*)@(?P<temp>-?\d+(?:\.\d+)?)C(?:/-?\d+(?:\.\d+)?C)?(?!\S)
    | (?!RAM\b|SWAP\b|IRAM\b|EMC_FREQ\b|GR3D)(?P<rail>[A-Za-z]\w*)\s+
      (?P<now>\d+)(?P<mw>mW|)(?:/(?P<mean>\d+)(?P=mw)(?P<third>/\d+(?P=mw))?)?(?!\S)
    | (?P<word>[^\s()[\]]+)
    )""",
    re.ASCII | re.VERBOSE,
)
_CORE = re.compile(r"(?:(\d+)%(?:@(\d+))?|off)$", re.ASCII)
# A bare `NAME 150` is a setting (APE, VIC_FREQ) unless its name says it is a supply.
_SUPPLY = re.compile(r"(?:VDD|VIN|POM)_?", re.ASCII)
# Names whose figures we read: met without their figures, the line is damaged.
_OURS = re.compile(r"(?:RAM|SWAP|IRAM|CPU|EMC_FREQ|GR3D\d?_FREQ|(?:VDD|VIN|POM)_.*)$", re.ASCII)
# Words that may end a whole line without being part of a figure we read.
_HARMLESS_END = re.compile(r"(?:off|\d+%)$", re.ASCII)


class RailReading(NamedTuple):
    """One rail on one line; `mean_mw` is floor of the mean since the process started."""

    now_mw: int
    mean_mw: int | None


class Core(NamedTuple):
    """One core that is on: load, and clock where printed."""

    percent: int
    mhz: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One line. Rails and zones keep the spelling of the line.

    Attributes:
        rails: empty where the board or release prints no power.
        temps_c: dummy and unpowered sensors left out.
        gr3d_mhz: highest where the GPU has several clocks; None without root.
        emc_percent: None without root, where the line prints a constant 0 %.
        cpus: None is a core that is off.
    """

    ram_used_mb: int
    ram_total_mb: int
    cpus: tuple[Core | None, ...]
    rails: Mapping[str, RailReading] = field(default_factory=dict)
    temps_c: Mapping[str, float] = field(default_factory=dict)
    gr3d_percent: int | None = None
    gr3d_mhz: int | None = None
    emc_percent: int | None = None
    emc_mhz: int | None = None
    swap_used_mb: int | None = None
    swap_total_mb: int | None = None


class LineReader:
    """Cut a stream into whole lines, whatever its chunks; what has no newline yet is held back."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, chunk: str) -> tuple[str, ...]:
        """Return the lines this chunk completes, without their newline."""
        *whole, self._pending = (self._pending + chunk).split("\n")
        return tuple(line.removesuffix("\r") for line in whole)


class _DamagedLineError(Exception):
    """The line ends inside a token, says something twice, or breaks the grammar."""


def parse(line: str) -> Reading | None:
    """Read one whole line, with or without its newline.

    Returns:
        None where the line is not one of tegrastats or is damaged. A cut that leaves the figures
        whole except the last rail's running mean cannot be seen here: feed `LineReader` first.
    """
    items = _items(line.rstrip())
    if items is None:
        return None
    try:
        return _reading(items)
    except _DamagedLineError:
        return None


def _items(text: str) -> list[re.Match[str]] | None:
    """Return the tokens, or None unless they make up the whole text."""
    items = []
    position = 0
    while position < len(text):
        item = _ITEM.match(text, position)
        if item is None:
            return None
        items.append(item)
        position = item.end()
    return items if items and not _ends_inside(items[-1], text) else None


def _ends_inside(last: re.Match[str], text: str) -> bool:
    """Whether the last token may be the start of a longer one."""
    if last["word"] is not None:
        return _HARMLESS_END.match(last["word"]) is None
    supply = last["rail"] is not None and (last["mean"] is not None or _SUPPLY.match(last["rail"]))
    # Every release ends its lines with a rail or with a unit; another digit at the end is a cut.
    return text[-1].isdigit() and not supply


def _reading(items: list[re.Match[str]]) -> Reading:
    found: dict[str, int | None] = {}
    rails: dict[str, RailReading] = {}
    temps_c: dict[str, float] = {}
    cpus: tuple[Core | None, ...] | None = None
    shapes: set[tuple[bool, bool, bool]] = set()
    for item in items:
        if item["rail"]:
            _add_rail(rails, shapes, item)
        elif item["zone"]:
            _put(temps_c, {item["zone"]: float(item["temp"])})
        elif item["memory"]:
            _put(found, _memory(item))
        elif item["load"]:
            _put(found, _load(item))
        elif item["cpus"]:
            cpus = _cores(item["cpus"], cpus)
        elif item["word"] and _OURS.match(item["word"]):
            raise _DamagedLineError
    if cpus is None or "ram_used_mb" not in found or not _shapes_agree(shapes, rails, items[-1]):
        raise _DamagedLineError
    for zone in [z for z, c in temps_c.items() if z in DUMMY_ZONES or c < LOWEST_PLAUSIBLE_C]:
        del temps_c[zone]
    return Reading(cpus=cpus, rails=rails, temps_c=temps_c, **found)  # type: ignore[arg-type]


def _put(into: dict[str, _Figure], figures: Mapping[str, _Figure]) -> None:
    """Add figures; one said twice means two lines glued together."""
    if into.keys() & figures.keys():
        raise _DamagedLineError
    into.update(figures)


def _memory(item: re.Match[str]) -> dict[str, int | None]:
    name = item["memory"].lower()
    if name == "iram":
        return {}
    per_mb = 1024 if item["unit"] == "kB" else 1
    return {
        f"{name}_used_mb": int(item["used"]) // per_mb,
        f"{name}_total_mb": int(item["total"]) // per_mb,
    }


def _load(item: re.Match[str]) -> dict[str, int | None]:
    text = item["mhz"]
    mhz = None if text is None else max(int(part) for part in text.strip("[]").split(","))
    percent = int(item["percent"])
    if item["load"] == "EMC_FREQ":
        # Without root the load of the memory is a constant 0 and no clock is printed.
        return {"emc_percent": None if mhz is None else percent, "emc_mhz": mhz}
    if item["load"] == "GR3D_FREQ":
        return {"gr3d_percent": percent, "gr3d_mhz": mhz}
    return {}


def _cores(text: str, before: tuple[Core | None, ...] | None) -> tuple[Core | None, ...]:
    if before is not None:
        raise _DamagedLineError
    cores: list[Core | None] = []
    for part in text.split(","):
        core = _CORE.match(part.strip())
        if core is None:
            raise _DamagedLineError
        percent, mhz = core.groups()
        cores.append(Core(int(percent), int(mhz) if mhz else None) if percent else None)
    return tuple(cores)


def _add_rail(
    rails: dict[str, RailReading], shapes: set[tuple[bool, bool, bool]], item: re.Match[str]
) -> None:
    name, mean = item["rail"], item["mean"]
    if mean is None and not item["mw"] and not _SUPPLY.match(name):
        return
    shapes.add((bool(item["mw"]), mean is not None, item["third"] is not None))
    if name == NOT_CONNECTED:
        return
    _put(rails, {name: RailReading(int(item["now"]), None if mean is None else int(mean))})


def _shapes_agree(
    shapes: set[tuple[bool, bool, bool]], rails: Mapping[str, RailReading], last: re.Match[str]
) -> bool:
    """Whether all rails are written alike: one that is not was cut short."""
    if len(shapes) > 1:
        return False
    # The only rail, one bare figure, at the very end: as likely as not the start of a pair.
    return not (shapes == {(False, False, False)} and len(rails) == 1 and last["rail"] in rails)


@dataclass(frozen=True, slots=True)
class MeanFault:
    """A line whose running mean does not follow from the lines before it.

    Attributes:
        kind: "late" the first line is not the first of its process; "restarted" a new process;
            "lost" a line is missing or was altered.
        line: 1 for the first line given.
    """

    kind: Literal["late", "lost", "restarted"]
    line: int
    rail: str
    printed_mw: int
    expected_mw: int


class RunningMean:
    """Hold each line's mean against all lines so far: floor(sum / n), this line included.

    Verified without exception on 432 lines of a TX2 and 4,111 of an AGX Orin. A lost line escapes
    only where it was so near the mean on every rail that no floor moved. After a "lost" fault the
    sum is unknown and the rest goes unchecked; `checked` counts the lines that were good.
    """

    def __init__(self) -> None:
        self.checked = 0
        self._given = 0
        self._count = 0
        self._sums_mw: dict[str, int] = {}
        self._blind = False

    def add(self, reading: Reading) -> MeanFault | None:
        """Take the next line; return what is wrong with it, None where it fits."""
        self._given += 1
        rails = {name: rail for name, rail in reading.rails.items() if rail.mean_mw is not None}
        if self._blind or not rails:
            return None
        self._count += 1
        for name, rail in rails.items():
            self._sums_mw[name] = self._sums_mw.get(name, 0) + rail.now_mw
        for name, rail in rails.items():
            expected_mw = self._sums_mw[name] // self._count
            if rail.mean_mw is not None and rail.mean_mw != expected_mw:
                kind = self._recover(rails)
                return MeanFault(kind, self._given, name, rail.mean_mw, expected_mw)
        self.checked += 1
        return None

    def _recover(self, rails: Mapping[str, RailReading]) -> Literal["late", "lost", "restarted"]:
        if all(rail.mean_mw == rail.now_mw for rail in rails.values()):
            self._count = 1
            self._sums_mw = {name: rail.now_mw for name, rail in rails.items()}
            return "restarted"
        self._blind = True
        return "late" if self._count == 1 else "lost"
