"""Checks of one gate: standings by closed forms, fresh builds, Holm, and what an error leaves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hil.core.errors import DeviceError, ExitCode
from hil.core.paired import Paired
from hil.core.stats import spread
from hil.measure.comparison import Scored
from hil.measure.gate import (
    CONFIRM_LOOKS,
    FALSE_ALARM,
    Check,
    Trial,
    Turn,
    confirmed,
    resolved,
    screened,
    turns_of,
)
from hil.measure.gate_outcome import (
    Finding,
    accuracy_finding,
    exit_code,
    failed,
    findings_of,
    holm,
    outcomes,
)
from hil.measure.numbers import measurement

WORSE = Check("net.onnx", "energy_mj", "ratio", 1.03, "regression")
LIMIT = Check("net.onnx", "energy_mj", "limit", 5.0)


def turns(ratios, base=10.0, builds=None, alone=False):
    builds = builds or [0] * len(ratios)
    return tuple(
        Turn(
            build,
            "ab"[index % 2],
            {"energy_mj": base * ratio},
            None if alone else {"energy_mj": base},
        )
        for index, (ratio, build) in enumerate(zip(ratios, builds, strict=True))
    )


def around(mean, sd, count, seed=0):
    """Values whose mean and standard deviation are exactly these."""
    raw = np.random.default_rng(seed).normal(size=count)
    raw = (raw - raw.mean()) / raw.std(ddof=1)
    return [float(mean * math.exp(sd * one)) for one in raw]


@pytest.mark.parametrize(
    ("mean", "standing"), [(1.0, "below"), (1.03, "open"), (1.08, "beyond"), (0.9, "below")]
)
def test_a_check_stands_where_its_whole_interval_lies(mean, standing):
    assert screened(WORSE, turns(around(mean, 0.005, 8)), 1).standing == standing


def test_a_hard_limit_is_held_against_the_figure_itself():
    at = lambda mj: screened(LIMIT, turns(around(mj / 10, 0.004, 6), alone=True), 1)  # noqa: E731

    assert [at(mj).standing for mj in (4.8, 5.0, 5.3)] == ["below", "open", "beyond"]
    assert at(4.8).ratio.value == pytest.approx(0.96)


def test_a_suspicion_alone_is_no_failure():
    trial = Trial((WORSE,), 1)
    trial.look(turns(around(1.2, 0.004, 4)))

    (outcome,) = outcomes(findings_of(trial))

    assert trial.suspects == (WORSE,)
    assert outcome.status == "inconclusive"
    assert "fresh builds could not be measured" in outcome.reason


def test_fresh_builds_confirm_or_clear_a_suspicion():
    fresh = [index // 2 for index in range(12)]
    found = {}
    for name, mean in (("same", 1.0), ("worse", 1.2)):
        trial = Trial((WORSE,), 1)
        trial.look(turns(around(1.2, 0.004, 4)))
        assert not trial.confirm(turns(around(mean, 0.004, 12), builds=fresh))
        (found[name],) = outcomes(findings_of(trial))

    assert found["same"].status == "passed"
    assert "one engine had looked worse" in found["same"].reason
    assert found["worse"].status == "violated"
    assert found["worse"].change.value == pytest.approx(2.0, rel=0.01)  # 10 mJ and a fifth
    assert found["worse"].exit_code == ExitCode.LIMIT_VIOLATED


def test_the_build_is_the_unit_of_a_confirmation_whatever_its_rounds():
    means = around(1.1, 0.02, 6, seed=3)
    fresh = turns([m * f for m in means for f in (0.999, 1.001)], builds=[0, 0, 1, 1, 2, 2, 3, 3,
                                                                         4, 4, 5, 5])  # fmt: skip

    got = confirmed(WORSE, fresh, 1)

    logs = [math.log(m * math.sqrt(0.999 * 1.001)) for m in means]
    expected = stats.ttest_1samp(logs, math.log(1.03), alternative="greater").pvalue
    assert got.p == pytest.approx(min(1, 2 * expected))
    assert got.builds == 6
    low, high = stats.t.interval(0.95, 5, np.mean(logs), stats.sem(logs))
    assert (got.ratio.low, got.ratio.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_a_later_look_pays_for_the_earlier_ones():
    fresh = turns(around(1.06, 0.02, 6), builds=list(range(6)))

    first, second = confirmed(WORSE, fresh, 1), confirmed(WORSE, fresh, 2)

    assert second.p == pytest.approx(3 * first.p)
    assert confirmed(WORSE, fresh, 2, before=first).p == first.p


def test_confirmation_ends_after_its_looks():
    trial = Trial((WORSE,), 1)
    trial.look(turns(around(1.2, 0.004, 4)))
    unclear = turns(around(1.03, 0.05, 6), builds=list(range(6)))

    assert [trial.confirm(unclear) for _ in range(CONFIRM_LOOKS)] == [True, True, False]
    (outcome,) = outcomes(findings_of(trial))
    assert outcome.status == "inconclusive"
    assert "not surely enough" in outcome.reason


@given(
    values=st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=12, unique=True),
    at=st.floats(-0.3, 0.3),
)
def test_a_p_value_is_the_error_at_which_the_bound_reaches_the_value(values, at):
    own = spread(values)
    p = own.chance_below(at)

    if own.standard_error > 1e-6 and 1e-9 < p < 1 - 1e-9:
        assert own.lower(1 - p) == pytest.approx(at, abs=1e-7)


def test_holm_rejects_as_the_textbook_does():
    # Holm 1979 by hand: 0.001 <= 0.01/4, 0.003 <= 0.01/3, 0.006 > 0.01/2, so 0.007 stays too.
    assert holm([0.007, 0.001, 0.006, 0.003]) == (False, True, False, True)
    assert holm([]) == ()


@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=12))
def test_holm_rejects_whatever_bonferroni_does_and_nothing_above_the_error(p_values):
    rejected = holm(p_values)

    for p, gone in zip(p_values, rejected, strict=True):
        assert gone or p > FALSE_ALARM / len(p_values)
        assert not gone or p <= FALSE_ALARM


def test_a_baseline_from_a_file_is_compared_as_welch_does():
    recorded = {"energy_mj": tuple(around(10.0, 0.006, 8, seed=5))}
    own = around(1.0, 0.004, 6, seed=6)

    got = screened(WORSE, turns(own, alone=True), 1, recorded)

    logs = [np.log([10 * one for one in own]), np.log(recorded["energy_mj"])]
    interval = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    assert (got.ratio.low, got.ratio.high) == pytest.approx(
        (math.exp(interval.low), math.exp(interval.high))
    )
    assert got.standing == "below"


def test_a_figure_that_nobody_has_is_an_error_with_its_reason():
    trial = Trial((WORSE, replace(WORSE, metric="power_w")), 2)
    trial.look(tuple(replace(t, unknown={"power_w": "no rail"}) for t in turns([1.0] * 4)))

    energy, power = outcomes(findings_of(trial))

    assert (energy.status, power.status) == ("passed", "error")
    assert "no rail" in power.reason
    assert power.exit_code == ExitCode.MEASUREMENT


def test_a_baseline_file_without_the_figure_is_an_error_too():
    trial = Trial((WORSE,), 1, recorded={})
    trial.look(turns([1.0] * 4, alone=True))

    assert "baseline file holds no energy_mj" in outcomes(findings_of(trial))[0].reason


def test_rounds_with_an_invalid_run_are_not_looked_at(script):
    good = measurement(script.evidence(), "VDD_IN")
    bad = replace(good, validity="invalid", reasons=("it was hot",))
    rounds = [Scored(0, "a", 0.0, good, good), Scored(0, "b", 60.0, good, bad)]

    (turn,) = turns_of(rounds, offset=3)

    assert turn.build == 3
    assert turn.candidate["energy_mj"] == good.energy_mj.value
    assert turns_of(rounds, alone=True)[0].base is None


def test_screening_stops_once_every_check_stands_and_keeps_the_first_standing():
    trial = Trial((WORSE,), 1)

    assert trial.look(turns(around(1.03, 0.01, 4)))
    assert not trial.look(turns(around(1.0, 0.002, 6)))
    assert trial.due(6)
    assert not trial.due(5)
    assert Trial((WORSE,), 1, builds=3).cycle == 6


@pytest.mark.parametrize(
    ("gained", "lost", "status"),
    [(10, 10, "passed"), (0, 120, "violated"), (20, 35, "inconclusive")],
)
def test_points_lost_are_judged_over_the_same_pictures(gained, lost, status):
    check = Check("net.onnx", "accuracy", "accuracy_loss", 1.0, "regression")

    (outcome,) = outcomes([accuracy_finding(check, Paired(1797, 1600, gained, lost))])

    assert outcome.status == status
    assert outcome.change.value == pytest.approx(100 * (gained - lost) / 1797)
    assert "points over 1797 pictures" in outcome.reason


@pytest.mark.parametrize(
    ("right", "status"), [(1750, "passed"), (1600, "violated"), (1700, "inconclusive")]
)
def test_an_accuracy_has_an_exact_interval(right, status):
    check = Check("net.onnx", "accuracy", "accuracy", 95.0)

    finding = accuracy_finding(check, Paired(1797, right, 0, 0))

    assert outcomes([finding])[0].status == status
    interval = stats.binomtest(right, 1797).proportion_ci(0.95, method="exact")
    assert (finding.value.low, finding.value.high) == pytest.approx(
        (100 * interval.low, 100 * interval.high)
    )
    if status == "violated":
        exact = stats.binomtest(right, 1797, 0.95, alternative="less").pvalue
        assert finding.p == pytest.approx(exact)


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.0, 3.0), st.sampled_from([300, 1797]))
def test_the_p_value_of_lost_points_is_that_of_its_interval(gained, lost, points, pictures):
    paired = Paired(pictures, pictures - gained - lost - 5, gained, lost)
    p = paired.chance_of_losing_at_most(points)

    if 1e-6 < p < 0.4:
        assert paired.interval(1 - 2 * p)[1] == pytest.approx(-points, abs=1e-4)


def test_an_error_leaves_every_check_with_its_code_and_next_step():
    found = failed((WORSE, LIMIT), DeviceError("the link is lost", why="no route", fix="ping it"))

    shown = outcomes(found)

    assert {one.status for one in shown} == {"error"}
    assert shown[0].reason == "the link is lost, because no route"
    assert exit_code(shown) == ExitCode.BOARD


def test_a_violation_counts_more_than_an_error_and_that_more_than_doubt():
    def decided(*kinds):
        made = {
            "violated": Finding(WORSE, "beyond", p=1e-9),
            "error": Finding(WORSE, "error", exit_code=ExitCode.LEASE_TIMEOUT),
            "open": Finding(WORSE, "open"),
            "good": Finding(WORSE, "below"),
        }
        return outcomes([made[kind] for kind in kinds])

    assert exit_code(decided("good", "open", "error", "violated")) == 1
    assert exit_code(decided("good", "open", "error")) == 4
    assert exit_code(decided("good", "open")) == 5
    assert exit_code(decided("good", "open"), inconclusive=0) == 0
    assert exit_code(decided("good")) == 0


def test_a_board_that_scatters_holds_no_fine_margin():
    assert resolved(0.01, 16) < resolved(0.02, 16) < resolved(0.02, 4)
    assert resolved(0.01, 1) is None


def test_an_outcome_tells_figures_with_intervals_and_units():
    trial = Trial((WORSE,), 1)
    trial.look(turns(around(1.01, 0.002, 6)))

    told = outcomes(findings_of(trial))[0].to_json()

    assert told["status"] == "passed"
    assert told["unit"] == "mJ"
    assert told["asked"] == "at most +3 % of the baseline's"
    low, high = told["ratio_ci95"]
    assert low < told["ratio"] < high
    assert told["change"] == pytest.approx(0.1, rel=0.05)
    assert told["baseline"] == pytest.approx(10.0)


def test_a_change_is_none_without_a_baseline():
    trial = Trial((LIMIT,), 1)
    trial.look(turns(around(0.4, 0.002, 6), alone=True))

    assert outcomes(findings_of(trial))[0].change is None
