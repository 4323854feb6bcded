"""The shipped gate on boards of known truth, and what becomes of it with one part taken out.

`hil bench gate` runs the same on thousands of gates. Here each mutation hands the shipped parts on
without one of them, and must break what the gate promises.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hil.bench.gate import (
    MARGIN,
    METRICS,
    checks,
    decided,
    gated,
    held,
    row,
)
from hil.bench.gate_trace import truncated
from hil.bench.gate_world import WORLDS, Sitting, World, quiet
from hil.measure.gate import FALSE_ALARM, Turn, confirmed, screened
from hil.measure.gate_outcome import holm

pytestmark = pytest.mark.slow
UNLUCKY = World(0.02)
"""Builds of one network differ by 2 %: a single engine often looks worse than its network is."""


def rare(count, runs, share=FALSE_ALARM):
    """Whether so many are compatible with a chance of `share` (1 in 1,000)."""
    return count <= stats.binom.ppf(0.999, runs, share)


@pytest.mark.parametrize("ratio", [1.0, 1.02])
def test_an_unchanged_or_hardly_changed_network_raises_no_alarm(ratio):
    found = row("builds 1 %", WORLDS["builds 1 %"], ratio, 150, 11)

    assert rare(round(150 * found["violated"]), 150)
    assert found["passed"] > (0.9 if ratio == 1.0 else 0.2)


def test_a_true_regression_of_eight_percent_is_found():
    found = row("builds 0.5 %", WORLDS["builds 0.5 %"], 1.08, 100, 12)

    assert found["violated"] >= 0.97  # of 100; at least 99 % of 1,000 in the benchmark
    assert found["passed"] == 0


def test_a_trace_that_ends_too_early_is_never_a_verdict():
    cut = truncated(4, 13, checks("net"))

    assert set(cut["outcomes"]) <= {"error", "inconclusive"}
    assert sum(cut["outcomes"].values()) == 4


def test_mutation_without_confirmation_an_unlucky_engine_is_taken_for_its_network():
    # A suspicion of the screening is called a failure at once.
    gates = [gated(UNLUCKY, 1.0, 14, index) for index in range(120)]

    shipped = sum(any(o.status == "violated" for o in decided(trials)) for trials in gates)
    without = sum(bool(trial.suspects) for (trial,) in gates)

    assert rare(shipped, 120)
    assert not rare(without, 120)


def fresh_at_the_margin(rng, builds, spread):
    """Rounds of fresh builds of a network that is worse by just the margin."""
    logs = math.log1p(MARGIN) + spread * math.sqrt(2) * rng.standard_normal(builds)
    return [
        Turn(build, first, {"energy_mj": 10 * math.exp(log)}, {"energy_mj": 10.0})
        for build, log in enumerate(logs)
        for first in ("a", "b")
    ]


def test_mutation_without_the_interval_a_network_at_the_margin_fails_by_chance():
    # The ratio alone is held against the bound, at both stages.
    rng, check = np.random.default_rng(15), checks("net")[0]
    shipped = without = 0
    for _ in range(300):
        seen = fresh_at_the_margin(rng, 4, 0.01)
        fresh = fresh_at_the_margin(rng, 6, 0.01)
        screen, confirmation = screened(check, seen, 1), confirmed(check, fresh, 1)
        shipped += screen.standing == "beyond" and confirmation.p <= FALSE_ALARM
        without += screen.ratio.value > check.bound and confirmation.ratio.value > check.bound

    assert rare(shipped, 300)
    assert not rare(without, 300)


def test_mutation_without_holm_many_checks_find_a_false_alarm_between_them():
    # 24 checks, all right at their margin and all suspected; fresh builds decide.
    rng, check = np.random.default_rng(16), checks("net")[0]
    shipped = without = 0
    for _ in range(150):
        p = [confirmed(check, fresh_at_the_margin(rng, 6, 0.02), 1).p for _ in range(24)]
        shipped += any(holm(p))
        without += min(p) <= FALSE_ALARM

    assert rare(shipped, 150)
    assert not rare(without, 150)


def test_mutation_rounds_as_the_unit_take_a_build_for_its_network():
    # Two builds of 2 % spread, measured often: the rounds agree, the builds tell little.
    rng, check = np.random.default_rng(17), checks("net")[0]
    shipped = without = 0
    for _ in range(200):
        builds = fresh_at_the_margin(rng, 3, 0.02)
        often = [
            Turn(
                turn.build,
                turn.first,
                {"energy_mj": turn.candidate["energy_mj"] * noise},
                turn.base,
            )
            for turn in builds
            for noise in (0.999, 1.0, 1.001, 1.0)
        ]
        alone = [Turn(k, t.first, t.candidate, t.base) for k, t in enumerate(often)]
        shipped += confirmed(check, often, 1).p <= FALSE_ALARM
        without += confirmed(check, alone, 1).p <= FALSE_ALARM

    assert rare(shipped, 200)
    assert not rare(without, 200)


def test_a_still_board_reads_the_true_ratio():
    drawn = Sitting.drawn(World(0.0, drift=0.0), 1.08, 18, 0)
    still = Sitting(drawn.world, quiet(drawn.scenario), 1.08, drawn.rng)

    logs = [math.log(t.candidate["energy_mj"] / t.base["energy_mj"]) for t in still.rounds(6)]

    # The sensor's offset, up to 80 uV over the shunt, and its steps are all that is left.
    assert math.exp(np.mean(logs)) == pytest.approx(1.08, abs=0.003)


def test_drift_cancels_between_rounds_of_mirrored_order():
    drawn = Sitting.drawn(World(0.0, drift=0.0), 1.0, 19, 1)
    moving = Sitting(World(0.0, drift=0.5), quiet(drawn.scenario), 1.0, np.random.default_rng(3))

    turns = moving.rounds(8)

    assert turns[-1].base["energy_mj"] / turns[0].base["energy_mj"] != pytest.approx(1, abs=0.01)
    logs = [math.log(t.candidate["energy_mj"] / t.base["energy_mj"]) for t in turns]
    assert np.mean(logs) == pytest.approx(0.0, abs=0.004)


def test_a_row_of_the_table_has_shares_with_intervals():
    made = row("builds alike", WORLDS["builds alike"], 1.0, 10, 1, networks=2)

    shares = [made[name] for name in ("violated", "inconclusive", "passed")]
    assert sum(shares) == pytest.approx(1)
    expected = stats.binomtest(round(10 * made["passed"]), 10).proportion_ci(0.95, "exact")
    assert made["passed_ci95"] == pytest.approx([expected.low, expected.high])
    assert len(METRICS) == 2


def test_what_is_promised_is_refuted_by_figures_that_break_it():
    good = {"ratio": 1.0, "violated": 0.0, "violated_ci95": [0.0, 0.01], "power_claimed": True}
    missed = {**good, "ratio": 1.08, "violated": 0.98, "violated_ci95": [0.97, 0.99]}
    wolf = {**good, "violated": 0.05, "violated_ci95": [0.04, 0.06]}

    assert list(held([good], {"outcomes": {"error": 3}}).values()) == [True] * 4
    alarms, power, small, cut = held([wolf, missed], {"outcomes": {"passed": 1}}).values()
    assert (alarms, power, small, cut) == (False, False, True, False)
