"""Rounds that overlap, in virtual time: both pools stay busy, and no result depends on arrival."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hil.core.stats import Estimate
from hil.synth.boardwork import Model
from hil.synth.candidates import Candidate
from hil.synth.pools import Agenda, Task, Threads
from hil.synth.profile import Budget
from hil.synth.progress import Silent
from hil.synth.records import Proposal
from hil.synth.searching import AHEAD, Halving, Search, ask_beside
from hil.synth.work import Trained

Duration = Callable[[Task], float]


@dataclass
class Virtual:
    """Pools whose work takes no time but is said to: a discrete-event simulation."""

    duration: Duration
    now_s: float = 0.0
    busy_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("board", "trainer"), 0))
    log: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    _events: list[tuple[float, int, Task, Agenda, Any]] = field(default_factory=list)

    def start(self, task: Task, agenda: Agenda) -> None:
        took_s = self.duration(task)
        self.busy_s[task.pool] = self.busy_s.get(task.pool, 0.0) + took_s
        self.log.append((self.now_s, task.what))
        event = (self.now_s + took_s, len(self.log), task, agenda, task.work())
        heapq.heappush(self._events, event)

    def run(self, begin: Callable[[Agenda], None]) -> None:
        begin(Agenda(self))
        while self._events:
            self.now_s, _, task, agenda, result = heapq.heappop(self._events)
            agenda.finished(task, result)


class Line:
    """A space of numbers."""

    def key(self, arch: tuple[int, ...]) -> str:
        return str(arch[0])


class Told:
    """Proposes what follows from everything told, and nothing twice."""

    def __init__(self) -> None:
        self.heard: list[tuple[tuple[int, ...], float | None]] = []
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def ask(self, n: int, rng: np.random.Generator) -> list[Proposal]:
        return self.ask_beside(n, (), rng)

    def ask_beside(self, n, pending, rng) -> list[Proposal]:
        self.asked.append((len(self.heard), tuple(str(a[0]) for a in pending)))
        taken = {arch for arch, _ in self.heard} | set(pending)
        start = zlib.crc32(repr(self.heard).encode()) % 1000 + int(rng.integers(1000))
        archs: list[tuple[int, ...]] = []
        while len(archs) < n:
            start += 1
            if (start,) not in taken:
                archs.append((start,))
        return [Proposal(arch, "told") for arch in archs]

    def tell(self, observations) -> None:
        self.heard += [(o.arch, o.accuracy) for o in observations]


class Bench:
    """Networks whose accuracies are numbers of their own."""

    search_space = Line()

    def __init__(self, score: Callable[[int], float] = lambda n: (n * 37 % 101) / 101) -> None:
        self.score = score
        self.trained: list[tuple[int, ...]] = []

    def glance(self, arch: tuple[int, ...]) -> float:
        return self.score(arch[0])

    def train(self, arch: tuple[int, ...], stage: str) -> Trained:
        assert stage == "search"
        self.trained.append(arch)
        return Trained("w", self.score(arch[0]), 100)


class Screening:
    """Accepts so many networks of ten, by their number."""

    def __init__(self, accepted: int = 6, bench: Bench | None = None) -> None:
        self.bench, self.accepted = bench or Bench(), accepted

    def file(self, _arch: tuple[int, ...]) -> Model:
        return Model(b"network")

    def measured(self, proposal: Proposal, number: int, file: Model) -> Candidate:
        assert file == Model(b"network")
        fits = proposal.arch[0] * 7 % 10 < self.accepted
        verdict = "feasible" if fits else "infeasible"
        costs = {"energy_mj": Estimate(1.0, 0.9, 1.1)}
        return Candidate(proposal.arch, proposal.source, number, (), costs, verdict)

    def judged(self, candidate: Candidate, trained: Trained) -> Candidate:
        return replace(candidate, trained=trained)


def searched(
    pools, budget: Budget, screening: Screening | None = None
) -> tuple[Search, Told, Screening]:
    told, screening = Told(), screening or Screening()
    search = Search(screening, told, budget, 0, Silent())  # type: ignore[arg-type]
    pools.run(search.begin)
    return search, told, screening


def budget(measurements: int = 24, batch: int = 4, **more: Any) -> Budget:
    return Budget(measurements=measurements, batch=batch, **{"trainings": measurements, **more})


def instance(seed: int) -> Duration:
    """Random durations: a training takes a quarter to four times as long as a measurement."""
    rng = np.random.Generator(np.random.Philox(seed))
    ratio = float(np.exp(rng.uniform(np.log(0.25), np.log(4.0))))
    usual = {"export": 0.03, "measure": 1.0, "train": ratio, "glance": 0.05, "think": 0.1}

    def duration(task: Task) -> float:
        return usual[task.what[0]] * float(rng.uniform(0.5, 1.5))

    return duration


def overlap(seed: int, budget: Budget) -> float:
    pools = Virtual(instance(seed))
    searched(pools, budget)
    return pools.now_s / max(pools.busy_s["board"], pools.busy_s["trainer"])


def test_neither_pool_waits_for_the_other_over_random_instances():
    ratios = [overlap(seed, budget()) for seed in range(150)]

    # The whole takes hardly longer than the busier pool: the first measurement and the last
    # training cannot overlap with anything.
    assert max(ratios) <= 1.15
    assert float(np.median(ratios)) <= 1.04


def test_without_a_round_ahead_both_pools_would_wait(monkeypatch):
    ahead = [overlap(seed, budget()) for seed in range(40)]
    monkeypatch.setattr("hil.synth.searching.AHEAD", 0)
    behind = [overlap(seed, budget()) for seed in range(40)]

    assert float(np.median(behind)) > 1.1 > float(np.median(ahead))


@pytest.mark.parametrize("promote", [1.0, 0.5])
def test_nothing_depends_on_the_order_in_which_results_arrive(promote):
    one, first, _ = searched(Virtual(instance(0)), budget(trainings=9, promote=promote))

    for seed in range(1, 60):
        other, told, _ = searched(Virtual(instance(seed)), budget(trainings=9, promote=promote))
        assert other.candidates == one.candidates
        assert told.asked == first.asked


def test_threads_come_to_the_same_as_virtual_time():
    expected, _, _ = searched(Virtual(instance(0)), budget())
    with Threads() as pools:
        got, _, _ = searched(pools, budget())

    assert got.candidates == expected.candidates
    assert set(pools.busy_s) == {"board", "trainer", "thinker"}


def test_the_whole_budget_is_spent_and_no_more():
    search, _, screening = searched(Virtual(instance(1)), budget(10, 4, trainings=3))

    assert len(search.candidates) == 10
    assert len({c.arch for c in search.candidates}) == 10
    fits = [c.arch for c in search.candidates if c.verdict == "feasible"]
    assert screening.bench.trained == fits[:3]
    assert [c.arch for c in search.candidates if c.trained] == fits[:3]


def test_a_round_is_asked_for_beside_the_one_in_work_with_all_before_it_told():
    _, told, _ = searched(Virtual(instance(2)), budget(16, 4))

    known = [heard for heard, _ in told.asked]
    pending = [len(names) for _, names in told.asked]
    assert AHEAD == 1
    assert known == [0, 0, 4, 8]
    assert pending == [0, 4, 4, 4]
    assert len(told.heard) == 16


def test_every_round_is_told_in_order_at_the_end():
    numbers: list[int] = []
    search = Search(Screening(), Told(), budget(), 0, Silent(), numbers.append)  # type: ignore[arg-type]
    Virtual(instance(3)).run(search.begin)

    assert numbers == [1, 2, 3, 4, 5, 6]


def test_what_the_board_refuses_is_never_trained_nor_glanced_at():
    pools = Virtual(instance(4))
    search, _, screening = searched(pools, budget(promote=0.5), Screening(accepted=0))

    assert not screening.bench.trained
    assert {what[0] for _, what in pools.log} == {"think", "export", "measure"}
    assert all(c.glance is None for c in search.candidates)


def test_halving_promotes_the_best_so_far_by_hand():
    halving = Halving(0.5)
    # Of one, the best one; of two, the best one; of three, the best two; ...
    assert [halving.promotes(s) for s in (0.5, 0.4, 0.45, 0.6, 0.1, 0.46)] == [
        True,
        False,
        True,
        True,
        False,
        True,
    ]
    assert all(Halving(1.0).promotes(s) for s in (0.9, 0.1))


def test_only_networks_that_promise_most_are_trained():
    search, _, screening = searched(Virtual(instance(5)), budget(40, 4, promote=0.5))

    looked = [c for c in search.candidates if c.glance is not None]
    by_hand = Halving(0.5)
    expected = [c.arch for c in looked if by_hand.promotes(c.glance)]
    assert sorted(screening.bench.trained) == sorted(expected)
    assert len(expected) < len(looked)
    # What is told as accuracy is that of the training, never the glance.
    for candidate in search.candidates:
        told = candidate.observation().accuracy
        assert (told is None) == (candidate.trained is None)


def test_a_searcher_without_foresight_is_asked_for_more_and_pending_ones_are_left_out():
    plain = SimpleNamespace(ask=lambda n, _rng: [Proposal((k,), "plain") for k in range(n)])
    rng = np.random.Generator(np.random.Philox(0))

    asked = ask_beside(plain, Line(), 2, [(1,), (7,)], rng)

    assert [p.arch for p in asked] == [(0,), (2,)]


def test_an_error_in_a_pool_is_raised_where_the_work_was_given():
    def broken(_arch):
        raise ValueError("the trainer broke")

    screening = Screening()
    screening.bench.train = lambda arch, _stage: broken(arch)
    with Threads() as pools, pytest.raises(ValueError, match="the trainer broke"):
        searched(pools, budget(), screening)


def test_urgent_work_overtakes_what_waits():
    pools = Virtual(lambda _task: 1.0)

    def begin(agenda: Agenda) -> None:
        for priority, name in ((1, "first"), (9, "late"), (0, "urgent")):
            agenda.add(Task((priority,), "board", (name,), lambda: None, lambda _: None))

    pools.run(begin)
    done = [what[0] for _, what in pools.log]
    assert done == ["first", "urgent", "late"]
