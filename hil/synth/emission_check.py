"""What a learned generator's own emissions are worth: every seed emitted, measured and trained.

The parameters are frozen and the seeds named beforehand, so nothing is chosen after the fact: a
seed that the generator refuses, and one whose network breaks a limit, counts against it. Figures
are those of the search (screening windows, short training, search split); nothing is certified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import beta

from hil.core.errors import NothingFeasibleError
from hil.synth.candidates import Candidate
from hil.synth.generator import Emission, Generator
from hil.synth.loop import Job, Start
from hil.synth.records import ACCURACY, Arch, Observation, Proposal
from hil.synth.searching import Search
from hil.synth.searchspace import SearchSpace, unique

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Emitted:
    """What one seed became; `emission` is None where the generator refused, and `refused` why."""

    seed: int
    emission: Emission | None
    refused: str = ""


class _InOrder:
    """Proposes given networks one after the other and learns nothing."""

    def __init__(self, archs: Sequence[Arch]) -> None:
        self._left = list(archs)

    def ask(self, n: int, rng: np.random.Generator) -> list[Proposal]:
        """The next `n`."""
        return self.ask_beside(n, (), rng)

    def ask_beside(
        self,
        n: int,
        pending: Sequence[Arch],  # noqa: ARG002 - none is in the list twice
        rng: np.random.Generator,  # noqa: ARG002 - drawn already
    ) -> list[Proposal]:
        """The next `n`."""
        taken, self._left = self._left[:n], self._left[n:]
        return [Proposal(arch, "generator") for arch in taken]

    def tell(self, observations: Iterable[Observation]) -> None:
        """Nothing is learned."""


def emissions(generator: Generator, seeds: Iterable[int]) -> list[Emitted]:
    """What each seed becomes, in order."""
    found = []
    for seed in seeds:
        try:
            found.append(Emitted(seed, generator.emit(seed)))
        except NothingFeasibleError as error:
            found.append(Emitted(seed, None, str(error)))
    return found


def check(job: Job, start: Start, emitted: Sequence[Emitted]) -> dict[str, Candidate]:
    """Measure every network emitted and train what the device accepts; by key.

    Each network is looked at once, however many seeds became it, and only where the run's journal
    does not know it yet.
    """
    space = start.screening.bench.search_space
    archs = unique(space, [e.emission.arch for e in emitted if e.emission is not None])
    if not archs:
        return {}
    given = job.profile.budget
    spend = {"measurements": len(archs), "trainings": len(archs), "promote": 1.0}
    budget = given.model_copy(update=spend)
    job.watch.stage("checking what the generator emits", len(archs))
    search = Search(start.screening, _InOrder(archs), budget, job.seed, job.watch)
    job.pools.run(search.begin)
    return {space.key(c.arch): c for c in search.candidates}


def check_json(
    space: SearchSpace,
    emitted: Sequence[Emitted],
    checked: dict[str, Candidate],
    proposed: Iterable[Arch],
) -> dict[str, Any]:
    """The check as `hil generate --check --json` gives it.

    Args:
        space: the run's.
        emitted: what each seed became.
        checked: what `check` returned.
        proposed: networks that the search looked at.
    """
    asked = {space.key(arch) for arch in proposed}
    rows = [_row(space, e, checked) for e in emitted]
    good = sum(row["verdict"] == "feasible" for row in rows)
    archs = {space.key(c.arch): c.arch for c in checked.values()}
    feasible = {k for k, c in checked.items() if c.verdict == "feasible"}
    return {
        "certified": False,
        "seeds": len(rows),
        "refused": sum(e.emission is None for e in emitted),
        "emitted": sum(e.emission is not None for e in emitted),
        "satisfied": good,
        **satisfaction(good, len(rows)),
        "distinct": len(archs),
        "distinct_feasible": len(feasible),
        "feasible_never_proposed": len(feasible - asked),
        "distance": distances(list(archs.values())),
        "networks": rows,
    }


def _row(space: SearchSpace, emitted: Emitted, checked: dict[str, Candidate]) -> dict[str, Any]:
    if emitted.emission is None:
        return {"seed": emitted.seed, "verdict": "refused", "refused": emitted.refused}
    candidate = checked[space.key(emitted.emission.arch)]
    accuracy = None if candidate.trained is None else 100 * candidate.trained.accuracy
    return {
        "seed": emitted.seed,
        "key": space.key(emitted.emission.arch),
        "architecture": list(emitted.emission.arch),
        "repairs": emitted.emission.edits,
        "verdict": candidate.verdict,
        **{metric: estimate.value for metric, estimate in candidate.costs.items()},
        ACCURACY: accuracy,
        "accuracy_loss_points": candidate.loss_points,
    }


def satisfaction(good: int, count: int) -> dict[str, Any]:
    """The share of seeds that satisfy, by Clopper and Pearson (1934): exact, never too narrow.

    `satisfied_at_least` is the one-sided 95 % lower bound: 59 of 59 give 95 %.
    """
    tail = (1 - _CONFIDENCE) / 2
    low = float(beta.ppf(tail, good, count - good + 1)) if good else 0.0
    high = float(beta.ppf(1 - tail, good + 1, count - good)) if good < count else 1.0
    least = float(beta.ppf(1 - _CONFIDENCE, good, count - good + 1)) if good else 0.0
    return {
        "satisfied_share": good / count,
        "satisfied_share_ci95": [low, high],
        "satisfied_at_least": least,
    }


def distances(archs: Sequence[Arch]) -> dict[str, float] | None:
    """In how many choices two different networks differ: mean, least and most; None below two."""
    gaps = [
        sum(a != b for a, b in zip(one, two, strict=True)) for one, two in combinations(archs, 2)
    ]
    if not gaps:
        return None
    return {
        "mean": float(np.mean(gaps)),
        "least": float(min(gaps)),
        "most": float(max(gaps)),
        "variables": float(len(archs[0])),
    }
