"""Initial generators sit on the budget; successors find the target, keep variety, earn entry."""

from __future__ import annotations

import numpy as np
import pytest

from hil.synth.emission import Mixture
from hil.synth.fitting import (
    FitRules,
    Gate,
    Relaxation,
    Standing,
    boltzmann_weights,
    distinct,
    divergence,
    expectation_maximisation,
    successor,
    temperature,
    uniform_mixture,
)
from hil.synth.searchspace import Encoder


@pytest.fixture
def relaxation():
    rng = np.random.default_rng(0)
    gains = tuple(-np.sort(-rng.random(4))[::-1] for _ in range(6))
    costs = tuple(np.linspace(-1.0, 0.0, 4) * rng.random() for _ in range(6))
    return Relaxation(gains, (costs,), np.array([-1.2]))


def test_the_relaxed_budget_is_met_in_expectation_exactly_when_it_binds(relaxation):
    for guard in (0.0, 0.4):
        rows = relaxation.distributions(0.1, guard)
        spent = sum(float(p @ c) for p, c in zip(rows, relaxation.costs[0], strict=True))
        assert spent == pytest.approx(-1.2 - guard, abs=1e-3)


def test_a_slack_budget_costs_nothing(relaxation):
    loose = Relaxation(relaxation.utility, relaxation.costs, np.array([5.0]))
    assert loose.multipliers(0.1, 0.0) == pytest.approx([0.0])


def test_fitting_recovers_two_planted_networks():
    choices = np.array([(i, j, k) for i in range(4) for j in range(4) for k in range(4)])
    planted = (choices == [0, 3, 1]).all(1) | (choices == [3, 0, 2]).all(1)
    weights = np.where(planted, 0.5, 0.0)
    mixture = expectation_maximisation(choices, weights, uniform_mixture([4, 4, 4], 4), 0.06)
    mass = np.exp(mixture.log_prob(choices))
    assert mass.sum() == pytest.approx(1.0)
    assert mass[planted].sum() > 0.6
    assert mass[planted].min() > 0.2


def test_temperature_spreads_the_target_as_far_as_asked():
    utilities = np.random.default_rng(1).normal(size=2000)
    prior = np.ones(2000)
    tau = temperature(utilities, prior, 100.0)
    weights = boltzmann_weights(utilities, prior, tau)
    assert np.exp(-(weights * np.log(weights)).sum()) == pytest.approx(100.0, rel=0.01)


def test_a_successor_stays_within_the_trust_region_and_stays_diverse(toy):
    encoder, old = Encoder(toy), uniform_mixture([v.size for v in toy.variables], 4)
    rng = np.random.default_rng(2)
    archs = list({tuple(int(rng.integers(v.size)) for v in toy.variables) for _ in range(800)})
    batch = encoder.encode(archs)
    scores = (-batch.macs / batch.macs.mean(), np.ones(len(batch)))
    rules = FitRules(components=4, distinct=60)
    for trust in (0.05, 5.0):
        new = successor(old, batch, scores, rules, trust)
        assert 0 < divergence(new, old, range(3000)) <= trust * len(toy.variables) * 1.2
        assert distinct(new, 1000) >= 60


def _standing(satisfaction: float, utility: float, seed: int = 0) -> Standing:
    noise = np.random.default_rng(seed).normal(size=64)
    return Standing(np.clip(satisfaction + 0.01 * noise, 0, 1), utility + noise)


@pytest.mark.parametrize(
    ("new", "old", "admitted"),
    [
        (_standing(0.9, 11.0), _standing(0.9, 10.0), True),
        (_standing(0.9, 9.9), _standing(0.9, 10.0), False),
        (_standing(0.9, 10.1, seed=1), _standing(0.9, 10.0), False),  # better, but not surely
        (_standing(0.4, 20.0), _standing(0.9, 10.0), False),  # 1_r is never traded for U
        (_standing(0.3, 5.0), _standing(0.1, 10.0), True),  # too few satisfy yet: that comes first
        (_standing(0.1, 20.0), _standing(0.3, 10.0), False),
    ],
)
def test_the_gate_admits_only_on_lower_bounds(new, old, admitted):
    assert Gate().admits(new, old) is admitted


def test_mixture_probabilities_are_those_of_its_parts():
    mixture = Mixture(np.array([0.5, 0.5]), (np.array([[1.0, 1e-9], [0.5, 0.5]]),))
    assert np.exp(mixture.log_prob(np.array([[0]]))) == pytest.approx([0.75])


def test_weights_stay_finite_beside_a_far_better_architecture_that_does_not_fit():
    utilities, prior = np.array([1e6, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])

    weights = boltzmann_weights(utilities, prior, 1e-3)

    assert weights == pytest.approx([0.0, 1.0, 0.0])
