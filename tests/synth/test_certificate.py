"""One look at one demand, and the plan; `test_looks.py` has the arithmetic of many looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hil.synth.certificate import Plan, accuracy_finding, cost_finding, excesses
from hil.synth.paired import Paired
from hil.synth.requirements import Limit, Requirement

ALPHA = 0.05
ENERGY = Requirement("energy_mj", Limit(0.4, relative=True))
LATENCY = Requirement("latency_p99_ms", Limit(0.5, relative=True))
PER_JOULE = Requirement("inferences_per_joule", Limit(250.0), "at_least")
LOSE_1 = Requirement("accuracy", Limit(1.0), "lose_at_most")


def test_the_shares_of_all_looks_and_finalists_add_up_to_alpha():
    plan = Plan((ENERGY,), finalists=3, alpha=ALPHA, most_builds=8)
    assert sum(plan.spend(n) for n in plan.looks) * 3 == pytest.approx(ALPHA)
    assert plan.looks == (3, 4, 5, 7, 8)
    assert plan.spend(8, 1) == pytest.approx(3 * plan.spend(8))


def test_the_bound_of_a_limit_in_its_own_unit_is_student_s():
    values = (1.0, 1.1, 1.05, 0.98)
    test = stats.ttest_1samp(np.log(values), 0.0, alternative="less")
    expected = math.exp(test.confidence_interval(0.95).high)

    finding = cost_finding(Requirement("energy_mj", Limit(1.2)), values, None, 0.05)

    assert finding.bound == pytest.approx(expected)
    assert finding.value == pytest.approx(float(stats.gmean(values)))


def test_a_relative_limit_is_judged_on_pairs_so_that_drift_cancels():
    # The board gets 10 % worse meanwhile; each pair still shows 0.38 within 1 %.
    drift = np.linspace(1.0, 1.1, 5)
    wander = np.array([1.0, 1.01, 0.99, 1.005, 0.995])

    steady = cost_finding(ENERGY, tuple(3.8 * wander), tuple(np.full(5, 10.0)), 0.01)
    moved = cost_finding(ENERGY, tuple(3.8 * wander * drift), tuple(10.0 * drift), 0.01)

    assert moved.bound == pytest.approx(steady.bound)
    assert moved.verdict == "feasible"


def test_more_inferences_per_joule_are_better():
    many, few = (300.0, 303.0, 297.0, 301.0), (200.0, 202.0, 198.0, 201.0)

    good, bad = (cost_finding(PER_JOULE, own, None, 0.01) for own in (many, few))

    assert (good.verdict, bad.verdict) == ("feasible", "infeasible")
    assert 250.0 < good.bound < good.value
    assert bad.value < bad.bound < 250.0
    assert good.slack > 0 > bad.slack
    assert excesses(PER_JOULE, many, None).max() < 0


def test_equal_figures_of_all_builds_are_not_taken_for_certainty():
    same = (1.9999, 1.9999, 1.9999)
    absolute = Requirement("energy_mj", Limit(2.0))
    assert cost_finding(absolute, same, None, 0.01).verdict == "undecided"
    near = (1.96, 1.96, 1.96)
    assert cost_finding(absolute, near, None, 0.01, 0.05).verdict == "undecided"
    inside = (1.9, 1.9, 1.9)
    assert cost_finding(absolute, inside, None, 0.01, 0.05).verdict == "feasible"


def test_both_networks_of_a_pair_may_hide_builds():
    plan = Plan((ENERGY,), finalists=1, unseen=0.05)
    own = plan.unseen_of(Requirement("energy_mj", Limit(2.0)))
    assert own == pytest.approx(math.log(1.05))
    assert plan.unseen_of(ENERGY) == pytest.approx(math.sqrt(2) * own)


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
        {"unseen": 1.0},
    ],
)
def test_a_plan_that_could_not_be_argued_for_is_refused(change):
    with pytest.raises(ValueError, match="needed"):
        Plan(**{"requirements": (ENERGY,), "finalists": 1, **change})
