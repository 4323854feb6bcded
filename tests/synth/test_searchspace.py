"""Architectures as arrays: the same however they are read, each asked for once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hil.synth.searchspace import (
    BatchSpace,
    Encoder,
    digest,
    identity,
    random_archs,
    uniform_level,
    unique,
)


class Together:
    """A toy that reads many architectures at once, and counts them."""

    def __init__(self, toy) -> None:
        self._toy = toy
        self.variables, self.key, self.neighbours = toy.variables, toy.key, toy.neighbours
        self.features, self.cost = toy.features, toy.cost
        self.read: list[tuple[int, ...]] = []

    def features_of(self, archs):
        self.read += archs
        return np.array([self._toy.features(a) for a in archs])

    def costs_of(self, archs):
        return np.array([self._toy.cost(a) for a in archs])


def test_reading_together_equals_reading_one_by_one(toy):
    space = Together(toy)
    assert isinstance(space, BatchSpace)
    archs = random_archs(toy, 60, np.random.default_rng(0))
    encoder = Encoder(space)
    batch, single = encoder.encode(archs), Encoder(toy).encode(archs)
    assert batch.logs.tolist() == single.logs.tolist()
    assert batch.macs.tolist() == [toy.cost(a)[0] for a in archs]
    encoder.encode(archs)
    assert len(space.read) == len(set(space.read))


def test_features_are_standardised_over_the_space(toy):
    batch = Encoder(toy).encode(random_archs(toy, 2000, np.random.default_rng(5)))
    assert batch.linear.mean(axis=0) == pytest.approx(np.zeros(3), abs=0.3)
    assert batch.linear.std(axis=0) == pytest.approx(np.ones(3), abs=0.3)


def test_uniform_levels_scale_widths_and_keep_blocks(toy):
    assert uniform_level(toy, 1.0) == identity(toy)
    assert uniform_level(toy, 0.0) == (0, 0, 0, 0, 0, 0, 0, 1)


def test_unique_keeps_order_and_leaves_out_what_is_taken(toy):
    a, b = identity(toy), uniform_level(toy, 0.0)
    assert unique(toy, [b, a, b]) == [b, a]
    assert unique(toy, [b, a], {toy.key(b)}) == [a]


def test_the_digest_tells_spaces_apart(toy):
    assert digest(toy) == digest(replace(toy))
    assert digest(toy) != digest(replace(toy, variables=toy.variables[:-1] + toy.variables[:1]))
