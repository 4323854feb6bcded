"""One search: networks asked for, measured, glanced at and trained, in rounds that overlap.

A round is asked for while the one before it is still in work, so that neither the board nor the
trainer waits for the end of a round: round k is proposed with the rounds up to k - 1 - `AHEAD`
told, whatever else may be known by then. Decisions are taken in candidate order, each from the
results of candidates up to it alone; the order in which results arrive changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from hil.synth.boardwork import Model
from hil.synth.candidates import Candidate, Screening
from hil.synth.peers import Searcher
from hil.synth.pools import Agenda, PoolName, Priority, Task
from hil.synth.profile import Budget
from hil.synth.progress import Watcher
from hil.synth.records import Arch, Proposal
from hil.synth.searchspace import SearchSpace
from hil.synth.seeds import derived_seed
from hil.synth.work import Trained

AHEAD = 1
"""Rounds that a proposal does not wait for, beside the last one told."""

# The trainer's order: the board waits for files, decisions wait for glances, trainings for both.
_EXPORT, _GLANCE, _TRAIN = range(3)


@runtime_checkable
class Foresighted(Protocol):
    """A searcher that can be told which networks are on their way, and proposes beside them."""

    def ask_beside(
        self, n: int, pending: Sequence[Arch], rng: np.random.Generator
    ) -> list[Proposal]:
        """As `Searcher.ask`, none of them pending."""
        ...


def ask_beside(
    searcher: Searcher,
    space: SearchSpace,
    n: int,
    pending: Sequence[Arch],
    rng: np.random.Generator,
) -> list[Proposal]:
    """Ask for networks while others are in work that nobody was told of yet.

    Any other searcher is asked for as many more as are pending, and those are left out.
    """
    if isinstance(searcher, Foresighted):
        return searcher.ask_beside(n, pending, rng)
    taken = {space.key(arch) for arch in pending}
    asked = searcher.ask(n + len(pending), rng)
    return [p for p in asked if space.key(p.arch) not in taken][:n]


@dataclass
class Halving:
    """Who of the networks that fit is worth a training, by the cheap score of each.

    Asynchronous successive halving (L. Li et al., "A System for Massively Parallel Hyperparameter
    Tuning", MLSys 2020), in candidate order: a network is promoted where its score is among the
    best `keep` of those seen so far, itself counted, rounded up.
    """

    keep: float
    _seen: list[float] = field(default_factory=list)

    def promotes(self, score: float) -> bool:
        """Whether the next network in order is promoted; remembers its score."""
        self._seen.append(score)
        better = sum(other > score for other in self._seen)
        return better < math.ceil(self.keep * len(self._seen))


@dataclass
class _Place:
    """A candidate's way through a round."""

    proposal: Proposal
    measured: Candidate | None = None
    glanced: bool = False
    training: bool = False
    done: Candidate | None = None


@dataclass
class Search:
    """Spends one budget by the proposals of one searcher.

    Attributes:
        screening: how networks are looked at.
        searcher: who proposes.
        budget: what may be spent.
        seed: of what the searcher draws.
        watch: told of each network measured.
        on_told: called with the number of each round told, in order.
        thinker: which pool the searcher thinks in.
    """

    screening: Screening
    searcher: Searcher
    budget: Budget
    seed: int
    watch: Watcher
    on_told: Callable[[int], None] = lambda _number: None
    thinker: PoolName = "thinker"
    trainings: int = 0
    _rounds: dict[int, list[_Place]] = field(default_factory=dict)
    _asked: int = 0
    _next: tuple[int, int] = (1, 0)
    _closing: int = 1
    _ended: bool = False

    def __post_init__(self) -> None:
        self._halving = Halving(self.budget.promote)

    @property
    def candidates(self) -> list[Candidate]:
        """Every network of the finished search, in order."""
        return [p.done for _, places in sorted(self._rounds.items()) for p in places if p.done]

    def begin(self, agenda: Agenda) -> None:
        """Ask for the first rounds; everything else comes of that."""
        for number in range(1, 2 + AHEAD):
            self._think(agenda, number)

    def _think(self, agenda: Agenda, number: int) -> None:
        """Tell what round `number` may be proposed with, then ask for it."""
        # Before whatever else that pool does: proposals keep the others at work.
        priority, what = (-1, number), ("think", str(number))
        work = partial(self._proposals, number)
        then = partial(self._take, agenda, number)
        agenda.add(Task(priority, self.thinker, what, work, then))

    def _proposals(self, number: int) -> list[Proposal]:
        told = number - 1 - AHEAD
        if told >= 1:
            self.searcher.tell([p.done.observation() for p in self._rounds[told] if p.done])
            self.on_told(told)
        wanted = min(self.budget.batch, self.budget.measurements - self._asked)
        if self._ended or wanted < 1:
            return []
        pending = [
            p.proposal.arch
            for later in range(max(told, 0) + 1, number)
            for p in self._rounds.get(later, ())
        ]
        rng = np.random.Generator(np.random.Philox(derived_seed(self.seed, "ask", str(number))))
        space = self.screening.bench.search_space
        return ask_beside(self.searcher, space, wanted, pending, rng)

    def _take(self, agenda: Agenda, number: int, proposals: list[Proposal]) -> None:
        if not proposals:
            self._ended = True
            return
        self._asked += len(proposals)
        self._rounds[number] = [_Place(p) for p in proposals]
        for i, proposal in enumerate(proposals):
            work = partial(self.screening.file, proposal.arch)
            then = partial(self._measure, agenda, number, i)
            self._add(agenda, "trainer", (_EXPORT, number, i), "export", work, then)

    def _measure(self, agenda: Agenda, number: int, i: int, file: Model | None) -> None:
        proposal = self._rounds[number][i].proposal
        work = partial(self.screening.measured, proposal, number, file)
        then = partial(self._look, agenda, number, i)
        self._add(agenda, "board", (number, i), "measure", work, then)

    def _look(self, agenda: Agenda, number: int, i: int, candidate: Candidate) -> None:
        self.watch.advance()
        place = self._rounds[number][i]
        place.measured = candidate
        worth = candidate.verdict != "infeasible" and place.proposal.train
        if not worth or self.budget.promote >= 1:
            self._glanced(agenda, number, i, None)
            return
        work = partial(self.screening.bench.glance, candidate.arch)
        then = partial(self._glanced, agenda, number, i)
        self._add(agenda, "trainer", (_GLANCE, number, i), "glance", work, then)

    def _glanced(self, agenda: Agenda, number: int, i: int, score: float | None) -> None:
        place = self._rounds[number][i]
        assert place.measured is not None
        place.measured, place.glanced = replace(place.measured, glance=score), True
        for ready in self._in_order():
            self._decide(agenda, *ready)
        self._close(agenda)

    def _in_order(self) -> Iterator[tuple[int, int]]:
        """Candidates to decide on: all before them, and they themselves, are measured."""
        while True:
            number, i = self._next
            places = self._rounds.get(number, [])
            if i >= len(places) or not places[i].glanced:
                return
            self._next = (number, i + 1) if i + 1 < len(places) else (number + 1, 0)
            yield number, i

    def _decide(self, agenda: Agenda, number: int, i: int) -> None:
        place = self._rounds[number][i]
        candidate = place.measured
        assert candidate is not None
        # An undecided network stays in the race: only fresh builds decide about it.
        worth = candidate.verdict != "infeasible" and place.proposal.train
        score = candidate.glance
        promoted = worth and (score is None or self._halving.promotes(score))
        if not promoted or self.trainings >= self.budget.trainings:
            place.done = candidate
            return
        self.trainings += 1
        work = partial(self.screening.bench.train, candidate.arch, "search")
        then = partial(self._trained, agenda, number, i)
        self._add(agenda, "trainer", (_TRAIN, number, i), "train", work, then)

    def _trained(self, agenda: Agenda, number: int, i: int, trained: Trained) -> None:
        place = self._rounds[number][i]
        assert place.measured is not None
        place.done = self.screening.judged(place.measured, trained)
        self._close(agenda)

    def _close(self, agenda: Agenda) -> None:
        """End rounds that are complete, in order, each by asking for a later one."""
        while places := self._rounds.get(self._closing):
            if any(p.done is None for p in places):
                return
            self._closing += 1
            self._think(agenda, self._closing + AHEAD)

    def _add(
        self,
        agenda: Agenda,
        pool: PoolName,
        priority: Priority,
        kind: str,
        work: Callable[[], object],
        then: Callable[..., None],
    ) -> None:
        number, i = priority[-2:]
        agenda.add(Task(priority, pool, (kind, str(number), str(i)), work, then))
