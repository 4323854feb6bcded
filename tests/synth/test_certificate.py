"""The certificate's promise, held against simulated boards whose truth is known.

The boards have what real ones have: kernels differ from build to build (2 % of the figure), and
blocks within a build wander together (autocorrelation 0.7).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hil.synth.certificate import (
    Plan,
    accuracy_finding,
    cost_finding,
    log_spread,
)
from hil.synth.paired import Paired
from hil.synth.requirements import Limit, Requirement

ALPHA = 0.05
RUNS = 20_000
BUILDS = 8
BLOCKS = 4
ENERGY = Requirement("energy_mj", Limit(0.4, relative=True))
LATENCY = Requirement("latency_p99_ms", Limit(0.5, relative=True))
LOSE_1 = Requirement("accuracy", Limit(1.0), "lose_at_most")


def blocks(rng, runs, mean):
    """Figures of blocks, (runs, builds, blocks)."""
    build = 0.02 * rng.standard_normal((runs, BUILDS, 1))
    wander = np.empty((runs, BUILDS, BLOCKS))
    wander[..., 0] = rng.standard_normal((runs, BUILDS))
    for i in range(1, BLOCKS):
        fresh = rng.standard_normal((runs, BUILDS))
        wander[..., i] = 0.7 * wander[..., i - 1] + math.sqrt(1 - 0.7**2) * fresh
    return mean * np.exp(build + 0.01 * wander)


def builds(rng, runs, mean):
    return blocks(rng, runs, mean).mean(axis=2)


def accepted(plan, requirement, own, prototype):
    """Which runs (n) end feasible; the same rules written a second time, on arrays."""
    yes, no = np.zeros(len(own), bool), np.zeros(len(own), bool)
    for n in range(plan.fewest_builds, plan.most_builds + 1):
        a, b = np.log(own[:, :n]), np.log(prototype[:, :n])
        distance = a.mean(1) - b.mean(1) - math.log(requirement.limit.amount)
        error = np.sqrt((a.var(1, ddof=1) + b.var(1, ddof=1)) / n)
        share = plan.alpha / plan.finalists * n / sum(plan.looks)
        half = stats.t.isf(share, n - 1) * error
        yes |= ~no & (distance + half <= 0)
        no |= ~yes & (distance - half > 0)
    return yes


def at_most_alpha(count, runs, alpha=ALPHA):
    """Whether so many false certificates are compatible with a chance of alpha (1 in 1,000)."""
    return count <= stats.binom.ppf(0.999, runs, alpha)


def one_run(plan, own, prototype):
    """The verdict the shipped code reaches on one run."""
    for n in plan.looks:
        finding = cost_finding(ENERGY, own[:n], prototype[:n], plan.spend(n))
        if finding.verdict != "undecided":
            return finding.verdict
    return "undecided"


@pytest.mark.parametrize("truth", [1.0, 1.01, 1.02])
def test_false_certificates_of_one_finalist_stay_within_alpha(truth):
    rng = np.random.default_rng(round(1000 * truth))
    plan = Plan((ENERGY,), finalists=1, alpha=ALPHA)
    own, prototype = builds(rng, RUNS, 4.0 * truth), builds(rng, RUNS, 10.0)

    yes = accepted(plan, ENERGY, own, prototype)

    assert at_most_alpha(yes.sum(), RUNS)
    # The shipped code reaches these verdicts run by run.
    for i in range(250):
        verdict = one_run(plan, tuple(own[i]), tuple(prototype[i]))
        assert (verdict == "feasible") == yes[i]


def test_false_certificates_of_the_shipped_code_stay_within_alpha():
    rng = np.random.default_rng(11)
    runs = 2_000
    plan = Plan((ENERGY,), finalists=1, alpha=ALPHA)
    own, prototype = builds(rng, runs, 4.0), builds(rng, runs, 10.0)

    pairs = zip(own.tolist(), prototype.tolist(), strict=True)
    false = sum(one_run(plan, tuple(a), tuple(b)) == "feasible" for a, b in pairs)

    assert at_most_alpha(false, runs)


def test_any_false_certificate_among_three_finalists_stays_within_alpha():
    rng = np.random.default_rng(5)
    plan = Plan((ENERGY,), finalists=3, alpha=ALPHA)
    prototype = builds(rng, RUNS, 10.0)
    wrong = [accepted(plan, ENERGY, builds(rng, RUNS, 4.0), prototype) for _ in range(3)]

    assert at_most_alpha(np.any(wrong, axis=0).sum(), RUNS)


def test_requirements_need_not_share_alpha():
    # Energy breaks its limit, latency keeps its own by far and moves with energy.
    rng = np.random.default_rng(6)
    plan = Plan((ENERGY, LATENCY), finalists=1, alpha=ALPHA)
    own, prototype = builds(rng, RUNS, 4.0), builds(rng, RUNS, 10.0)
    both = accepted(plan, ENERGY, own, prototype) & accepted(plan, LATENCY, own, prototype)

    assert at_most_alpha(both.sum(), RUNS)


def test_unequal_spreads_do_not_break_the_promise():
    # The worst case of Welch's approximation: one network's builds are all but alike.
    rng = np.random.default_rng(7)
    plan = Plan((ENERGY,), finalists=3, alpha=ALPHA, most_builds=3)
    own = 4.0 * np.exp(0.02 * rng.standard_normal((200_000, 3)))
    prototype = 10.0 * np.exp(0.002 * rng.standard_normal((200_000, 3)))

    false = accepted(plan, ENERGY, own, prototype).sum()

    assert at_most_alpha(false, len(own), ALPHA / 3)
    # Satterthwaite's degrees of freedom would break it.
    a, b = np.log(own), np.log(prototype)
    va, vb = a.var(1, ddof=1) / 3, b.var(1, ddof=1) / 3
    df = (va + vb) ** 2 / ((va**2 + vb**2) / 2)
    bound = a.mean(1) - b.mean(1) + stats.t.isf(ALPHA / 3, df) * np.sqrt(va + vb)
    assert not at_most_alpha((bound <= math.log(0.4)).sum(), len(own), ALPHA / 3)


def test_without_the_certificate_a_mean_below_the_limit_deceives_half_the_time():
    rng = np.random.default_rng(8)
    own, prototype = builds(rng, RUNS, 4.0), builds(rng, RUNS, 10.0)
    false = (own.mean(1) <= 0.4 * prototype.mean(1)).sum()

    assert not at_most_alpha(false, RUNS)
    assert 0.45 < false / RUNS < 0.55


def test_a_t_bound_looked_at_after_every_block_breaks_the_promise():
    rng = np.random.default_rng(9)
    runs = 4_000
    own = np.log(blocks(rng, runs, 4.0)).reshape(runs, -1)
    prototype = np.log(blocks(rng, runs, 10.0)).reshape(runs, -1)
    false = np.zeros(runs, bool)
    for n in range(2, own.shape[1] + 1):
        a, b = own[:, :n], prototype[:, :n]
        error = np.sqrt((a.var(1, ddof=1) + b.var(1, ddof=1)) / n)
        upper = a.mean(1) - b.mean(1) + stats.t.isf(ALPHA, 2 * n - 2) * error
        false |= upper <= math.log(0.4)

    assert not at_most_alpha(false.sum(), runs)
    assert false.mean() > 3 * ALPHA


@pytest.mark.parametrize(("truth", "power"), [(0.95, 0.8), (0.90, 0.99)])
def test_networks_inside_the_limit_are_certified(truth, power):
    rng = np.random.default_rng(10)
    plan = Plan((ENERGY,), finalists=3, alpha=ALPHA)
    own, prototype = builds(rng, RUNS, 4.0 * truth), builds(rng, RUNS, 10.0)

    certified = accepted(plan, ENERGY, own, prototype).mean()

    assert certified > power


def test_the_shares_of_all_looks_and_finalists_add_up_to_alpha():
    plan = Plan((ENERGY,), finalists=3, alpha=ALPHA)
    assert sum(plan.spend(n) for n in plan.looks) * 3 == pytest.approx(ALPHA)
    assert plan.looks == (3, 4, 5, 6, 7, 8)


def test_the_bound_of_one_group_is_student_s():
    values = (1.0, 1.1, 1.05, 0.98)
    logs = np.log(values)
    expected = stats.ttest_1samp(logs, 0.0, alternative="less").confidence_interval(0.95).high

    assert log_spread(values).upper(0.95) == pytest.approx(expected)


def test_equal_figures_of_all_builds_are_not_taken_for_certainty():
    same = (1.9999, 1.9999, 1.9999)
    absolute = Requirement("energy_mj", Limit(2.0))
    assert cost_finding(absolute, same, None, 0.01).verdict == "undecided"
    inside = (1.9, 1.9, 1.9)
    assert cost_finding(absolute, inside, None, 0.01).verdict == "feasible"


def test_memory_is_judged_on_its_worst_build_without_a_spread():
    memory = Requirement("memory_mib", Limit(8.0))
    assert cost_finding(memory, (8.0, 8.0, 7.0), None, 0.01).verdict == "feasible"
    assert cost_finding(memory, (7.0, 8.1, 7.0), None, 0.01).verdict == "infeasible"


def test_accuracy_s_point_estimate_binds_until_confidence_is_asked_for():
    nine_lost = Paired(pictures=900, both=880, gained=0, lost=9)  # exactly one point
    ten_lost = Paired(pictures=900, both=880, gained=0, lost=10)

    assert accuracy_finding(LOSE_1, nine_lost, None).verdict == "feasible"
    assert accuracy_finding(LOSE_1, ten_lost, None).verdict == "infeasible"
    bound = accuracy_finding(LOSE_1, nine_lost, 0.05)
    assert bound.verdict == "infeasible"
    assert bound.bound > bound.limit >= bound.value


def test_absolute_accuracy_is_judged_by_its_exact_bound_where_confidence_is_asked_for():
    demand = Requirement("accuracy", Limit(95.0), "at_least")
    all_right = Paired(pictures=59, both=59, gained=0, lost=0)
    one_less = Paired(pictures=58, both=58, gained=0, lost=0)

    assert accuracy_finding(demand, all_right, 0.05).verdict == "feasible"
    assert accuracy_finding(demand, one_less, 0.05).verdict == "infeasible"
    assert accuracy_finding(demand, one_less, None).verdict == "feasible"


@pytest.mark.parametrize(
    "change",
    [
        {"fewest_builds": 2},
        {"fewest_builds": 5, "most_builds": 4},
        {"finalists": 0},
        {"alpha": 0.0},
        {"alpha": 0.6},
    ],
)
def test_a_plan_that_could_not_be_argued_for_is_refused(change):
    with pytest.raises(ValueError, match="needed"):
        Plan(**{"requirements": (ENERGY,), "finalists": 1, **change})
