"""What the search is told of a traced space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hil.net.space import Choices, build_space
from hil.net.trace import trace
from hil.synth.searchspace import BatchSpace, Encoder, digest, random_archs
from hil.synth.traced import TracedSpace, changes

pytestmark = pytest.mark.torch


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.grouped(x)).mean((2, 3))


@pytest.fixture(scope="module")
def space():
    traced = trace(Small(), (torch.rand(1, 1, 16, 16),))
    choices = Choices(kernels=True, resolutions=(8,), precisions=("fp16", "fp32"))
    return TracedSpace(traced, build_space(traced, choices=choices))


def test_changes_are_said_in_words(space):
    kinds = [v.kind for v in space.variables]
    arch = tuple(1 if kind == "precision" else 0 for kind in kinds)

    assert kinds == ["width", "depth", "kernel", "kernel", "resolution", "precision"]
    assert changes(space.trace, space.space, space.space.identity) == ()
    assert changes(space.trace, space.space, arch) == (
        "first 8 to 2 channels",
        "add dropped",
        "first 3x3 to 1x1 window",
        "input 16x16 to 8x8 pixels",
        "engine in fp32",
    )


def test_all_kinds_of_choices_are_read_in_batches(space):
    encoder = Encoder(space)
    archs = random_archs(space, 50, np.random.Generator(np.random.Philox(1)))

    batch = encoder.encode(archs)

    assert isinstance(space, BatchSpace)
    assert len(batch) == 50
    for arch, macs, params in zip(archs, batch.macs, batch.params, strict=True):
        assert space.cost(arch) == (macs, params)
    ordered = {v.kind: v.ordered for v in space.variables}
    assert ordered == {
        "width": True,
        "depth": True,
        "kernel": True,
        "resolution": True,
        "precision": False,
    }
    assert digest(space) != digest(TracedSpace(space.trace, build_space(space.trace)))
