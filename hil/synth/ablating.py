"""What each part of the generator-inquisitor pair is for: the search again, one part taken out.

All variants share prototype, board, budget and journal, so that they differ in what they choose
and in nothing else; every network is measured and trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hil.core.stats import Estimate
from hil.synth.candidates import Candidate
from hil.synth.comparing import Attempt
from hil.synth.emission_check import check, distances, emissions, satisfaction
from hil.synth.inquisitor import Inquisitor, Setup
from hil.synth.loop import Job, Start, search, setup_of, utility_in
from hil.synth.records import ACCURACY, Arch, FloatArray
from hil.synth.results import EMISSION_SEEDS
from hil.synth.searchspace import SearchSpace, VariableSpec, unique

FULL = "full"
NO_TASK_STIMULI = "no task stimuli"
_NO_FLOOR = 1e-9
_EARLY = 4  # the early figure is that of one part in so many of the budget


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
    NO_TASK_STIMULI: _no_task_stimuli,
    "no hardware stimuli": _no_hardware_stimuli,
    "no diversity floor": _no_diversity,
}


class Unsignalled:
    """A search space that keeps its training-free signals to itself.

    Args:
        space: the space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    @property
    def variables(self) -> tuple[VariableSpec, ...]:
        """As in the space."""
        return self._space.variables

    def key(self, arch: Arch) -> str:
        """As in the space."""
        return self._space.key(arch)

    def neighbours(self, arch: Arch) -> Iterable[Arch]:
        """As in the space."""
        return self._space.neighbours(arch)

    def features(self, arch: Arch) -> FloatArray:
        """As in the space."""
        return self._space.features(arch)

    def cost(self, arch: Arch) -> tuple[float, float]:
        """As in the space."""
        return self._space.cost(arch)


@dataclass(frozen=True)
class Ablated:
    """One search of one variant, and what its generator makes of fresh seeds.

    Attributes:
        best_u: of the feasible network of highest U; None where none was found.
        early_u: the same after a quarter of the networks.
    """

    variant: str
    seed: int
    attempt: Attempt
    best_u: float | None
    early_u: float | None
    emission: Mapping[str, Any]


def ablations(
    job: Job, start: Start, seeds: int, emit: int, *, checked: bool = False
) -> Iterator[Ablated]:
    """Run every variant on every seed, interleaved, and yield each as it ends.

    Args:
        job: the job.
        start: its prototype, known.
        seeds: searches of each variant.
        emit: fresh seeds each learned generator is asked for.
        checked: whether what they become is measured and trained as well.
    """
    whole = start.screening.bench.search_space
    for seed in range(seeds):
        for name, take_out in VARIANTS.items():
            space = Unsignalled(whole) if name == NO_TASK_STIMULI else whole
            inquisitor = Inquisitor(space, take_out(setup_of(job, start, seed)))
            inquisitor.tell([start.reference.observation()])
            done = Attempt(name, seed, tuple(search(job, start, inquisitor, seed)))
            judge = utility_in(inquisitor)
            early = replace(done, candidates=done.candidates[: len(done.candidates) // _EARLY])
            best, first = _best_u(done, judge), _best_u(early, judge)
            emission = _emission(job, start, inquisitor, emit, checked=checked)
            yield Ablated(name, seed, done, best, first, emission)


def _best_u(attempt: Attempt, judge: Callable[[Candidate], float]) -> float | None:
    best = attempt.best(judge)
    return None if best is None else judge(best)


def _emission(
    job: Job, start: Start, inquisitor: Inquisitor, count: int, *, checked: bool
) -> dict[str, Any]:
    space = inquisitor.space
    made = emissions(inquisitor.generator, range(EMISSION_SEEDS, EMISSION_SEEDS + count))
    archs = unique(space, [e.emission.arch for e in made if e.emission is not None])
    found = check(job, start, made) if checked else {}
    good = {key for key, candidate in found.items() if candidate.verdict == "feasible"}
    keys = [space.key(e.emission.arch) for e in made if e.emission is not None]
    return {
        "seeds": count,
        "refused": sum(e.emission is None for e in made),
        "distinct": len(archs),
        "distance": distances(archs),
        "satisfied": sum(key in good for key in keys) if checked else None,
        "distinct_feasible": len(good) if checked else None,
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
    refuted = {key for key, candidate in found.items() if _refuted(job, start, candidate)}
    kept = satisfaction(len(found) - len(refuted), len(found)) if found else {}
    return {"accepted": len(found), "refuted": len(refuted), **kept}


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


def _against_full(mine: Sequence[Ablated], done: Sequence[Ablated]) -> dict[str, Any]:
    """The early figure, paired by seed with the whole pair's."""
    whole = {one.seed: one.early_u for one in done if one.variant == FULL}
    pairs = [(one.early_u, whole[one.seed]) for one in mine if one.seed in whole]
    gaps = [own - full for own, full in pairs if own is not None and full is not None]
    return {
        "early_without_feasible": sum(one.early_u is None for one in mine),
        "mean_early_u_against_full": float(np.mean(gaps)) if gaps else None,
    }


def _checked(mine: Sequence[Ablated]) -> dict[str, Any]:
    """What the learned generators' networks came to, where they were looked at."""
    looked = [one.emission for one in mine if one.emission["satisfied"] is not None]
    if not looked:
        return {"satisfied_share": None, "distinct_feasible": None}
    return {
        "satisfied_share": float(np.mean([e["satisfied"] / e["seeds"] for e in looked])),
        "distinct_feasible": float(np.median([e["distinct_feasible"] for e in looked])),
    }


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
            **_against_full(mine, done),
            **_checked(mine),
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
