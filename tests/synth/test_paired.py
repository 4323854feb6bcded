"""Paired accuracy: the score interval against its definition, its coverage, and what n resolves."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import optimize, stats

from hil.core.errors import ConfigError
from hil.synth.paired import (
    Paired,
    exact_lower,
    require_resolution,
    resolution_note,
    resolvable_margin,
    score_bound,
)
from hil.synth.requirements import Limit, Requirement

LOSE_1 = Requirement("accuracy", Limit(1.0), "lose_at_most")


def score_by_definition(pictures, gained, lost, difference):
    """The score statistic with the nuisance found by maximising the trinomial likelihood."""

    def cost(p_lost):
        cells = (p_lost + difference, p_lost, 1 - 2 * p_lost - difference)
        counts = (gained, lost, pictures - gained - lost)
        return -sum(k * math.log(p) for k, p in zip(counts, cells, strict=True) if k)

    span = (max(0.0, -difference) + 1e-13, (1 - difference) / 2 - 1e-13)
    p_lost = optimize.minimize_scalar(
        cost, bounds=span, method="bounded", options={"xatol": 1e-13}
    ).x
    variance = (2 * p_lost + difference - difference**2) / pictures
    return ((gained - lost) / pictures - difference) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("pictures", "gained", "lost"), [(44, 0, 1), (50, 3, 9), (898, 6, 5), (100, 20, 5), (30, 4, 4)]
)
def test_the_bound_is_where_the_score_statistic_meets_the_normal_quantile(pictures, gained, lost):
    bound = score_bound(pictures, gained, lost, 0.05)

    assert bound < (gained - lost) / pictures
    assert score_by_definition(pictures, gained, lost, bound) == pytest.approx(1.6449, abs=2e-3)


def test_without_any_disagreement_the_bound_has_a_closed_form():
    z = stats.norm.isf(0.05)
    assert score_bound(898, 0, 0, 0.05) == pytest.approx(-(z**2) / (898 + z**2), rel=1e-6)


@pytest.mark.parametrize("truth", [(0.02, 0.03), (0.05, 0.05), (0.01, 0.08)])
def test_the_lower_bound_covers_the_truth_about_as_often_as_said(truth):
    # Every outcome of 60 pictures, weighted by its exact probability.
    pictures, (gain, loss) = 60, truth
    missed = 0.0
    for gained in range(16):
        for lost in range(20):
            if score_bound(pictures, gained, lost, 0.05) > gain - loss:
                cells = [gained, lost, pictures - gained - lost]
                missed += stats.multinomial.pmf(cells, pictures, [gain, loss, 1 - gain - loss])
    assert 0.0 < missed < 0.065


def test_counts_come_from_pictures_in_the_same_order():
    prototype = np.array([1, 1, 1, 0, 0], dtype=bool)
    candidate = np.array([1, 1, 0, 1, 0], dtype=bool)

    paired = Paired.count(prototype, candidate)

    assert paired == Paired(pictures=5, both=2, gained=1, lost=1)
    assert (paired.accuracy, paired.prototype_accuracy, paired.difference) == (60.0, 60.0, 0.0)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (np.ones(3, bool), np.ones(4, bool)),
        (np.ones(0, bool), np.ones(0, bool)),
        (np.ones(3), np.ones(3)),
    ],
)
def test_answers_that_cannot_be_paired_are_refused(left, right):
    with pytest.raises(ValueError, match=r"pictures|booleans"):
        Paired.count(left, right)


def test_pairing_is_tighter_than_two_separate_accuracies():
    paired = Paired(pictures=898, both=880, gained=4, lost=6)
    low, high = paired.interval()
    p, q = paired.accuracy / 100, paired.prototype_accuracy / 100
    separate = 2 * 1.96 * 100 * math.sqrt((p * (1 - p) + q * (1 - q)) / 898)

    assert low < paired.difference < high
    assert high - low < 0.75 * separate


def test_the_interval_mirrors_when_the_networks_swap():
    low, high = Paired(200, 180, 3, 9).interval()
    swapped = Paired(200, 180, 9, 3).interval()
    assert (low, high) == pytest.approx((-swapped[1], -swapped[0]))


def test_nothing_but_losses_is_as_bad_as_can_be():
    low, high = Paired(10, 0, 0, 10).interval()
    assert low == -100.0
    assert high < 0


def test_fifty_nine_of_fifty_nine_show_ninety_five_percent():
    assert exact_lower(59, 59, 0.05) > 0.95 > exact_lower(58, 58, 0.05)
    assert exact_lower(0, 10, 0.05) == 0.0


def test_a_margin_is_resolvable_exactly_when_equal_networks_would_show_it():
    margin = resolvable_margin(898, 0.05, disagreement=0.01)
    equal = Paired(898, 880, 5, 5)
    assert -equal.lower(0.05) == pytest.approx(margin)
    assert 0.5 < margin < 0.7
    assert resolvable_margin(898, 0.05) < margin < resolvable_margin(300, 0.05, 0.01)


@pytest.mark.parametrize("pictures", [100, 898, 2000])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_where_nobody_disagrees_the_margin_has_a_closed_form(pictures, alpha):
    # Tango's score at no discordant pair is n d / sqrt(n d (1 - d)), so d = z^2 / (n + z^2).
    z = NormalDist().inv_cdf(1 - alpha)

    margin = resolvable_margin(pictures, alpha)

    assert margin == pytest.approx(100 * z**2 / (pictures + z**2), rel=1e-6)


def test_where_networks_disagree_the_margin_is_the_normal_one_for_many_pictures():
    # Two networks as good as each other that differ on a share p: d has variance p / n.
    z, pictures, share = NormalDist().inv_cdf(0.95), 200_000, 0.1

    margin = resolvable_margin(pictures, 0.05, share)

    assert margin == pytest.approx(100 * z * math.sqrt(share / pictures), rel=0.01)


def test_a_margin_that_cannot_be_resolved_is_said_with_the_one_that_can():
    note = resolution_note(LOSE_1, 2000, 0.05)

    could = resolvable_margin(2000, 0.05, 0.1)
    assert could == pytest.approx(1.2, abs=0.05)
    assert note is not None
    assert "2,000 held-out pictures cannot resolve the loss of 1 points" in note
    assert f"tell {could:.2g} points" in note
    assert resolution_note(LOSE_1, 4000, 0.05) is None
    assert resolution_note(Requirement("accuracy", Limit(95.0), "at_least"), 9, 0.05) is None


def test_too_few_pictures_are_refused_with_the_smallest_margin():
    require_resolution(LOSE_1, 898, 0.05, disagreement=0.02)
    with pytest.raises(ConfigError, match=r"smallest margin is 2\.\d+ points") as caught:
        require_resolution(LOSE_1, 100, 0.05)
    assert caught.value.exit_code == 2


def test_an_accuracy_beyond_what_all_right_would_show_is_refused():
    demand = Requirement("accuracy", Limit(95.0), "at_least")
    require_resolution(demand, 59, 0.05)
    with pytest.raises(ConfigError, match="the highest is"):
        require_resolution(demand, 58, 0.05)


def test_json_keeps_the_counts():
    paired = Paired(5, 2, 1, 1)
    assert Paired.from_json(paired.to_json()) == paired
