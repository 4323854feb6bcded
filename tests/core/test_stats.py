"""Intervals against closed forms, another implementation and simulation with a fixed seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from scipy import stats as scipy_stats

from hil.core.stats import (
    Estimate,
    Spread,
    batch_means,
    block_quantile,
    combine,
    effective_size,
    log_ratio,
    lower_bound,
    mean_interval,
    quantile,
    quantile_interval,
    smallest_sample,
    spread,
    upper_bound,
)

values = st.lists(st.floats(0.1, 1000), min_size=2, max_size=20)


def test_an_estimate_outside_its_interval_is_refused():
    with pytest.raises(ValueError, match="outside"):
        Estimate(2.0, 0.0, 1.0)


# -- means ---------------------------------------------------------------------------------------


def test_the_t_interval_of_a_worked_example():
    # mean 5, sd 2.58199, n 4: half width = t(0.975, 3) 3.18245 x 2.58199 / 2
    got = mean_interval([2.0, 4.0, 6.0, 8.0])

    assert (got.value, got.low, got.high) == pytest.approx((5.0, 0.89150, 9.10850), abs=1e-4)


@given(data=values)
def test_the_t_interval_is_scipys(data):
    error = scipy_stats.sem(data)
    got = mean_interval(data, 0.9)

    if error > 1e-9:
        low, high = scipy_stats.t.interval(0.9, len(data) - 1, np.mean(data), error)
        assert (got.low, got.high) == pytest.approx((low, high))


def test_one_sided_bounds_are_the_ends_of_the_90_percent_interval():
    data = [3.1, 2.9, 3.4, 3.0, 3.3]
    both = mean_interval(data, 0.90)

    assert upper_bound(data, 0.95) == pytest.approx(both.high)
    assert lower_bound(data, 0.95) == pytest.approx(both.low)


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval([7.0, 7.0, 7.0]) == Estimate(7.0, 7.0, 7.0)


def test_one_value_has_no_spread():
    with pytest.raises(ValueError, match="two values"):
        spread([1.0])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        Spread(1.0, 1.0, 3.0).upper(confidence)


def test_combine_adds_weighted_means_and_variances():
    got = combine((1.0, Spread(10.0, 3.0, 4.0)), (-2.0, Spread(1.0, 2.0, 9.0)))

    assert got.mean == 8.0
    assert got.standard_error == pytest.approx(5.0)
    # Welch and Satterthwaite: (9 + 16)^2 / (9^2 / 4 + 16^2 / 9)
    assert got.df == pytest.approx(625 / (81 / 4 + 256 / 9))


def test_batch_means_keep_the_order_and_use_everything():
    assert batch_means([1, 2, 3, 4, 5], 2) == (2.0, 4.5)
    with pytest.raises(ValueError, match="batches"):
        batch_means([1, 2], 3)


# -- ratios --------------------------------------------------------------------------------------


@given(a=values, b=values)
def test_the_log_ratio_is_welchs_test_of_the_logarithms(a, b):
    got = log_ratio(a, b)

    assert got.value == pytest.approx(scipy_stats.gmean(a) / scipy_stats.gmean(b))
    if np.ptp(a) > 1e-3 and np.ptp(b) > 1e-3:
        reference = scipy_stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
        interval = reference.confidence_interval(0.95)
        assert got.df == pytest.approx(reference.df)
        assert math.log(got.interval().low) == pytest.approx(interval.low)
        assert math.log(got.interval().high) == pytest.approx(interval.high)


def test_swapping_the_groups_inverts_the_ratio():
    a, b = [4.0, 4.2, 3.9], [10.0, 9.0, 11.0, 10.5]

    assert log_ratio(a, b).upper() == pytest.approx(1 / log_ratio(b, a).lower())


def test_a_ratio_of_what_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="positive"):
        log_ratio([1.0, 0.0], [1.0, 2.0])


# -- quantiles -----------------------------------------------------------------------------------


def test_a_quantile_is_a_value_that_was_seen():
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([4, 1, 3, 2], 0.5) == 2


@pytest.mark.parametrize(("q", "n"), [(0.5, 6), (0.99, 368)])
def test_the_smallest_sample_is_where_the_interval_begins(q, n):
    # 0.5: 2 x 0.5^6 = 0.031 <= 0.05 < 2 x 0.5^5; 0.99: 0.99^368 = 0.0248 <= 0.025 < 0.99^367
    assert smallest_sample(q) == n
    assert quantile_interval(range(n), q) is not None
    assert quantile_interval(range(n - 1), q) is None


@pytest.mark.parametrize(("n", "q"), [(6, 0.5), (50, 0.5), (51, 0.5), (400, 0.99), (3000, 0.99)])
def test_the_order_statistics_cover_at_least_95_percent_by_the_binomial_law(n, q):
    got = quantile_interval(range(1, n + 1), q)

    assert got is not None
    low, high = int(got.low), int(got.high)
    # The quantile lies in [X(low), X(high)] when low..high-1 of n values are below it.
    law = scipy_stats.binom(n, q)
    assert law.cdf(high - 1) - law.cdf(low - 1) >= 0.95
    # and no rank could be given up on either side
    assert law.cdf(low) > 0.025
    assert law.sf(high - 2) > 0.025


def test_a_small_effective_size_widens_the_interval():
    data = np.random.default_rng(0).normal(size=4000)
    wide = quantile_interval(data, 0.99, effective=400)
    narrow = quantile_interval(data, 0.99)

    assert wide is not None
    assert narrow is not None
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert quantile_interval(data, 0.99, effective=367) is None


def correlated(rng: np.random.Generator, rho: float, blocks: int, size: int) -> np.ndarray:
    """Return a stationary AR(1) series of unit variance, cut into blocks."""
    noise = rng.normal(size=blocks * size + 200)
    series = signal.lfilter([math.sqrt(1 - rho**2)], [1, -rho], noise)[200:]
    return series.reshape(blocks, size)


def test_independent_values_keep_their_number():
    rng = np.random.default_rng(1)
    sizes = [effective_size(rng.normal(size=(4, 1000)), 0.5) for _ in range(20)]

    assert 3000 < np.median(sizes) <= 4000


def test_correlated_values_count_for_what_they_tell():
    # Marks of a Gaussian AR(1) above its median correlate as 2/pi asin(rho^k) (Rice).
    rho = 0.8
    expected = 1 + 2 * sum(2 / math.pi * math.asin(rho**k) for k in range(1, 100))
    rng = np.random.default_rng(2)

    sizes = [effective_size(correlated(rng, rho, 4, 2000), 0.5) for _ in range(20)]

    assert 8000 / np.median(sizes) == pytest.approx(expected, rel=0.15)


def test_blocks_that_differ_count_for_little():
    rng = np.random.default_rng(3)
    shifted = [rng.normal(size=1000) + shift for shift in (0.0, 1.0, 2.0, 3.0)]

    assert effective_size(shifted, 0.5) < 20


def test_equal_values_are_as_many_as_they_are():
    assert effective_size([[5.0] * 10] * 3, 0.99) == 30


@pytest.mark.parametrize("rho", [0.0, 0.9])
@pytest.mark.parametrize("q", [0.5, 0.99])
def test_the_interval_of_a_block_quantile_covers(rho, q):
    rng = np.random.default_rng(4)
    truth = scipy_stats.norm.ppf(q)

    got = [block_quantile(correlated(rng, rho, 4, 400), q) for _ in range(150)]

    hits = [estimate is not None and estimate.low <= truth <= estimate.high for estimate in got]
    # 95 % promised; 150 runs leave a standard error of 1.8 %.
    assert np.mean(hits) >= 0.92


def test_no_interval_of_a_positive_quantile_reaches_below_zero():
    blocks = [np.full(400, 5.0) for _ in range(4)]
    blocks[2][:20] = 40.0  # one block met hiccups: its 99th percentile is eight times the others'

    got = block_quantile(blocks, 0.99)

    # By hand: t of three df over log 5, log 5, log 40, log 5.
    logs = np.log([5.0, 5.0, 40.0, 5.0])
    half = scipy_stats.t.ppf(0.975, 3) * logs.std(ddof=1) / 2
    assert got is not None
    assert got.low == pytest.approx(math.exp(logs.mean() - half))
    assert got.high == pytest.approx(max(40.0, math.exp(logs.mean() + half)))


def test_few_values_have_no_99th_percentile():
    assert block_quantile([[1.0, 2.0, 3.0]] * 4, 0.99) is None


def test_blocks_long_enough_have_one_even_where_values_depend_on_each_other():
    ramp = [np.linspace(0, 1, 120) + shift for shift in (0.0, 0.1, 0.2)]
    got = block_quantile(ramp, 0.99)

    assert got is not None
    assert got.low < got.value < got.high
