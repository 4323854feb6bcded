"""Lines of a layout that was met before, read in one pass.

A board prints the same names in the same order, line after line; only figures change. From a
line that was read token by token a `Layout` is made: one regular expression for the whole line
with a group for each figure. What it does not match exactly, spacing included, is read token by
token again, so layouts are a matter of speed and never of what is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import repeat

from hil.core.tegrastats_grammar import (
    DUMMY_ZONES,
    LOWEST_PLAUSIBLE_C,
    NOT_CONNECTED,
    Core,
    RailReading,
    Reading,
    ends_inside,
    highest_mhz,
    is_supply,
    one_core,
)

_DATE = re.compile(r"\d[\d:-]*$", re.ASCII)
_PERCENT = re.compile(r"\d+%$", re.ASCII)
_CLOCK = re.compile(r"@\d+$", re.ASCII)
_ARRAY = r"\[(?:\d++|off)(?:,\s*+(?:\d++|off))*+\]"
_MOST_CORES = 4096
_MOST_LAYOUTS = 32
_MOST_SEEN = 256
# What `RailReading(*pair)` does, without its Python half.
_RAIL = partial(tuple.__new__, RailReading)
_ORDER = (
    "ram_used_mb",
    "ram_total_mb",
    "gr3d_percent",
    "gr3d_mhz",
    "emc_percent",
    "emc_mhz",
    "swap_used_mb",
    "swap_total_mb",
)
_LOADS = {"EMC_FREQ": "emc", "EMC": "emc", "GR3D_FREQ": "gr3d", "GR3D": "gr3d"}


class Layout:
    """How one board prints its lines.

    Args:
        tokens: of a line that reads.
        text: that line.
    """

    def __init__(self, tokens: Sequence[re.Match[str]], text: str) -> None:
        self.usable = True
        self._count = 0
        self._cpus = 0
        self._numbers: dict[str, int] = {}
        self._arrays: dict[str, int] = {}
        self._rails: dict[str, tuple[int, int]] = {}
        self._zones: dict[str, int] = {}
        pieces = []
        position = 0
        for token in tokens:
            written = token[0].lstrip()
            start = token.end() - len(written)
            pieces += [re.escape(text[position:start]), self._piece(token, written)]
            position = token.end()
        self.pattern = "".join(pieces)
        last = tokens[-1]
        bare = text[-1].isdigit()
        self.ends_bare = bare
        # A mean at the very end may have lost digits: it is left out unless somebody vouches.
        self._bare_mean = last["rail"] if bare and last["mean"] and not last["third"] else None
        self.usable &= not bare or self._bare_mean in self._rails
        self._freeze()

    def compile(self) -> None:
        """Make ready to read; takes about a millisecond, so only what came twice is worth it."""
        self._match = re.compile(self.pattern, re.ASCII).fullmatch

    def read(self, text: str, vouched: bool) -> Reading | None:
        """Return what a line says; None where it is not of this layout.

        Raises:
            DamagedLineError: something between the brackets is no core.
        """
        match = self._match(text)
        if match is None:
            return None
        group = match.group
        means = map(int, group(*self._means)) if self._means else repeat(None)
        figures = zip(map(int, group(*self._nows)), means, strict=False)
        rails = dict(zip(self._names, map(_RAIL, figures), strict=False))
        if self._bare_mean is not None and not vouched:
            rails[self._bare_mean] = RailReading(rails[self._bare_mean].now_mw, None)
        temps_c = dict(zip(self._zones, map(float, group(*self._temps)), strict=False))
        if "@-" in text:
            temps_c = {zone: c for zone, c in temps_c.items() if c >= LOWEST_PLAUSIBLE_C}
        told: list[int | None] = [None, *map(int, group(*self._ints))]
        for index in self._clocks:
            told.append(_HIGHEST[group(index)])
        a, b, c, d, e, f, g, h = self._places
        cpus = tuple(map(_CORES.__getitem__, group(self._cpus).split(",")))
        return Reading(
            told[a],  # type: ignore[arg-type]
            told[b],  # type: ignore[arg-type]
            cpus,
            rails,
            temps_c,
            told[c],
            told[d],
            told[e],
            told[f],
            told[g],
            told[h],
        )

    def _freeze(self) -> None:
        """Lay down which groups to ask for, and where each figure of a reading is then found.

        `Match.group` of one index gives a string and not a tuple, so an index comes twice where
        it may be alone; what is one too many is never used.
        """
        self._names = tuple(self._rails)
        self._nows = _twice([now for now, _ in self._rails.values()])
        self._means = _twice([mean for _, mean in self._rails.values() if mean])
        self._temps = _twice(list(self._zones.values()))
        self._ints = tuple(self._numbers.values())
        self._clocks = tuple(self._arrays.values())
        names = (None, *self._numbers, *self._arrays)
        self._places = [names.index(name) if name in names else 0 for name in _ORDER]

    def _group(self) -> int:
        self._count += 1
        return self._count

    def _piece(self, token: re.Match[str], written: str) -> str:
        piece = {
            "rail": self._rail_piece,
            "zone": self._zone_piece,
            "memory": self._memory_piece,
            "load": self._load_piece,
            "cpus": self._cpus_piece,
            "note": lambda *_: r"\([^()]*+\)",
            "word": lambda *_: _word_piece(written),
        }
        kind = next(kind for kind in piece if token[kind] is not None)
        return piece[kind](token, written)

    def _cpus_piece(self, token: re.Match[str], written: str) -> str:
        self._cpus = self._group()
        # One clock for all cores is a matter of releases without power: not worth a layout.
        self.usable &= token["shared"] is None
        return re.escape(written[: written.index("[")]) + r"\[([^][]*+)\]"

    def _rail_piece(self, token: re.Match[str], written: str) -> str:
        name, unit = token["rail"], token["mw"]
        space = re.escape(written[len(name) : token.start("now") - token.start("rail")])
        if token["mean"] is None and not unit and not is_supply(name):
            return rf"{name}{space}-?\d++"
        known = name != NOT_CONNECTED
        figure = rf"(-?\d++){unit}" if known else rf"-?\d++{unit}"
        third = rf"/-?\d++{unit}" if token["third"] else ""
        if token["mean"] is None:
            if known:
                self._rails[name] = (self._group(), 0)
            return f"{name}{space}{figure}"
        if known:
            self._rails[name] = (self._group(), self._group())
        return f"{name}{space}{figure}/{figure}{third}"

    def _zone_piece(self, token: re.Match[str], written: str) -> str:
        second = r"/-?\d++(?:\.\d++)?+C" if "/" in written else ""
        figure = r"-?\d++(?:\.\d++)?+"
        if token["zone"] in DUMMY_ZONES:
            return f"{re.escape(token['zone'])}@{figure}C{second}"
        self._zones[token["zone"]] = self._group()
        return f"{re.escape(token['zone'])}@({figure})C{second}"

    def _memory_piece(self, token: re.Match[str], written: str) -> str:
        name, unit = token["memory"], token["unit"]
        space = re.escape(written[len(name) : token.start("used") - token.start("memory")])
        if name == "IRAM":
            return rf"IRAM{space}\d++/\d++{unit}"
        self.usable &= unit == "MB"
        for part in ("used", "total"):
            self._numbers[f"{name.lower()}_{part}_mb"] = self._group()
        return rf"{name}{space}(\d++)/(\d++){unit}"

    def _load_piece(self, token: re.Match[str], written: str) -> str:
        load = token["load"]
        first = "percent" if token["percent"] else "mhz"
        head = re.escape(written[: token.start(first) - token.start("load")])
        name = _LOADS.get(load)
        percent = clock = ""
        if token["percent"]:
            percent = r"\d++%"
            if name == "gr3d" or (name == "emc" and token["mhz"]):
                self._numbers[f"{name}_percent"] = self._group()
                percent = r"(\d++)%"
        if token["mhz"]:
            several = token["mhz"].startswith("[")
            clock = _ARRAY if several else r"\d++"
            if name is not None:
                (self._arrays if several else self._numbers)[f"{name}_mhz"] = self._group()
                clock = f"({clock})"
            clock = f"@{clock}" if token["percent"] else clock
        return f"{head}{percent}{clock}"


def _word_piece(written: str) -> str:
    """Match the word itself, or any of its kind where it is a date, a load or a clock."""
    if _PERCENT.match(written):
        return r"\d++%"
    if _CLOCK.match(written):
        return r"@\d++"
    return r"\d[\d:-]*+" if _DATE.match(written) else re.escape(written)


class Layouts:
    """Layouts met so far, the last one used first."""

    def __init__(self) -> None:
        self._known: list[Layout] = []
        self._seen: set[str] = set()

    def read(self, text: str, vouched: bool) -> Reading | None:
        """Return what a line says; None where no layout has it.

        Raises:
            DamagedLineError: the line is damaged.
        """
        known = self._known
        for layout in known:
            reading = layout.read(text, vouched)
            if reading is not None:
                if layout is not known[0]:
                    self._known = [layout, *(one for one in known if one is not layout)]
                return reading
        return None

    def learn(self, tokens: Sequence[re.Match[str]], text: str) -> None:
        """Keep the layout of a line that was read token by token, the second time it comes."""
        if len(self._known) >= _MOST_LAYOUTS or ends_inside(tokens[-1], text):
            return  # the second would read otherwise where nobody vouches for its end
        layout = Layout(tokens, text)
        if not layout.usable:
            return
        if layout.pattern in self._seen:
            layout.compile()
            self._known = [layout, *self._known]
            return
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen.add(layout.pattern)


class _Cores(dict[str, Core | None]):
    """Cores by how they are written; there are few thousand ways, and most come again."""

    def __missing__(self, text: str) -> Core | None:
        core = one_core(text)
        if len(self) >= _MOST_CORES:
            self.clear()
        self[text] = core
        return core


class _Highest(dict[str, int | None]):
    """Clocks in brackets by how they are written."""

    def __missing__(self, text: str) -> int | None:
        highest = highest_mhz(text)
        if len(self) >= _MOST_CORES:
            self.clear()
        self[text] = highest
        return highest


_CORES = _Cores()
_HIGHEST = _Highest()


def _twice(indices: list[int]) -> tuple[int, ...]:
    return (*indices, indices[-1]) if indices else ()
