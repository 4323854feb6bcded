"""How measuring time is shared out among finalists: builds until the best network is known.

Runs go through `Confirmation` itself, build by build, by either policy on the same figures.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hil.bench.certificate_world import World, session
from hil.synth.certificate import Plan
from hil.synth.confirmation import PROTOTYPE, Confirmation, Policy
from hil.synth.requirements import Limit, Requirement

NAMES = ("first", "second", "third")
"""Finalists, highest U first."""
BUILD_MINUTES = 1.5
"""Board time of one fresh build: built (some 30 s), then idle, settled and 4 windows of 6 s."""
TRUTHS = (0.93, 0.96, 0.98, 1.0, 1.03)
"""What finalists truly need of their limit: each drawn from these, evenly."""
WORLD = World(0.015)


def sharing(runs: int, seed: int) -> dict[str, Any]:
    """Minutes until the best certified network is known, by policy and kind of limit."""
    shown = {}
    for kind, limit in {"absolute": Limit(1.0), "relative": Limit(1.0, relative=True)}.items():
        plan = Plan((Requirement("energy_mj", limit),), len(NAMES))
        done = {policy: [one(plan, policy, seed, k) for k in range(runs)] for policy in _POLICIES}
        shown[kind] = {policy: _summary(outcomes) for policy, outcomes in done.items()}
    return {"runs": runs, "build_minutes": BUILD_MINUTES, "truths": list(TRUTHS), **shown}


_POLICIES: tuple[Policy, ...] = ("adaptive", "round_robin")
Outcome = tuple[int, int, bool, bool]


def one(plan: Plan, policy: Policy, seed: int, number: int) -> Outcome:
    """One run: builds until the best is known, builds in all, whether any is certified, falsely."""
    rng = np.random.Generator(np.random.Philox([seed, 2000, number]))
    truths = rng.choice(TRUTHS, len(NAMES))
    rounds = plan.most_builds * len(NAMES)
    prototype, finalists = (a[0] for a in session(WORLD, rng, 1, len(NAMES), rounds).builds())
    state = Confirmation(plan, NAMES, policy)
    built, known = 0, 0
    while needs := state.needs_more():
        for need in needs:
            if need.network == PROTOTYPE:
                value = math.exp(prototype[need.build - 1])
            else:
                place = NAMES.index(need.network)
                value = truths[place] * math.exp(finalists[place, need.build - 1])
            state.add_figures(need.network, need.build, {"energy_mj": value})
            built += 1
        if not known and state.best_known():
            known = built
    kept = state.certified()
    false = any(truths[NAMES.index(n)] >= 1.0 for n in kept)
    return known or built, built, bool(kept), false


def _summary(outcomes: list[Outcome]) -> dict[str, float]:
    known, built, any_kept, false = (np.array(column) for column in zip(*outcomes, strict=True))
    return {
        "mean_minutes_to_best": BUILD_MINUTES * float(known.mean()),
        "median_minutes_to_best": BUILD_MINUTES * float(np.median(known)),
        "mean_minutes_in_all": BUILD_MINUTES * float(built.mean()),
        "with_a_certificate": float(any_kept.mean()),
        "with_a_false_one": float(false.mean()),
    }
