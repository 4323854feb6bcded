"""Other ways to choose what to measure, behind the same two calls as the inquisitor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from hil.synth.records import Arch, Observation, Proposal
from hil.synth.searchspace import SearchSpace, random_archs, unique


class Searcher(Protocol):
    """Asked what to measure next, told what came of it."""

    def ask(self, n: int, rng: np.random.Generator) -> list[Proposal]:
        """Up to `n` networks, none measured before."""
        ...

    def tell(self, observations: Iterable[Observation]) -> None:
        """Fold in what was measured, in candidate order."""
        ...


class RandomSearch:
    """Uniform draws from the space, no network twice."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._seen: set[str] = set()

    def ask(self, n: int, rng: np.random.Generator) -> list[Proposal]:
        """`n` networks drawn at random; fewer where the space is exhausted."""
        chosen: list[Arch] = []
        for _ in range(100):
            drawn = [*chosen, *random_archs(self._space, n, rng)]
            chosen = unique(self._space, drawn, self._seen)[:n]
            if len(chosen) == n:
                break
        return [Proposal(arch, "random") for arch in chosen]

    def tell(self, observations: Iterable[Observation]) -> None:
        """Remember what was measured, and nothing else."""
        self._seen.update(self._space.key(o.arch) for o in observations)
