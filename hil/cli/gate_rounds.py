"""Rounds of a gate: screening that stops once every check stands, and engines built anew.

Rule of this file: it measures and tells the trial; what that comes to is `hil.measure.gate`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hil.cli.network import Network, build
from hil.cli.rounds import Rounds
from hil.cli.terminal import say
from hil.core.errors import DeviceError, MeasurementError

if TYPE_CHECKING:
    from hil.cli.measuring import Desk
    from hil.device.session import EngineInfo
    from hil.measure.comparison import Scored
    from hil.measure.gate import Trial, Turn
    from hil.measure.interleave import Round, Side

MOST_SPOILT = 2
"""Rounds that could not be scored, such as by a trace that ends early, before we give up."""
MOST_BUILD = 1 << 20
MOST_TRIES = 4


@dataclass
class GateRounds(Rounds):
    """Rounds of one stage.

    Attributes:
        alone: there is no baseline on the board: a round is one run of the candidate.
        trial: what is told of each look; None for a fixed number of rounds, `wanted`.
        spoilt: rounds that could not be scored, with the reason.
    """

    alone: bool = False
    trial: Trial | None = None
    wanted: int = 0
    seen: int = 0
    spoilt: int = 0

    def run(self, engines: Mapping[Side, Sequence[EngineInfo]], seed: int) -> None:
        """Measure rounds until every check stands, or time is up."""
        if not self.alone:
            super().run(engines, seed)
            return
        from hil.measure.interleave import ROUNDS_AT_ONCE, Round

        rounds: list[Round] = []
        while True:
            for _ in range(ROUNDS_AT_ONCE):
                number = len(rounds) // ROUNDS_AT_ONCE % self.builds
                info = engines["b"][number]
                evidence = self.desk.session.run(info, self.plan(), self.desk.power)
                self._keep("b", evidence)
                rounds.append(Round(len(rounds), number, "b", evidence, evidence))
            if not self._go_on(rounds):
                return

    def turns(self, offset: int = 0) -> tuple[Turn, ...]:
        """Return the usable rounds as checks read them."""
        from hil.measure.gate import turns_of

        return turns_of(self.scored, alone=self.alone, offset=offset)

    def _go_on(self, rounds: Sequence[Round]) -> bool:
        for one in rounds[self.seen :]:
            self._take(one)
        if self.trial is None:
            return len(rounds) < self.wanted
        if not self.trial.due(len(rounds)):
            return True
        self.looks += 1
        going = self.trial.look(self.turns())
        standing = [screen.standing for screen in self.trial.screens.values()]
        shown = ", ".join(f"{standing.count(s)} {s}" for s in ("below", "beyond", "open"))
        say(f"  {len(rounds)} rounds: {shown}")
        cycle = self.trial.cycle
        if going and self.spent_s * (1 + cycle / len(rounds)) > self.rule.max_time_s:
            self.outcome = "undecided"
            return False
        return going

    def _take(self, one: Round) -> None:
        self.seen += 1
        try:
            self.scored.append(self._score(one))
        except MeasurementError as error:
            self.spoilt += 1
            say(f"  a round is left out: {error.what}")
            if self.spoilt > MOST_SPOILT:
                raise

    def _score(self, one: Round) -> Scored:
        if not self.alone:
            return super()._score(one)
        from hil.measure.comparison import Scored
        from hil.measure.numbers import require_joules

        at_s = (min(mark.start_ns for mark in one.b.marks) - (self._zero_ns or 0)) / 1e9
        own = self.desk.score(one.b)
        if not self.rule.figure.startswith("latency"):
            own = require_joules(own)
        return Scored(one.build, "b", at_s, own, own)


@dataclass
class Builder:
    """Builds engines; those for a confirmation are new to the board, whatever it keeps from before.

    Attributes:
        next_build: number that no engine of this run has had.
    """

    desk: Desk
    precision: str | None
    next_build: int

    def first(self, network: Network, builds: int) -> list[EngineInfo]:
        """Build for screening: one engine may come from the board's cache, several are new."""
        if builds > 1:
            return self.fresh(network, builds)
        return [build(self.desk.session, network, self.desk.config, self.precision, 0)]

    def fresh(self, network: Network, builds: int) -> list[EngineInfo]:
        """Build anew, so many times.

        Raises:
            DeviceError: the device only knows engines that it had before.
        """
        made: list[EngineInfo] = []
        for _ in range(MOST_TRIES * builds):
            if len(made) == builds:
                break
            self.next_build = self.next_build % (MOST_BUILD - 1) + 1
            number = self.next_build
            info = build(self.desk.session, network, self.desk.config, self.precision, number)
            if not info.cached:
                made.append(info)
        if len(made) < builds:
            raise DeviceError(
                f"{self.desk.session.name} builds no new engine of {network.name}",
                why="it answers every build with one that it had before",
                fix="run `hil device clean` on it",
            )
        return made
