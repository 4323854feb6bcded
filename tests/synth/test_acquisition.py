"""Batches: the safest when nothing fits, better than the incumbent when something does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hil.synth.acquisition import PoolRules, Worlds, edit, propose
from hil.synth.design import initial_design
from hil.synth.kernels import Kernel
from hil.synth.records import Limit
from hil.synth.searchspace import Encoder, random_archs


@pytest.fixture(scope="module")
def scene(searched):
    return searched[0]._scene()


def test_batches_depend_on_the_given_randomness_alone(scene):
    first = propose(scene, 6, PoolRules(), np.random.default_rng(4))
    assert propose(scene, 6, PoolRules(), np.random.default_rng(4)) == first
    assert propose(scene, 6, PoolRules(), np.random.default_rng(5)) != first


def test_a_share_is_drawn_from_the_generator_at_random(scene):
    rules = PoolRules(calibration=0.5)
    sources = [p.source for p in propose(scene, 10, rules, np.random.default_rng(0))]
    assert sources.count("calibration") == 5
    none = propose(scene, 10, PoolRules(calibration=0.0), np.random.default_rng(0))
    assert "calibration" not in [p.source for p in none]


def test_proposals_promise_more_than_the_incumbent(scene, toy):
    rng = np.random.default_rng(1)
    proposals = [p for p in propose(scene, 6, PoolRules(), rng) if p.source in {"improve", "safe"}]
    assert proposals
    batch = scene.generator.screen.encoder.encode([p.arch for p in proposals])
    worlds = Worlds(scene.generator.screen, scene.utility, 64, np.random.default_rng(2))
    utility, over = worlds.read(batch)
    assert (((utility > scene.best) & (over <= 0)).mean(axis=1) > 0.02).all()


def test_with_impossible_limits_the_least_violation_is_proposed(scene, toy):
    tight = (Limit("energy_mj", 0.5),)
    screen = replace(scene.generator.screen, limits=tight)
    hopeless = replace(scene, generator=replace(scene.generator, screen=screen), best=None)
    rules = PoolRules(calibration=0.0)
    proposals = propose(hopeless, 4, rules, np.random.default_rng(3))
    energy = [toy.truth(p.arch)["energy_mj"] for p in proposals]
    others = [toy.truth(a)["energy_mj"] for a in random_archs(toy, 200, np.random.default_rng(0))]
    assert max(energy) < np.quantile(others, 0.25)
    assert {p.source for p in proposals} == {"thompson"}


def test_edits_stay_inside_the_space_and_are_few(toy):
    rng = np.random.default_rng(0)
    base = tuple(v.identity for v in toy.variables)
    for _ in range(200):
        changed = edit(toy, base, 2, rng)
        assert all(0 <= c < v.size for c, v in zip(changed, toy.variables, strict=True))
        assert sum(a != b for a, b in zip(changed, base, strict=True)) <= 2


def test_the_design_starts_with_the_prototype_and_uniform_widths(toy):
    design = initial_design(toy, 12, np.random.default_rng(0))
    assert design[0] == tuple(v.identity for v in toy.variables)
    assert all(len(set(a[:5])) == 1 for a in design[:3])  # two of the levels coincide here
    assert len(set(design)) == 12
    assert initial_design(toy, 12, np.random.default_rng(0)) == design


def test_the_design_informs_more_than_random_networks(toy):
    encoder = Encoder(toy)
    kernel = Kernel(toy.variables, np.full(8, 1 / 8), "linear")

    def information(archs) -> float:
        batch, none = encoder.encode(archs), np.zeros(len(archs))
        terms = kernel.components(batch, batch, (none, none))
        gram = 0.3 * terms[1] + terms[2] + 0.01 * np.eye(len(archs))
        return float(np.linalg.slogdet(gram)[1])

    ours = information(initial_design(toy, 12, np.random.default_rng(0)))
    others = [information(random_archs(toy, 12, np.random.default_rng(s))) for s in range(50)]
    assert ours > max(others)
