"""Certificates judged: how often a false one is given, and a true one, on boards of known truth.

The decisions are those of the shipped code (`synth/looks.py`, which `Confirmation` calls run by
run), on ten thousand runs at once. Beside it stands the naive rule: Student's t bound looked at
after every block, until it accepts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from hil.bench.certificate_sharing import sharing
from hil.bench.certificate_world import WORLDS, FloatArray, World, session
from hil.synth import looks
from hil.synth.certificate import Plan
from hil.synth.requirements import Limit, Requirement

SCHEMA = "hil/bench-certificate@1"
ALPHA = 0.05
FINALISTS = 3
FALSE = (1.0, 1.01, 1.02)
TRUE = (0.95, 0.97, 0.98, 0.99)
NAIVE_BLOCKS = 10
LIMITS: Mapping[str, Limit] = {"absolute": Limit(1.0), "relative": Limit(1.0, relative=True)}
Tell = Callable[[str], None]


def plan_of(kind: str, finalists: int = FINALISTS) -> Plan:
    """The plan a profile has unless told otherwise, for one limit of a kind."""
    return Plan((Requirement("energy_mj", LIMITS[kind]),), finalists, ALPHA)


def run_bench(runs: int, seed: int, tell: Tell = lambda _line: None) -> dict[str, Any]:
    """Judge the certificate in every world.

    Args:
        runs: sessions simulated for each figure.
        seed: of everything random.
        tell: told each world as it is done.
    """
    rows = []
    for number, (name, world) in enumerate(WORLDS.items()):
        rng = np.random.Generator(np.random.Philox([seed, number]))
        for kind in LIMITS:
            rows.append(judged(name, world, kind, runs, rng))
        tell(name)
    plan = plan_of("absolute")
    result = {
        "schema": SCHEMA,
        "runs": runs,
        "seed": seed,
        "alpha": ALPHA,
        "finalists": FINALISTS,
        "looks": list(plan.looks),
        "unseen": plan.unseen,
        "standard_error_at_alpha": math.sqrt(ALPHA * (1 - ALPHA) / runs),
        "worlds": rows,
        "worst_false_within": max(max(r["false"].values()) for r in rows if r["within"]),
        "requirements": two_limits(runs, np.random.Generator(np.random.Philox([seed, 1000]))),
    }
    result["sharing"] = sharing(max(50, runs // 20), seed)
    tell("board time shared out")
    return result


def judged(
    name: str, world: World, kind: str, runs: int, rng: np.random.Generator
) -> dict[str, Any]:
    """One row: false certificates among three finalists, power, and the naive rule."""
    false, single, power, builds = {}, {}, {}, {}
    for truth in FALSE:
        beyond = excesses(world, kind, [truth] * FINALISTS, runs, rng)
        false[f"{truth:g}"] = _share(certificates(beyond, plan_of(kind)).any(axis=-1))
        single[f"{truth:g}"] = _share(certificates(beyond[:, :1], plan_of(kind, 1)))
    for truth in TRUE:
        # The others break the limit, so that none of them passes its share on.
        beyond = excesses(world, kind, [truth, 1.02, 1.02], runs, rng)
        power[f"{truth:g}"] = _share(certificates(beyond, plan_of(kind))[:, 0])
        own = beyond[:, 0]
        followed = looks.follow(own, plan_of(kind).design, _unseen(plan_of(kind)), ALPHA / 3, ALPHA)
        builds[f"{truth:g}"] = float(followed.builds.mean())
    return {
        "world": name,
        "within": world.within,
        "limit": kind,
        "false": false,
        "false_single": single,
        "naive": _share(naive(world, runs, rng)),
        "power": power,
        "builds": builds,
    }


def excesses(
    world: World, kind: str, truths: Sequence[float], runs: int, rng: np.random.Generator
) -> FloatArray:
    """What builds of finalists read over the limit: (runs, finalists, 1 requirement, builds)."""
    rounds = plan_of(kind).most_builds
    prototype, finalists = session(world, rng, runs, len(truths), rounds).builds()
    beyond = finalists + np.log(np.array(truths))[:, None]
    if kind == "relative":
        beyond = beyond - prototype[:, None]
    return np.asarray(beyond[:, :, None], dtype=np.float64)


def certificates(beyond: FloatArray, plan: Plan) -> looks.BoolArray:
    """Which finalists are certified, (runs, finalists), all built to the last look if need be."""
    count = beyond.shape[1]
    followed = looks.follow(beyond, plan.design, _unseen(plan), plan.alpha / count, plan.alpha)
    return looks.certified(followed.spent, plan.alpha)


def _unseen(plan: Plan) -> FloatArray:
    return np.array([plan.unseen_of(r) for r in plan.noisy])


def naive(world: World, runs: int, rng: np.random.Generator) -> looks.BoolArray:
    """Student's t bound at alpha after each block from the second on: accepted at any of them?

    A network right at an absolute limit; a fresh build after every four blocks.
    """
    blocks = session(world, rng, runs, 1, -(-NAIVE_BLOCKS // 4)).finalists
    seen = blocks.reshape(runs, -1)[:, :NAIVE_BLOCKS]
    accepted = np.zeros(runs, dtype=np.bool_)
    for n in range(2, NAIVE_BLOCKS + 1):
        mean, sd = seen[:, :n].mean(axis=1), seen[:, :n].std(axis=1, ddof=1)
        accepted |= mean + special.stdtrit(n - 1, 1 - ALPHA) * sd / math.sqrt(n) <= 0
    return accepted


def two_limits(runs: int, rng: np.random.Generator) -> dict[str, float]:
    """False certificates where one of two limits is broken and the other kept, by how much."""
    plan = Plan(
        (Requirement("energy_mj", Limit(1.0)), Requirement("latency_p99_ms", Limit(1.0))),
        FINALISTS,
        ALPHA,
    )
    shown = {}
    for other in (0.9, 0.98):
        energy = excesses(World(0.02), "absolute", [1.0] * FINALISTS, runs, rng)
        # A second metric of the same builds: half of what it wanders by is the first one's.
        own = excesses(World(0.02), "absolute", [1.0] * FINALISTS, runs, rng)
        latency = math.log(other) + (energy + own) / math.sqrt(2)
        both = np.concatenate([energy, latency], axis=2)
        shown[f"{other:g}"] = _share(certificates(both, plan).any(axis=-1))
    return shown


def _share(hits: looks.BoolArray | np.bool_) -> float:
    return float(np.mean(hits))
