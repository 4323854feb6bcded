"""Intervals at the moment a run stops itself, against closed forms and seeded simulation.

The simulations are of their own making: normal blocks, correlated blocks and blocks with bursts
of background work. Each test that says what a correction is for shows that it fails without it.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from hil.core.sequential import (
    NoisePrior,
    block_interval,
    difference,
    inverse,
    look_schedule,
)
from hil.core.stats import Estimate, mean_interval

series = st.lists(st.floats(1.0, 100.0), min_size=2, max_size=30)
WINDOW_S = 2.5


# -- one look ------------------------------------------------------------------------------------


def test_equal_blocks_have_an_interval_of_no_width():
    assert block_interval([3.0] * 5) == Estimate(3.0, 3.0, 3.0)


def test_what_has_not_been_seen_widens_equal_blocks_upwards_alone():
    got = block_interval([3.0] * 4, prior=NoisePrior(event=0.4, events=0.5))

    # Half an event of 0.4 in the sum: variance 0.08, third moment 0.032, their skewness cut to 1;
    # Johnson's shift (1 + 2 z^2) / 6 and the normal quantile z, over four blocks.
    z = scipy_stats.norm.ppf(0.975)
    assert got.low == 3.0
    assert got.high == pytest.approx(3.0 + (z + (1 + 2 * z**2) / 6) * math.sqrt(0.08) / 4)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_one_block_has_no_interval(values):
    with pytest.raises(ValueError, match="two blocks"):
        block_interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        block_interval([1.0, 2.0], confidence=confidence)


@given(data=series, scale=st.floats(0.01, 100.0))
def test_another_unit_gives_the_same_interval_in_that_unit(data, scale):
    prior = NoisePrior(event=0.5, variance=2.0, df=3.0)
    scaled = NoisePrior(event=0.5 * scale, variance=2.0 * scale**2, df=3.0)
    here = block_interval(data, prior=prior, trend=True, memory=0.2, looks=4)
    there = block_interval(
        [scale * value for value in data], prior=scaled, trend=True, memory=0.2, looks=4
    )

    # Values that differ in their last digits alone have no scatter to speak of.
    if np.ptp(data) > 1e-6:
        expected = (scale * here.value, scale * here.low, scale * here.high)
        assert (there.value, there.low, there.high) == pytest.approx(expected, rel=1e-6)


@given(data=series)
def test_more_confidence_and_more_looks_never_narrow(data):
    base = block_interval(data)
    for wider in (
        block_interval(data, confidence=0.99),
        block_interval(data, looks=3, first_look=2),
    ):
        assert wider.value == base.value
        assert wider.high >= base.high - 1e-9
        assert wider.low <= base.low + 1e-9


def test_independent_normal_blocks_are_as_wide_as_students_t():
    rng = np.random.default_rng(1)
    runs = rng.normal(100.0, 1.0, size=(400, 12))
    ours = [block_interval(run) for run in runs]
    students = [mean_interval(run.tolist()) for run in runs]

    ratio = np.mean([o.high - o.low for o in ours]) / np.mean([s.high - s.low for s in students])
    assert ratio == pytest.approx(1.0, abs=0.05)
    assert covered(ours, 100.0) == pytest.approx(0.95, abs=0.03)


def test_a_steady_rise_is_no_error_of_the_mean_over_that_stretch():
    rng = np.random.default_rng(2)
    rising = 100 + np.linspace(-3, 3, 20) + rng.normal(0, 0.1, 20)

    without, with_trend = block_interval(rising), block_interval(rising, trend=True)
    assert with_trend.high - with_trend.low < 0.2 * (without.high - without.low)


def test_a_calibration_steadies_the_variance_of_few_blocks():
    known = NoisePrior(variance=1.0, df=40.0)
    quiet, loud = [10.0, 10.01, 10.02], [8.0, 10.0, 12.0]

    assert width(block_interval(quiet, prior=known)) > width(block_interval(quiet))
    assert width(block_interval(loud, prior=known)) < width(block_interval(loud))


@pytest.mark.parametrize(("memory", "least"), [(0.4, 0.91), (0.0, 0.0)])
def test_blocks_that_remember_each_other_count_for_less(memory, least):
    rng = np.random.default_rng(3)
    rho, runs, n = 0.4, 800, 16
    noise = rng.normal(size=(runs, n + 30))
    values = np.zeros_like(noise)
    for i in range(1, n + 30):
        values[:, i] = rho * values[:, i - 1] + noise[:, i]
    got = covered([block_interval(run, memory=memory) for run in values[:, 30:]], 0.0)

    assert got >= least
    if memory == 0.0:
        # What the sensor is known to leave must be said, or few blocks hide it.
        assert got < 0.90


# -- looking until it is tight -------------------------------------------------------------------


def stopped(runs, target, first, *, looks_count=True, **known):
    """Look after every block and stop at the first interval as tight as asked."""
    ends = []
    for run in runs:
        for n in range(first, len(run) + 1):
            look = n - first + 1 if looks_count else 1
            got = block_interval(run[:n], looks=look, first_look=first, **known)
            if got.high - got.low <= 2 * target:
                break
        ends.append(got)
    return ends


@pytest.mark.parametrize("spread_over_target", [0.8, 1.3, 1.7])
def test_stopping_when_tight_keeps_the_confidence(spread_over_target):
    runs = np.random.default_rng(4).normal(0.0, spread_over_target, size=(1200, 30))

    assert covered(stopped(runs, 1.0, 4), 0.0) >= 0.92


def test_without_the_correction_for_looking_it_would_not():
    runs = np.random.default_rng(4).normal(0.0, 1.7, size=(1200, 30))

    assert covered(stopped(runs, 1.0, 4, looks_count=False), 0.0) < 0.91


def bursts(rng, runs, n, rate_hz=1 / 20, load_w=4.8):
    """Blocks of power with bursts as a TX2 logs them: 0.5 to 1.4 W for 0.3 to 1.5 s, Poisson."""
    length_s = n * WINDOW_S
    made = load_w + rng.normal(0.0, 0.03, size=(runs, n))
    for run in made:
        for at in rng.uniform(-1.5, length_s, rng.poisson(rate_hz * (length_s + 1.5))):
            stop, watts = at + rng.uniform(0.3, 1.5), rng.uniform(0.5, 1.4)
            edges = np.clip([at, stop], 0, length_s) / WINDOW_S
            for block in range(int(edges[0]), min(n, math.ceil(edges[1]))):
                run[block] += watts * max(0.0, min(edges[1], block + 1) - max(edges[0], block))
    return made, load_w + rate_hz * 0.95 * 0.9


@pytest.mark.parametrize("target", [0.005, 0.01, 0.02])
def test_rare_bursts_are_reckoned_with_before_they_are_seen(target):
    runs, truth = bursts(np.random.default_rng(5), 200, 48)
    prior = NoisePrior(event=1.0 / WINDOW_S)
    ends = stopped(runs, target * truth, 4, prior=prior, memory=0.15, trend=True)

    assert covered(ends, truth) >= 0.90
    assert abs(np.mean([end.value for end in ends]) / truth - 1) <= 0.005


def test_without_unseen_bursts_the_interval_would_be_wrong_in_one_of_four():
    runs, truth = bursts(np.random.default_rng(5), 200, 48)

    assert covered(stopped(runs, 0.01 * truth, 4, memory=0.15, trend=True), truth) < 0.80


# -- deciding ------------------------------------------------------------------------------------


def ever_decided(runs, truth, confidence):
    """Return how often a look puts the truth itself outside, below and above."""
    below = above = 0
    for run in runs:
        looks = [
            block_interval(
                run[:n],
                confidence=confidence,
                each_side=True,
                prior=NoisePrior(event=1.0 / WINDOW_S, events=0.5),
                memory=0.15,
            )
            for n in look_schedule(4, len(run))
        ]
        below += any(look.high < truth for look in looks)
        above += any(look.low > truth for look in looks)
    return below / len(runs), above / len(runs)


def test_a_limit_at_the_truth_is_seldom_decided_however_often_it_is_looked_at():
    runs, truth = bursts(np.random.default_rng(6), 300, 48)

    # 5 % on each side is allowed; 300 runs leave a standard error of 1.3 %.
    assert max(ever_decided(runs, truth, 0.98)) <= 0.076


def test_at_the_confidence_of_one_look_it_would_be_decided_too_often():
    runs = 4.8 + np.random.default_rng(7).normal(0.0, 0.2, size=(300, 48))

    # Loud normal blocks: here the unseen burst hides nothing.
    assert max(ever_decided(runs, 4.8, 0.90)) > 0.10
    assert max(ever_decided(runs, 4.8, 0.98)) <= 0.076


# -- schedule and combinations -------------------------------------------------------------------


@given(first=st.integers(1, 20), more=st.integers(0, 500))
def test_looks_rise_from_the_first_to_the_last(first, more):
    looks = look_schedule(first, first + more)

    assert looks[0] == first
    assert looks[-1] == first + more
    assert all(b > a for a, b in pairwise(looks))
    assert len(looks) <= 60


@pytest.mark.parametrize(("first", "ratio"), [(0, 1.15), (4, 1.0)])
def test_a_schedule_that_never_grows_is_refused(first, ratio):
    with pytest.raises(ValueError, match="schedule"):
        look_schedule(first, 10, ratio)


def test_a_difference_adds_the_distances_in_squares_end_by_end():
    got = difference(Estimate(10.0, 7.0, 11.0), Estimate(2.0, 1.5, 4.0), 2.0)

    # down: hypot(3, 2 x (4 - 2)), up: hypot(1, 2 x (2 - 1.5))
    assert (got.value, got.low, got.high) == pytest.approx((6.0, 1.0, 6.0 + math.sqrt(2.0)))


def test_a_difference_of_symmetric_figures_is_the_usual_one():
    got = difference(Estimate(5.0, 2.0, 8.0), Estimate(1.0, -3.0, 5.0))

    assert (got.value, got.low, got.high) == pytest.approx((4.0, -1.0, 9.0))


def test_an_inverse_swaps_its_ends_and_has_none_at_zero():
    assert inverse(Estimate(20.0, 10.0, 40.0), 1000.0) == Estimate(50.0, 25.0, 100.0)
    assert inverse(Estimate(20.0, 0.0, 40.0)) is None


def covered(intervals, truth):
    return np.mean([one.low <= truth <= one.high for one in intervals])


def width(interval):
    return interval.high - interval.low
