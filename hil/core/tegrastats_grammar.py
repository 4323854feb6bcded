"""The grammar of tegrastats lines, read token by token; `hil.core.tegrastats` is the door.

Every name may come anywhere on the line and with any spacing. What is not a token of ours is a
word and passes, so that a release that prints more still reads; what looks like one of our names
and lacks its figures means that the line is damaged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

_Figure = TypeVar("_Figure")

# Below this no zone of a working module can be: the module itself is rated from -25 C.
LOWEST_PLAUSIBLE_C = -40.0
# assumes: dummy-zones
DUMMY_ZONES = frozenset({"PMIC"})
NOT_CONNECTED = "NC"

_ITEM = re.compile(
    r"""\s*(?:
      (?P<memory>RAM|SWAP|IRAM)\s+(?P<used>\d+)/(?P<total>\d+)(?P<unit>[kM]B)(?![^\s(])
    | (?:CPU|cpu)\s*\[(?P<cpus>[^][]*)\](?:@(?P<shared>\d+))?(?!\S)
    | \((?P<note>[^()]*)\)
    | (?P<load>EMC_FREQ|EMC|GR3D\d?_FREQ|GR3D)\s+(?=[\d@])(?:(?P<percent>\d+)%)?
      (?:@(?P<mhz>\d+|\[(?:\d+|off)(?:,\s*(?:\d+|off))*\]))?(?!\S)
    | (?P<zone>[A-Za-z][\w-]*)@(?P<temp>-?\d+(?:\.\d+)?)C(?:/-?\d+(?:\.\d+)?C)?(?!\S)
    | (?!RAM\b|SWAP\b|IRAM\b|EMC\b|EMC_FREQ\b|GR3D)(?P<rail>[A-Za-z]\w*)\s+
      (?P<now>-?\d+)(?P<mw>mW|)(?:/(?P<mean>-?\d+)(?P=mw)(?P<third>/-?\d+(?P=mw))?)?(?!\S)
    | (?P<word>[^\s()[\]]+)
    )""",
    re.ASCII | re.VERBOSE,
)
_CORE = re.compile(r"(?:(\d+)%(?:@(\d+))?|off)$", re.ASCII)
# A bare `NAME 150` is a setting (APE, VIC_FREQ) unless its name says it is a supply.
_SUPPLY = re.compile(r"(?:VDD|VIN|POM)_?", re.ASCII)
# Names whose figures we read: met without their figures, the line is damaged.
_OURS = re.compile(
    r"(?:RAM|SWAP|IRAM|CPU|cpu|EMC|EMC_FREQ|GR3D|GR3D\d?_FREQ|VIN|(?:VDD|VIN|POM)_.*)$", re.ASCII
)
# Words that may end a whole line without being part of a figure we read.
_HARMLESS_END = re.compile(r"(?:off|\d+%)$", re.ASCII)
# `EDP limit 1912` ends the lines of L4T r24.
_HARMLESS_SETTING = "limit"
# The only rail, one bare figure, at the very end: as likely as not the start of a pair.
_ONE_BARE = {(False, False, False)}


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
        gr3d_percent: None where the release does not print it (JetPack 7 on Thor).
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


class DamagedLineError(Exception):
    """The line ends inside a token, says something twice, or breaks the grammar."""


def items(text: str, *, vouched: bool) -> list[re.Match[str]]:
    """Return the tokens, which make up the whole text.

    Raises:
        DamagedLineError: they do not, or nobody vouches for the last one and it may be the
            start of another.
    """
    found = []
    position = 0
    while position < len(text):
        item = _ITEM.match(text, position)
        if item is None:
            raise DamagedLineError
        found.append(item)
        position = item.end()
    if not found or (not vouched and ends_inside(found[-1], text)):
        raise DamagedLineError
    return found


def reading(tokens: list[re.Match[str]], *, vouched: bool) -> Reading:
    """Return what the tokens of one line say.

    Args:
        tokens: of a whole line, or of the start of one.
        vouched: whether it is known that the last token is whole. If not, and it ends in a
            digit, the figure it ends with is left out: another digit may have followed.

    Raises:
        DamagedLineError: the line is not one of tegrastats, or says something twice.
    """
    found: dict[str, int | None] = {}
    rails: dict[str, RailReading] = {}
    temps_c: dict[str, float] = {}
    cpus: tuple[Core | None, ...] | None = None
    # How rails are written: with a unit, a mean, a third figure. One unlike the others was cut.
    shapes: set[tuple[bool, bool, bool]] = set()
    for item in tokens:
        bare = not vouched and item is tokens[-1] and item[0][-1].isdigit()
        if item["rail"]:
            _add_rail(rails, shapes, item, bare=bare)
        elif item["zone"]:
            _put(temps_c, {item["zone"]: float(item["temp"])})
        elif item["memory"]:
            _put(found, _memory(item))
        elif item["load"]:
            _put(found, _load(item, bare=bare))
        elif item["cpus"]:
            if cpus is not None:
                raise DamagedLineError
            cpus = cores(item["cpus"], item["shared"])
        elif item["word"] and _OURS.match(item["word"]):
            raise DamagedLineError
    if cpus is None or "ram_used_mb" not in found or len(shapes) > 1:
        raise DamagedLineError
    if not vouched and shapes == _ONE_BARE and len(rails) <= 1 and tokens[-1]["rail"]:
        raise DamagedLineError
    for zone in [z for z, c in temps_c.items() if z in DUMMY_ZONES or c < LOWEST_PLAUSIBLE_C]:
        del temps_c[zone]
    return Reading(cpus=cpus, rails=rails, temps_c=temps_c, **found)  # type: ignore[arg-type]


def cores(text: str, shared_mhz: str | None) -> tuple[Core | None, ...]:
    """Return what stands between the brackets; `shared_mhz` is one clock for all, r28.1 and before.

    Raises:
        DamagedLineError: something is no core.
    """
    return tuple(one_core(part, shared_mhz) for part in text.split(","))


def one_core(text: str, shared_mhz: str | None = None) -> Core | None:
    """Return one core, None for one that is off.

    Raises:
        DamagedLineError: it is neither.
    """
    match = _CORE.match(text.strip())
    if match is None:
        raise DamagedLineError
    percent, mhz = match[1], match[2] or shared_mhz
    return Core(int(percent), int(mhz) if mhz else None) if percent else None


def highest_mhz(text: str) -> int | None:
    """Return the highest of one clock or of several in brackets; None where all are off."""
    clocks = [int(part) for part in text.strip("[]").split(",") if part.strip() != "off"]
    return max(clocks, default=None)


def is_supply(name: str) -> bool:
    """Whether a name with one bare figure is a power rail."""
    return _SUPPLY.match(name) is not None


def ends_inside(last: re.Match[str], text: str) -> bool:
    """Whether the last token may be the start of a longer one that says something else."""
    if last["word"] is not None:
        return _HARMLESS_END.match(last["word"]) is None
    if last["rail"] is not None:
        rail = last["mean"] is not None or is_supply(last["rail"])
        return text[-1].isdigit() and not rail and last["rail"] != _HARMLESS_SETTING
    if last["cpus"] is not None:
        return True  # up to r28.1 the clock of all cores follows the bracket
    # A line of r28.1 ends with `GR3D 3%@76`; no other ends in a digit.
    return text[-1].isdigit() and last["load"] is None


def _put(into: dict[str, _Figure], figures: Mapping[str, _Figure]) -> None:
    """Add figures; one said twice means two lines glued together."""
    if into.keys() & figures.keys():
        raise DamagedLineError
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


def _load(item: re.Match[str], *, bare: bool) -> dict[str, int | None]:
    name = item["load"].removesuffix("_FREQ").lower()
    if name not in ("emc", "gr3d"):
        return {}
    text = item["mhz"]
    mhz = None if text is None or bare else highest_mhz(text)
    percent = int(item["percent"]) if item["percent"] else None
    # Without root the load of the memory is a constant 0 and no clock is printed.
    known = name == "gr3d" or text is not None
    return {f"{name}_percent": percent if known else None, f"{name}_mhz": mhz}


def _add_rail(
    rails: dict[str, RailReading],
    shapes: set[tuple[bool, bool, bool]],
    item: re.Match[str],
    *,
    bare: bool,
) -> None:
    name, mean = item["rail"], item["mean"]
    if mean is None and not item["mw"] and not is_supply(name):
        return
    shapes.add((bool(item["mw"]), mean is not None, item["third"] is not None))
    if name == NOT_CONNECTED or (bare and mean is None):
        return
    unsure = mean is None or (bare and item["third"] is None)
    _put(rails, {name: RailReading(int(item["now"]), None if unsure else int(mean))})
