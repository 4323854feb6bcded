"""Synthesis against peers, search after search: which method finds the better networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hil.synth.comparing import HIL, Attempt, Judge, attempt
from hil.synth.loop import Job, interrogate, prepare, utility_in

METHODS = (HIL, "random")


@dataclass(frozen=True)
class Search:
    """One search of one method.

    Attributes:
        best: U of the best feasible network after each measurement, None while there is none.
        feasible: measured networks that met every limit on the search split.
    """

    method: str
    seed: int
    best: tuple[float | None, ...]
    feasible: int


def searches(job: Job, seeds: int, methods: Sequence[str] = METHODS) -> Iterator[Search]:
    """Run every method on every seed, interleaved, and yield each search as it ends."""
    start = prepare(job)
    judge = utility_in(interrogate(job, start, 0))
    for seed in range(seeds):
        for method in methods:
            yield searched(attempt(job, start, method, seed), judge)


def searched(done: Attempt, judge: Judge) -> Search:
    """An attempt as the course of its best U."""
    best: list[float | None] = []
    good = set(map(id, done.feasible))
    for candidate in done.candidates:
        known = best[-1] if best else None
        if id(candidate) in good:
            score = judge(candidate)
            known = score if known is None else max(known, score)
        best.append(known)
    return Search(done.method, done.seed, tuple(best), len(good))


def summary(done: Sequence[Search]) -> dict[str, object]:
    """Median best U by method and the paired difference to random with a bootstrap interval.

    A search without any feasible network counts as minus infinity in medians.
    """
    methods = sorted({s.method for s in done})
    final = {
        m: {s.seed: -np.inf if s.best[-1] is None else s.best[-1] for s in done if s.method == m}
        for m in methods
    }
    result: dict[str, object] = {
        m: {
            "median_best_u": _finite(float(np.median(list(final[m].values())))),
            "searches": len(final[m]),
            "without_feasible": sum(not np.isfinite(v) for v in final[m].values()),
            "median_feasible": float(np.median([s.feasible for s in done if s.method == m])),
            "best_u": [_finite(v) for _, v in sorted(final[m].items())],
        }
        for m in methods
    }
    if {"hil", "random"} <= set(methods):
        seeds = sorted(final["hil"].keys() & final["random"].keys())
        gaps = np.array([final["hil"][s] - final["random"][s] for s in seeds])
        rng = np.random.Generator(np.random.Philox(0))
        draws = np.median(rng.choice(gaps, (10_000, len(gaps))), axis=1)
        low, high = np.quantile(draws, [0.025, 0.975])
        result["median_gain_over_random"] = _finite(float(np.median(gaps)))
        result["median_gain_over_random_ci95"] = [_finite(float(low)), _finite(float(high))]
        result["wins"] = int((gaps > 0).sum())
    return result


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
