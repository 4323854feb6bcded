"""Regularised evolution (Real et al. 2019), feasible first: no library has it."""

from __future__ import annotations

import numpy as np

from hil.synth.peers.searcher import Peer, Task
from hil.synth.records import Arch
from hil.synth.searchspace import uniform_level

_STARTS = (0.5, 0.25)


class Evolution(Peer):
    """Ageing population, tournaments, one mutation a child.

    Every measured network enters and the oldest leaves; tournaments rank feasible networks by U
    before infeasible ones by violation.

    Args:
        population: networks alive.
        sample: networks in a tournament.
        initial: networks drawn at random first.
    """

    name = "evolution"

    def __init__(
        self, task: Task, population: int = 64, sample: int = 16, initial: int = 12
    ) -> None:
        super().__init__(task)
        self._population, self._sample, self._initial = population, sample, initial
        ordered = any(v.ordered for v in self.space.variables)
        # Where there is a natural scale, chance alone starts far from the limits.
        self._starts = [uniform_level(self.space, x) for x in _STARTS] if ordered else []

    def candidates(self, count: int, rng: np.random.Generator) -> list[Arch]:
        """Seeds and chance at first, then children of tournaments."""
        starts = [arch for arch in self._starts if self.fresh(arch)][:count]
        alive = list(self.told.values())[-self._population :]
        if len(alive) < self._initial:
            return starts + self.fill(count - len(starts), rng, lambda: None)

        def child() -> Arch | None:
            picks = rng.choice(len(alive), size=min(self._sample, len(alive)), replace=False)
            return mutated(self, max((alive[i] for i in picks), key=lambda t: t.rank).arch, rng)

        return self.fill(count, rng, child)


def mutated(peer: Peer, arch: Arch, rng: np.random.Generator) -> Arch | None:
    """`arch` with one variable drawn anew, None where nothing can be chosen."""
    variables = peer.space.variables
    open_ = [j for j, v in enumerate(variables) if v.size > 1]
    if not open_:
        return None
    j = int(rng.choice(open_))
    choice = int(rng.integers(variables[j].size - 1))
    return (*arch[:j], choice + (choice >= arch[j]), *arch[j + 1 :])
