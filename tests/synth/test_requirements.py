"""Demands: what is written, what it means beside a prototype, and how an estimate is judged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.core.stats import Estimate
from hil.synth.requirements import (
    Limit,
    Requirement,
    describe,
    excess,
    judge,
    search_limit,
    together,
    unreachable,
)

ENERGY_40 = Requirement("energy_mj", Limit(0.4, relative=True))
ENERGY_5 = Requirement("energy_mj", Limit(5.0))
LOSE_1 = Requirement("accuracy", Limit(1.0), "lose_at_most")
AT_LEAST_97 = Requirement("accuracy", Limit(97.0), "at_least")


def exactly(value):
    return Estimate(value, value, value)


@pytest.mark.parametrize(
    ("written", "limit"),
    [
        ("40 %", Limit(0.4, relative=True)),
        ("12.5%", Limit(0.125, relative=True)),
        (" 100 % ", Limit(1.0, relative=True)),
        (4.5, Limit(4.5)),
        (7, Limit(7.0)),
    ],
)
def test_a_percentage_is_relative_and_a_number_absolute(written, limit):
    assert Limit.parse(written) == limit


@pytest.mark.parametrize("written", ["40", "40 mJ", "-3 %", "0 %", 0, -1.0, math.inf, math.nan, ""])
def test_anything_else_is_no_limit(written):
    with pytest.raises(ValueError, match=r"percentage|greater than 0"):
        Limit.parse(written)


@pytest.mark.parametrize(
    ("metric", "kind"),
    [("accuracy", "at_most"), ("energy_mj", "lose_at_most"), ("watts", "at_most")],
)
def test_a_demand_that_means_nothing_is_refused(metric, kind):
    with pytest.raises(ValueError, match=metric):
        Requirement(metric, Limit(1.0), kind)


def test_relative_limits_are_worked_out_from_the_prototype_s_figure():
    assert ENERGY_40.bound(12.3) == pytest.approx(4.92)
    assert LOSE_1.bound(98.5) == pytest.approx(97.5)
    assert ENERGY_5.bound(None) == 5.0
    with pytest.raises(ValueError, match="prototype"):
        ENERGY_40.bound(None)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(4.0, 5.0, "feasible"), (4.9, 5.1, "undecided"), (5.01, 6.0, "infeasible")],
)
def test_only_a_whole_interval_decides_a_cost(low, high, verdict):
    assert judge(ENERGY_5, Estimate((low + high) / 2, low, high)) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(97.0, 98.0, "feasible"), (96.5, 97.5, "undecided"), (95.0, 96.9, "infeasible")],
)
def test_only_a_whole_interval_decides_accuracy(low, high, verdict):
    assert judge(AT_LEAST_97, Estimate((low + high) / 2, low, high)) == verdict


def test_doubt_about_the_prototype_widens_a_relative_verdict():
    figure = Estimate(3.9, 3.82, 3.98)

    assert judge(ENERGY_40, figure, exactly(10.0)) == "feasible"
    assert judge(ENERGY_40, figure, Estimate(10.0, 9.0, 11.0)) == "undecided"


def test_the_interval_of_a_ratio_agrees_with_simulation():
    # Both figures known to 2 % (one sigma): the ratio's upper 97.5 % point by simulation.
    rng = np.random.default_rng(0)
    ratio = np.exp(0.02 * rng.standard_normal(200_000) - 0.02 * rng.standard_normal(200_000))
    high = float(np.quantile(ratio, 0.975))
    half = 1.96 * 0.02

    def around(value):
        return Estimate(value, value * math.exp(-half), value * math.exp(half))

    for margin, verdict in ((1.002, "feasible"), (0.998, "undecided")):
        requirement = Requirement("energy_mj", Limit(0.4 * high * margin, relative=True))
        assert judge(requirement, around(4.0), around(10.0)) == verdict


def test_one_broken_demand_breaks_all():
    assert together(("feasible", "infeasible", "undecided")) == "infeasible"
    assert together(("feasible", "undecided")) == "undecided"
    assert together(("feasible", "feasible")) == "feasible"


@given(value=st.floats(0.1, 100), limit=st.floats(0.1, 100))
def test_excess_is_positive_exactly_where_the_limit_is_broken(value, limit):
    requirement = Requirement("energy_mj", Limit(limit))
    broken = judge(requirement, exactly(value)) == "infeasible"
    assert (excess(requirement, value) > 0) == broken


def test_excess_of_costs_and_accuracy_has_one_currency():
    assert excess(ENERGY_5, 10.0) == pytest.approx(math.log(2))
    assert excess(AT_LEAST_97, 48.5) == pytest.approx(math.log(2))
    assert excess(AT_LEAST_97, 0.0) == math.inf


def test_the_search_gets_absolute_limits_and_accuracy_as_a_fraction():
    energy, accuracy = search_limit(ENERGY_40, 12.3), search_limit(LOSE_1, 98.5)

    assert (energy.metric, energy.sense) == ("energy_mj", "max")
    assert energy.bound == pytest.approx(4.92)
    assert (accuracy.metric, accuracy.sense) == ("accuracy", "min")
    assert accuracy.bound == pytest.approx(0.975)


def test_people_read_the_limit_worked_out_and_the_rail_it_was_read_on():
    words = "energy at most 40 % of the prototype's 12.3 mJ = 4.92 mJ, as read on VDD_IN"
    assert describe(ENERGY_40, 12.3, "VDD_IN") == words
    assert describe(ENERGY_40) == "energy at most 40 % of the prototype's"
    assert describe(ENERGY_5, rail="VDD_IN") == "energy at most 5 mJ, as read on VDD_IN"
    assert describe(AT_LEAST_97) == "accuracy at least 97 %"
    words = "accuracy at most 1 points below the prototype's 98.5 % = 97.5 %"
    assert describe(LOSE_1, 98.5) == words


def test_a_demand_below_the_smallest_network_is_said_to_be_out_of_reach():
    demand = Requirement("energy_mj", Limit(0.05, relative=True))

    words = unreachable(demand, Estimate(3.2, 3.1, 3.3), exactly(12.3), rail="VDD_IN")

    assert words == (
        "nothing can meet: energy at most 5 % of the prototype's 12.3 mJ = 0.615 mJ, as read on "
        "VDD_IN; the smallest network of this space has 3.2 mJ, 26 % of the prototype's"
    )
    assert unreachable(ENERGY_40, Estimate(3.2, 3.1, 3.3), exactly(12.3)) is None


@pytest.mark.parametrize("requirement", [ENERGY_40, ENERGY_5, LOSE_1, AT_LEAST_97])
def test_json_keeps_a_demand_whole(requirement):
    assert Requirement.from_json(requirement.to_json()) == requirement
