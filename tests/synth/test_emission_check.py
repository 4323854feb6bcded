"""What is said of a generator's emissions: exact shares, and how far apart networks are."""

from __future__ import annotations

import pytest

from hil.synth.emission_check import distances, satisfaction


def test_59_of_59_seeds_prove_95_percent_at_95_percent_confidence():
    # 0.95 ** 59 = 0.0485: fewer would not do.
    assert satisfaction(59, 59)["satisfied_at_least"] == pytest.approx(0.05 ** (1 / 59))
    assert satisfaction(59, 59)["satisfied_at_least"] >= 0.95
    assert satisfaction(58, 58)["satisfied_at_least"] < 0.95


def test_an_interval_of_a_share_is_clopper_and_pearsons():
    # Tables of the exact interval: 5 of 10 lie in [0.1871, 0.8129].
    assert satisfaction(5, 10)["satisfied_share_ci95"] == pytest.approx([0.1871, 0.8129], abs=1e-4)
    assert satisfaction(0, 10)["satisfied_share_ci95"][0] == 0.0
    assert satisfaction(10, 10)["satisfied_share_ci95"][1] == 1.0


def test_networks_differ_in_so_many_choices():
    assert distances([(0, 0, 0), (0, 1, 0), (1, 1, 1)]) == {
        "mean": 2.0,
        "least": 1.0,
        "most": 3.0,
        "variables": 3.0,
    }
    assert distances([(0, 0)]) is None
