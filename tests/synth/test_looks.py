"""The sequential test: against textbooks, against a second implementation, and at its edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hil.synth import looks
from hil.synth.looks import Design, chance, follow, margin, p_value

ALPHA = 0.05


def test_with_nothing_unseen_the_p_value_is_student_s():
    rng = np.random.default_rng(0)
    excesses = rng.normal(-0.01, 0.02, (50, 6))

    expected = stats.ttest_1samp(excesses, 0.0, axis=1, alternative="less").pvalue

    inside = excesses.mean(axis=1) < 0
    assert inside.any()
    assert p_value(excesses, 0.0)[inside] == pytest.approx(expected[inside])
    assert (p_value(excesses, 0.0)[~inside] == 1.0).all()


@settings(deadline=None)
@given(
    n=st.integers(3, 20),
    sd=st.floats(0.001, 0.1),
    error=st.floats(1e-4, 0.2),
    unseen=st.floats(0.0, 0.2),
)
def test_the_margin_is_where_the_p_value_is_the_error(n, sd, error, unseen):
    pattern = np.linspace(-1, 1, n)
    pattern *= sd / pattern.std(ddof=1)
    half = float(margin(np.array(sd), n, error, unseen))

    assert float(p_value(pattern - half * 1.0001, unseen)) <= error * 1.0001
    assert float(p_value(pattern - half * 0.999, unseen)) >= error * 0.999


def test_alike_builds_prove_no_more_than_they_can_show():
    # One build in ten costs 5 % more; three alike builds say nothing of it: 0.9^3 of runs see none.
    alike = np.full(3, -0.005)
    assert float(p_value(alike, 0.05)) == pytest.approx((1 - 0.005 / 0.05) ** 3)
    assert float(p_value(alike, 0.0)) < 0.01


@settings(deadline=None)
@given(n=st.integers(1, 40), share=st.floats(0.01, 0.99))
def test_the_allowance_holds_for_any_share_of_worse_builds(n, share):
    # Builds of two kinds, the worse one never seen; the mean is `share` of the way to it. The
    # p-value of that mean must not be below the chance of seeing none.
    unseen = 0.05
    alike = np.full(max(n, 3), -share * unseen)
    assert float(p_value(alike, unseen)) >= (1 - share) ** max(n, 3) - 1e-12


def test_looks_lie_a_third_apart_and_their_shares_add_up():
    design = Design.between(3, 16)
    assert design.looks == (3, 4, 5, 7, 9, 12, 16)
    assert sum(design.shares) == pytest.approx(1.0)
    assert list(design.shares) == sorted(design.shares)
    assert Design.between(3, 3).looks == (3,)
    assert Design.between(3, 4).looks == (3, 4)


def slowly(excesses, design, unseen, error):
    """One finalist, one requirement, in plain Python: (least error it is accepted at, builds)."""
    least, refused, builds = math.inf, False, 0
    for n, share in zip(design.looks, design.shares, strict=True):
        seen = excesses[:n]
        mean, sd = sum(seen) / n, max(float(np.std(seen, ddof=1)), 0.001)

        def tail(distance, n=n, sd=sd):
            student = float(stats.t.cdf(-distance / (sd / math.sqrt(n)), n - 1))
            return max(student, (1 - min(max(distance / unseen, 0.0), 1.0)) ** n)

        least, builds = min(least, tail(-mean) / share), n
        if least <= error:
            break
        refused = tail(mean) <= error * share
        if refused:
            break
    return (math.inf if refused else least), builds


def test_following_agrees_with_a_second_implementation():
    rng = np.random.default_rng(3)
    design = Design.between(3, 12)
    excesses = rng.normal(-0.015, 0.02, (300, 1, 12)) + rng.normal(0, 0.03, (300, 1, 1))

    done = follow(excesses, design, 0.05, ALPHA / 3, ALPHA, give_up=0.0)

    for row in range(300):
        spent, builds = slowly(excesses[row, 0], design, 0.05, ALPHA / 3)
        assert done.spent[row] == pytest.approx(spent)
        assert done.builds[row] == builds


@settings(deadline=None)
@given(
    spent=st.lists(st.sampled_from([0.001, 0.01, 0.016, 0.02, 0.03, 0.05, 0.2]), min_size=1,
                   max_size=4)
)  # fmt: skip
def test_alpha_is_shared_as_in_closed_testing(spent):
    # A finalist is certified exactly where every set that holds it is rejected by Bonferroni.
    count = len(spent)
    sets = [s for k in range(1, count + 1) for s in itertools.combinations(range(count), k)]
    rejected = {s: min(spent[i] for i in s) <= ALPHA / len(s) for s in sets}
    expected = [all(rejected[s] for s in sets if i in s) for i in range(count)]

    assert looks.certified(np.array(spent), ALPHA).tolist() == expected


def test_the_chance_of_a_certificate_is_borne_out():
    rng = np.random.default_rng(4)
    means = rng.normal(-0.02, 0.01, (20_000, 1))
    builds = means + 0.01 * rng.standard_normal((20_000, 12))
    predicted = chance(builds[:, :5], 12, 0.01, 0.0)
    accepted = p_value(builds, 0.0) <= 0.01

    likely, hopeless = predicted > 0.9, predicted < looks.GIVE_UP
    assert accepted[likely].mean() > 0.85
    assert accepted[hopeless].mean() < 0.1


def test_what_has_no_noise_is_left_to_others():
    done = follow(np.zeros((0, 3)), Design.between(3, 8), np.zeros(0), ALPHA, ALPHA)
    assert float(done.spent) == 0.0
    assert int(done.builds) == 3
