"""How often a gate cries wolf, and how often it misses: the shipped decision on known boards.

What decides is `hil.measure.gate` and `hil.measure.gate_outcome`, called as `hil gate` calls them:
screening looks after every two rounds, suspicions go to fresh builds, Holm over all checks. What is
simulated is the board (`hil.bench.gate_world`), never a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy import special

from hil.bench.gate_trace import truncated
from hil.bench.gate_world import WORLDS, Sitting, World
from hil.measure.comparison import FIRST_LOOK_ROUNDS
from hil.measure.gate import (
    CONFIRM_BUILDS,
    FALSE_ALARM,
    Check,
    Trial,
)
from hil.measure.gate_outcome import Outcome, findings_of, outcomes
from hil.measure.interleave import ROUNDS_AT_ONCE

SCHEMA = "hil/bench-gate@1"
MARGIN = 0.03
MAX_ROUNDS = 16
METRICS = ("energy_mj", "latency_p99_ms")
RATIOS = (1.0, 1.02, 1.03, 1.08)
"""Unchanged, worse within the margin, right at it, and a regression that has to be found."""
NETWORKS = 4
"""In one gate, where several are gated together."""
FEWER = 4
"""Gates of several networks are simulated so many times less often."""


def checks(model: str, margin: float = MARGIN) -> tuple[Check, ...]:
    """Return the checks of one network: energy and p99 latency against the baseline."""
    return tuple(Check(model, metric, "ratio", 1 + margin, "regression") for metric in METRICS)


def tried(sitting: Sitting, model: str, family: int) -> Trial:
    """Gate one network as `hil gate` does, without the outcome."""
    trial = Trial(checks(model), family)
    turns = sitting.rounds(MAX_ROUNDS)
    for count in range(FIRST_LOOK_ROUNDS, MAX_ROUNDS + 1, trial.cycle):
        if not trial.look(turns[:count]):
            break
    if trial.suspects:
        fresh = sitting.rounds(ROUNDS_AT_ONCE * CONFIRM_BUILDS, 1, CONFIRM_BUILDS)
        while trial.confirm(fresh):
            batch = 1 + CONFIRM_BUILDS * trial.fresh_looks
            fresh += sitting.rounds(ROUNDS_AT_ONCE * CONFIRM_BUILDS, batch, CONFIRM_BUILDS)
    return trial


def gated(world: World, ratio: float, seed: int, index: int, networks: int = 1) -> list[Trial]:
    """Gate networks that all have the same true ratio, each on a sitting of its own."""
    family = networks * len(METRICS)
    return [
        tried(
            Sitting.drawn(world, ratio, seed, networks * index + k),
            f"net-{k}",
            family,
        )
        for k in range(networks)
    ]


def decided(trials: Sequence[Trial]) -> tuple[Outcome, ...]:
    """Decide all networks of a gate together, as shipped."""
    return outcomes([finding for trial in trials for finding in findings_of(trial)])


def run_bench(runs: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Judge the gate on every world.

    Args:
        runs: gates a figure; those of several networks are a quarter as many.
        seed: of everything random.
        say: told one line at a time of how far it has come.
    """
    rows = []
    for name, world in WORLDS.items():
        for ratio in RATIOS:
            rows.append(row(name, world, ratio, runs, seed))
            say(line(rows[-1]))
        rows.append(row(name, world, 1 + MARGIN, max(1, runs // FEWER), seed, NETWORKS))
        say(line(rows[-1]))
    cut = truncated(max(1, runs // 10), seed, checks("net"))
    say(f"truncated traces: {cut['outcomes']} of {cut['runs']}")
    return {
        "schema": SCHEMA,
        "provenance": "simulated boards of known truth",
        "runs": runs,
        "seed": seed,
        "margin": MARGIN,
        "metrics": list(METRICS),
        "false_alarm_by_design": FALSE_ALARM,
        "rows": rows,
        "truncated": cut,
        "holds": held(rows, cut),
    }


def row(
    name: str, world: World, ratio: float, runs: int, seed: int, networks: int = 1
) -> dict[str, Any]:
    """Return how many gates came to what, with exact 95 % intervals of the shares."""
    counts = {"violated": 0, "inconclusive": 0, "passed": 0}
    rounds = 0
    for index in range(runs):
        trials = gated(world, ratio, seed, index, networks)
        found = {outcome.status for outcome in decided(trials)}
        counts[next(status for status in counts if status in found)] += 1
        rounds += sum(len(trial.turns) + len(trial.fresh) for trial in trials)
    shares: dict[str, Any] = {}
    for status, count in counts.items():
        shares[status] = count / runs
        shares[f"{status}_ci95"] = _exact(count, runs)
    return {
        "world": name,
        "ratio": ratio,
        "networks": networks,
        "runs": runs,
        "power_claimed": world.power_claimed,
        **shares,
        "mean_rounds": rounds / runs / networks,
    }


def held(rows: Sequence[Mapping[str, Any]], cut: Mapping[str, Any]) -> dict[str, bool]:
    """Return what is promised and whether these figures bear it out."""
    kept = [one for one in rows if one["ratio"] <= 1 + MARGIN]
    found = [one for one in rows if one["ratio"] == 1.08 and one["power_claimed"]]
    return {
        "false alarms at most 1 % (a lower end of an interval above it would refute)": all(
            one["violated_ci95"][0] <= FALSE_ALARM for one in kept
        ),
        "a true 8 % fails at least 99 in 100": all(one["violated"] >= 0.99 for one in found),
        "2 % at a margin of 3 % fails at most 1 in 100": all(
            one["violated"] <= 0.01 for one in rows if one["ratio"] == 1.02
        ),
        "a truncated trace is never passed or failed": set(cut["outcomes"])
        <= {"error", "inconclusive"},
    }


def line(one: Mapping[str, Any]) -> str:
    """Say one row in words."""
    return (
        f"{one['world']}, {one['networks']} network(s), ratio {one['ratio']:.2f}: "
        f"violated {100 * one['violated']:.2f} %, inconclusive {100 * one['inconclusive']:.2f} %, "
        f"passed {100 * one['passed']:.2f} % of {one['runs']}, {one['mean_rounds']:.1f} rounds"
    )


def _exact(count: int, runs: int) -> list[float]:
    """Return Clopper and Pearson's interval of a share."""
    low = float(special.betaincinv(count, runs - count + 1, 0.025)) if count else 0.0
    high = float(special.betaincinv(count + 1, runs - count, 0.975)) if count < runs else 1.0
    return [low, high]
