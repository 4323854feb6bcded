"""Smaller inputs: only where the trace comes out the same, and said where results change."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hil.core.errors import ConfigError
from hil.net.features import cost
from hil.net.materialise import materialise
from hil.net.prototypes import resnet20
from hil.net.resolution import example_of, fit
from hil.net.space import Choices, build_space
from hil.net.trace import trace

pytestmark = pytest.mark.torch


def space_of(traced, *heights):
    return build_space(traced, choices=Choices(resolutions=heights or "auto"))


def with_resolution(space, choice):
    return (*space.identity[:-1], choice)


@pytest.fixture(scope="module")
def traced():
    return trace(resnet20(), (torch.rand(1, 1, 24, 32),))


def test_a_classifier_takes_smaller_inputs_and_answers_as_before(traced):
    space = space_of(traced, 12, 18)
    variable = space.variables[-1]

    assert (variable.kind, variable.choices, variable.identity) == ("resolution", (12, 18, 24), 2)
    assert [r.shapes for r in space.resolutions] == [
        ((1, 1, 12, 16),),
        ((1, 1, 18, 24),),
        ((1, 1, 24, 32),),
    ]
    assert {r.outputs for r in space.resolutions} == {((1, 10),)}
    assert space.remarks == ()


def test_counts_are_those_of_the_network_at_its_size(traced):
    space = space_of(traced, 12, 18)

    for choice in range(3):
        arch = with_resolution(space, choice)
        inputs = example_of(traced, space, arch)
        module = materialise(traced, space, arch)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*inputs)
        counted = cost(traced, space, arch)
        assert inputs[0].shape[2:] == space.resolutions[choice].shapes[0][2:]
        assert counted.macs == counter.get_total_flops() // 2
        assert counted.params == cost(traced, space, space.identity).params


def test_the_size_is_part_of_the_key_even_where_branches_are_dropped(traced):
    space = space_of(traced, 12)
    dropped = tuple(0 if v.kind == "depth" else v.identity for v in space.variables)

    assert space.key((*dropped[:-1], 0)) != space.key(dropped)
    assert space.canonical((*dropped[:-1], 0))[-1] == 0


def test_sizes_stay_unless_they_are_asked_for(traced):
    space = build_space(traced)

    assert all(v.kind != "resolution" for v in space.variables)
    assert space.resolution(space.identity) is None
    assert example_of(traced, space, space.identity) is traced.example


def test_sizes_by_themselves_are_few_and_divisible(traced):
    heights = space_of(traced).variables[-1].choices

    assert heights == (12, 16, 20, 24)  # the network divides by four


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8 * 16 * 16, 4)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return {"map": self.head(self.conv(x)), "mean": self.conv(x).mean((2, 3))}


def test_a_layer_of_fixed_size_keeps_the_input():
    traced = trace(Fixed(), (torch.rand(1, 1, 16, 16),))
    space = space_of(traced, 8)

    assert all(v.kind != "resolution" for v in space.variables)
    assert space.resolutions == ()
    assert "not 8 rows: RuntimeError" in space.remarks[0].reason


def test_dense_results_that_change_are_said():
    traced = trace(Dense(), (torch.rand(1, 1, 16, 16),))
    space = space_of(traced, 8)

    assert space.variables[-1].choices == (8, 16)
    assert [r.reason for r in space.remarks] == [
        "at 8 rows output 0 has shape 1x2x8x8 instead of 1x2x16x16"
    ]
    assert space.resolution(with_resolution(space, 0)).outputs == ((1, 2, 8, 8), (1, 8))


def test_vectors_have_no_size_to_choose():
    traced = trace(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), (torch.rand(1, 6),))

    space = space_of(traced, 3)

    assert space.remarks[0].reason == "no input has two axes of space"


@pytest.mark.parametrize("height", [0, -4, 25])
def test_impossible_sizes_are_refused(traced, height):
    with pytest.raises(ConfigError):
        space_of(traced, height)


def test_pictures_are_fitted_without_aliasing():
    checkers = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float()[None, None]

    small = fit(checkers, (8, 8))

    assert small.shape == (1, 1, 8, 8)
    assert torch.allclose(small, torch.full_like(small, 0.5), atol=0.05)
    assert fit(checkers, (16, 16)) is checkers
