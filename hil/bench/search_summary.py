"""Searches summed up: regret in merit, trainings until it is small, what was spent and broken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hil.bench.search_entrants import OURS
from hil.bench.search_run import Trace, violations
from hil.bench.search_table import World
from hil.synth.records import FloatArray

REGRET_AT = (20, 30, 60, 100)
TARGETS = (0.5, 0.2)
_DRAWS = 4000


def level_summary(
    world: World, done: Mapping[str, Mapping[int, Trace]], budget: int
) -> dict[str, Any]:
    """One level's limits and figures.

    Args:
        world: table and limits.
        done: traces by method and seed.
        budget: trainings.
    """
    points = world.merit.points
    # Merit where a cell trained once counts with its own accuracy, luck and all.
    lucky = np.where(world.merit.single, world.table.accuracy, points)
    ours = regrets(done[OURS], points, world.best) if OURS in done else None
    feasible = np.flatnonzero(world.feasible)
    looks_best = feasible[np.argmax(world.table.accuracy[feasible])]
    return {
        "limits": {limit.metric: limit.bound for limit in world.limits},
        "quantile": world.quantile,
        "feasible_share": float(world.feasible.mean()),
        "best_merit": world.best,
        "regret_of_training_every_feasible_cell": world.best - float(points[looks_best]),
        "methods": {
            name: _method(world, traces, budget, ours, lucky)
            for name, traces in done.items()
            if traces
        },
    }


def _method(
    world: World,
    traces: Mapping[int, Trace],
    budget: int,
    ours: Mapping[int, FloatArray] | None,
    lucky: FloatArray,
) -> dict[str, Any]:
    own = regrets(traces, world.merit.points, world.best)
    own_luck = regrets(traces, lucky, float(lucky[world.feasible].max()))
    counts = [n for n in REGRET_AT if n <= budget]
    return {
        "seeds": len(traces),
        "regret_at": {
            str(n): {
                "median": _median([r[n - 1] for r in own.values()]),
                "median_if_trained_once_counts_as_is": _median(
                    [r[n - 1] for r in own_luck.values()]
                ),
                **_against(own, ours, n),
            }
            for n in counts
        },
        "trainings_to": {f"{t:g}": _trainings_to(own, t) for t in TARGETS},
        "measurements": float(np.median([t.measurements for t in traces.values()])),
        "forfeited": float(np.median([t.forfeited for t in traces.values()])),
        "violations": sum(violations(world, t) for t in traces.values()),
        "without_feasible": sum(t.best[-1] is None for t in traces.values()),
        "seconds": float(np.median([t.seconds for t in traces.values()])),
    }


def regrets(traces: Mapping[int, Trace], points: FloatArray, best: float) -> dict[int, FloatArray]:
    """By seed, regret after each training spent; infinite while nothing feasible is known."""
    return {
        seed: np.array([np.inf if row is None else best - points[row] for row in trace.best])
        for seed, trace in traces.items()
    }


def _against(
    own: Mapping[int, FloatArray], ours: Mapping[int, FloatArray] | None, n: int
) -> dict[str, Any]:
    """Median of the differences to ours, paired by seed, with a 95 % bootstrap interval."""
    seeds = sorted(own.keys() & ours.keys()) if ours is not None else []
    if ours is None or not seeds:
        return {"minus_ours": None, "minus_ours_ci95": None, "pairs": 0}
    pairs = [(own[s][n - 1], ours[s][n - 1]) for s in seeds]
    # Two that both know nothing are equal.
    gaps = np.array([0.0 if a == b else a - b for a, b in pairs])
    rng = np.random.Generator(np.random.Philox(0))
    draws = np.median(gaps[rng.integers(len(gaps), size=(_DRAWS, len(gaps)))], axis=1)
    # Nearest ranks: an infinite difference cannot be interpolated.
    low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
    return {
        "minus_ours": _median(gaps),
        "minus_ours_ci95": [_finite(float(low)), _finite(float(high))],
        "pairs": len(seeds),
    }


def _trainings_to(own: Mapping[int, FloatArray], target: float) -> dict[str, Any]:
    """Median trainings until the regret is first at most `target`, never counted as infinite."""
    hits = [np.flatnonzero(regret <= target) for regret in own.values()]
    first = [float(hit[0] + 1) if len(hit) else np.inf for hit in hits]
    return {"median": _median(first), "reached": sum(len(hit) > 0 for hit in hits)}


def _median(values: Any) -> float | None:
    with np.errstate(invalid="ignore"):
        return _finite(float(np.median(np.asarray(values, dtype=np.float64))))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
