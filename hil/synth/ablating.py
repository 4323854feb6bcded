"""What each part of the generator-inquisitor pair is for: the search again, one part taken out.

All variants share prototype, board, budget and journal, so that they differ in what they choose
and in nothing else; every network is measured and trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hil.core.stats import Estimate
from hil.synth.candidates import Candidate
from hil.synth.comparing import Attempt
from hil.synth.emission_check import distances, emissions, satisfaction
from hil.synth.inquisitor import Inquisitor, Setup
from hil.synth.loop import Job, Start, search, setup_of, utility_in
from hil.synth.records import ACCURACY
from hil.synth.results import EMISSION_SEEDS
from hil.synth.searchspace import unique

FULL = "full"
_NO_FLOOR = 1e-9


def _whole(setup: Setup) -> Setup:
    return setup


def _no_task_stimuli(setup: Setup) -> Setup:
    return replace(setup, stimuli=None)


def _no_hardware_stimuli(setup: Setup) -> Setup:
    """Nothing is measured for the sake of knowing: neither a design nor calibration networks."""
    return replace(setup, initial=1, pool=replace(setup.pool, calibration=0.0))


def _no_diversity(setup: Setup) -> Setup:
    return replace(setup, fit=replace(setup.fit, floor=_NO_FLOOR, distinct=1))


VARIANTS: Mapping[str, Callable[[Setup], Setup]] = {
    FULL: _whole,
    "no task stimuli": _no_task_stimuli,
    "no hardware stimuli": _no_hardware_stimuli,
    "no diversity floor": _no_diversity,
}


@dataclass(frozen=True)
class Ablated:
    """One search of one variant, and what its generator makes of fresh seeds.

    Attributes:
        best_u: of the feasible network of highest U; None where none was found.
    """

    variant: str
    seed: int
    attempt: Attempt
    best_u: float | None
    emission: Mapping[str, Any]


def ablations(job: Job, start: Start, seeds: int, emit: int) -> Iterator[Ablated]:
    """Run every variant on every seed, interleaved, and yield each as it ends."""
    space = start.screening.bench.search_space
    for seed in range(seeds):
        for name, take_out in VARIANTS.items():
            inquisitor = Inquisitor(space, take_out(setup_of(job, start, seed)))
            inquisitor.tell([start.reference.observation()])
            done = Attempt(name, seed, tuple(search(job, start, inquisitor, seed)))
            judge = utility_in(inquisitor)
            best = done.best(judge)
            yield Ablated(
                name, seed, done, None if best is None else judge(best), _emission(inquisitor, emit)
            )


def _emission(inquisitor: Inquisitor, count: int) -> dict[str, Any]:
    space = inquisitor.space
    made = emissions(inquisitor.generator, range(EMISSION_SEEDS, EMISSION_SEEDS + count))
    archs = unique(space, [e.emission.arch for e in made if e.emission is not None])
    return {
        "seeds": count,
        "refused": sum(e.emission is None for e in made),
        "distinct": len(archs),
        "distance": distances(archs),
    }


def without_certificate(job: Job, start: Start, done: Sequence[Ablated]) -> dict[str, Any]:
    """How many networks that the search took for feasible fresh builds then refute.

    Every network that any of the searches called feasible is built anew as often as a certificate
    asks for at least. It is refuted where the mean over these builds breaks a limit.
    """
    space = start.screening.bench.search_space
    found: dict[str, Candidate] = {}
    for one in done:
        for candidate in one.attempt.feasible:
            found.setdefault(space.key(candidate.arch), candidate)
    refuted = sum(_refuted(job, start, candidate) for candidate in found.values())
    kept = satisfaction(len(found) - refuted, len(found)) if found else {}
    return {"accepted": len(found), "refuted": refuted, **kept}


def _refuted(job: Job, start: Start, candidate: Candidate) -> bool:
    bench, screening = start.screening.bench, start.screening
    assert candidate.trained is not None
    weights = candidate.trained.weights_sha256
    key = f"{bench.search_space.key(candidate.arch)}:{weights[:16]}"
    plan = job.profile.measure.confirmation.plan(job.interval_ms)
    builds = job.profile.measure.confirmation.builds.at_least
    figures = [
        job.board.measure(
            key, lambda: bench.export(candidate.arch, weights), plan, stage="confirm", build=number
        )
        for number in range(1, builds + 1)
    ]
    for requirement in screening.requirements:
        if requirement.metric == ACCURACY:
            continue
        known = [f.estimate(requirement.metric) for f in figures if f.usable]
        values = [e.value for e in known if isinstance(e, Estimate)]
        reference = start.reference.costs.get(requirement.metric)
        bound = requirement.bound(None if reference is None else reference.value)
        if not values or float(np.mean(values)) > bound:
            return True
    return False


def summary(done: Sequence[Ablated]) -> dict[str, Any]:
    """By variant, medians over seeds; U against the whole pair's on the same seed."""
    whole = {one.seed: one.best_u for one in done if one.variant == FULL}
    rows: dict[str, Any] = {}
    for name in VARIANTS:
        mine = [one for one in done if one.variant == name]
        if not mine:
            continue
        pairs = [(one.best_u, whole[one.seed]) for one in mine if one.seed in whole]
        gaps = [own - full for own, full in pairs if own is not None and full is not None]
        known = [one.best_u for one in mine if one.best_u is not None]
        rows[name] = {
            "seeds": len(mine),
            "without_feasible": sum(one.best_u is None for one in mine),
            "median_best_u": float(np.median(known)) if known else None,
            "median_u_against_full": float(np.median(gaps)) if gaps else None,
            "feasible": float(np.median([len(one.attempt.feasible) for one in mine])),
            "trainings": float(
                np.median([sum(c.trained is not None for c in o.attempt.candidates) for o in mine])
            ),
            "distinct": float(np.median([one.emission["distinct"] for one in mine])),
            "refused": float(np.median([one.emission["refused"] for one in mine])),
            "emission_seeds": mine[0].emission["seeds"],
        }
    return rows
