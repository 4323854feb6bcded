"""Coverage intervals of a t term and rectangles, against closed forms and against drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hil.core.stats import Estimate
from hil.measure.uncertainty import half_width, shares, total


def test_without_rectangles_the_readings_own_interval_is_left_as_it_is():
    assert half_width(0.3, 3, []) == 0.3
    assert half_width(0.3, 3, [0.0, 0.0]) == 0.3


def test_one_rectangle_alone_has_ninety_five_hundredths_of_its_half_width():
    assert half_width(0.0, 3, [2.0]) == pytest.approx(1.9, rel=1e-3)


def test_two_equal_rectangles_make_a_triangle():
    # |x| > c has probability (1 - c / 2a)^2 for a triangle of half width 2a
    assert half_width(0.0, 3, [1.0, 1.0]) == pytest.approx(2 * (1 - math.sqrt(0.05)), rel=1e-3)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_three_rectangles_agree_with_irwin_and_hall(confidence):
    # Sum of three uniforms on (0, 1), P(X <= x) = 1 - (3 - x)^3 / 6 for x > 2.
    tail = (1 - confidence) / 2
    exact = 2 * ((3 - (6 * tail) ** (1 / 3)) - 1.5)
    assert exact > 1.0
    assert half_width(0.0, 5, [1.0, 1.0, 1.0], confidence) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize(
    ("repeatability", "df", "rectangles"),
    [
        (1.0, 3, [1.0, 0.25, 0.1]),
        (0.2, 3, [0.076, 0.0125, 0.05]),
        (0.02, 7, [0.076, 0.0125, 0.05, 0.0125]),
        (0.5, 2, [0.01, 0.3]),
        (0.05, 30, [1.0]),
        (3.0, 1, [1.0, 1.0]),
    ],
)
def test_drawing_agrees(repeatability, df, rectangles):
    rng = np.random.default_rng(11)
    n = 1_000_000
    drawn = repeatability / stats.t.ppf(0.975, df) * rng.standard_t(df, n)
    for half in rectangles:
        drawn += rng.uniform(-half, half, n)

    covered = np.mean(np.abs(drawn) <= half_width(repeatability, df, rectangles))

    assert covered == pytest.approx(0.95, abs=0.001)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.0, 10.0),
    st.integers(2, 40),
    st.lists(st.floats(0.0, 10.0), min_size=1, max_size=6),
    st.floats(0.1, 100.0),
)
def test_it_lies_between_the_largest_term_and_their_sum_and_has_no_unit(
    repeatability, df, rectangles, unit
):
    whole = half_width(repeatability, df, rectangles)

    assert whole >= repeatability
    assert whole >= 0.95 * max(rectangles) * (1 - 2e-3)
    assert whole <= repeatability + 0.9501 * max(rectangles) + sum(rectangles)
    scaled = half_width(unit * repeatability, df, [unit * half for half in rectangles])
    assert scaled == pytest.approx(unit * whole, rel=1e-6, abs=1e-9)


@given(st.floats(0.01, 2.0), st.floats(0.01, 2.0), st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_a_further_term_never_narrows_it(repeatability, half, further):
    with_it = half_width(repeatability, 3, [half, further])

    assert with_it >= half_width(repeatability, 3, [half]) * (1 - 2e-3)


def test_an_uneven_interval_stays_uneven():
    got = total(Estimate(10.0, 9.9, 10.5), 3, [0.2])

    assert got.value == 10.0
    assert got.low == 10.0 - half_width(0.1, 3, [0.2])
    assert got.high == 10.0 + half_width(0.5, 3, [0.2])


def test_shares_add_up_and_follow_the_variances():
    got = shares([1.959964], [math.sqrt(3), math.sqrt(6)])

    assert got == pytest.approx((0.25, 0.25, 0.5), rel=1e-6)
    assert shares([0.0], [0.0]) == (0.0, 0.0)


def test_the_truth_is_covered_when_the_sensor_is_drawn_from_its_tolerance():
    """Absolute truth, 5 W, four windows; errors drawn as stated: covered 95 times in 100.

    With the spread of four windows estimated anew each time it is up to two points more.
    """
    rng = np.random.default_rng(4)
    runs, truth_w, offset_w = 2500, 5.0, 0.0766
    gain = rng.uniform(-0.0025, 0.0025, runs)
    shunt = rng.uniform(-0.01, 0.01, runs)
    offset = rng.uniform(-offset_w, offset_w, runs)
    windows_w = truth_w + rng.normal(0.0, 0.03, (runs, 4))
    read_w = windows_w * ((1 + gain) * (1 + shunt))[:, None] + offset[:, None]
    covered = 0
    for row in read_w:
        mean, error = float(row.mean()), float(row.std(ddof=1)) / 2
        half = 3.182446 * error
        got = total(
            Estimate(mean, mean - half, mean + half), 3, [offset_w, 0.0025 * mean, 0.01 * mean]
        )
        covered += got.low <= truth_w <= got.high
    assert 0.94 <= covered / runs <= 0.975
