"""One search on a replayed table: asked, measured, trained, told, under one budget for all.

The budget counts trainings. At any time at most four networks were measured for every training
spent and the one to come; a method that uses this up without a network the device accepts forfeits
the training, which is spent and teaches nothing. Only what the device accepts is trained, and the
network that looks best is the one of highest accuracy queried so far: one rule for every method.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from hil.bench.search_table import World
from hil.core.errors import HilError
from hil.synth.peers import Searcher
from hil.synth.records import Arch, Observation, Proposal
from hil.synth.screen import excess

MEASUREMENTS_A_TRAINING = 4
SINGLE = 12
"""Trainings until which every method is told of each network before it is asked for the next."""


class RepeatedNetworkError(HilError):
    """A method asked for a cell twice: a fault of the method."""


@dataclass(frozen=True)
class Trace:
    """What one search did.

    Attributes:
        best: row of the network that looks best after each training spent, None while none does.
        trained: rows trained, in order.
        measurements: networks measured.
        forfeited: trainings spent without a network to train.
        seconds: processor time of the method itself, ask and tell.
    """

    best: tuple[int | None, ...]
    trained: tuple[int, ...]
    measurements: int
    forfeited: int
    seconds: float


class Account:
    """Keeps a search within its budget, and what it came to.

    Args:
        world: table and limits.
        budget: trainings.
    """

    def __init__(self, world: World, budget: int) -> None:
        self.world, self.budget = world, budget
        self.best: list[int | None] = []
        self.trained: list[int] = []
        self.measured: set[Arch] = set()
        self.forfeited = 0
        self._highest = -np.inf

    @property
    def spent(self) -> int:
        """Trainings spent, forfeited ones among them."""
        return len(self.best)

    @property
    def allowance(self) -> int:
        """Networks that may be measured now."""
        if self.spent == self.budget:
            return 0
        return MEASUREMENTS_A_TRAINING * (self.spent + 1) - len(self.measured)

    def observe(self, proposal: Proposal, round_: int) -> Observation:
        """One measurement and, if the device accepts and the method asks for it, one training.

        Raises:
            RepeatedNetworkError: the cell was measured before.
        """
        arch = proposal.arch
        if arch in self.measured:
            raise RepeatedNetworkError(f"cell {arch} was asked for twice")
        self.measured.add(arch)
        costs = self.world.measure(arch)
        limits = self.world.limits
        if any(excess(m, np.array([costs[m.metric][0]]))[0] > 0.0 for m in limits):
            return Observation(arch, costs, None, "infeasible", round_)
        if not proposal.train:
            return Observation(arch, costs, None, "undecided", round_)
        accuracy, row = self.world.train(arch), self.world.space.row(arch)
        self.trained.append(row)
        better = accuracy > self._highest
        self._highest = max(accuracy, self._highest)
        self.best.append(row if better else self.best[-1])
        return Observation(arch, costs, accuracy, "feasible", round_)

    def forfeit(self) -> None:
        """Spend a training on nothing."""
        self.best.append(self.best[-1] if self.best else None)
        self.forfeited += 1


def run_search(world: World, searcher: Searcher, budget: int, seed: int, batch: int) -> Trace:
    """Spend `budget` trainings.

    Args:
        world: table and limits.
        searcher: the method.
        budget: trainings.
        seed: of the generator that `ask` is given.
        batch: most networks asked for before the method is told what came of them: at first, and
            once `SINGLE` trainings were spent.
    """
    account = Account(world, budget)
    round_, seconds = 0, 0.0
    while account.spent < budget:
        rng = np.random.Generator(np.random.Philox(key=[seed, round_]))
        start = time.process_time()
        few = 1 if account.spent < SINGLE and round_ else batch
        proposals = searcher.ask(min(few, account.allowance), rng)
        seconds += time.process_time() - start
        if not proposals:
            break
        told = []
        for proposal in proposals:
            if account.allowance == 0:
                break
            told.append(account.observe(proposal, round_))
        start = time.process_time()
        searcher.tell(told)
        seconds += time.process_time() - start
        while account.spent < budget and account.allowance == 0:
            account.forfeit()
        round_ += 1
    # A method that knows no further network stays where it is.
    last = account.best[-1] if account.best else None
    best = (*account.best, *[last] * (budget - account.spent))
    measured = len(account.measured)
    return Trace(best, tuple(account.trained), measured, account.forfeited, seconds)


def violations(world: World, trace: Trace) -> int:
    """Networks trained as feasible that break a limit by the table's own figures."""
    rows = list(trace.trained)
    bounds = {limit.metric: limit.bound for limit in world.limits}
    energy, latency = world.table.energy_mj[rows], world.table.latency_ms[rows]
    return int(((energy > bounds["energy_mj"]) | (latency > bounds["latency_ms"])).sum())
