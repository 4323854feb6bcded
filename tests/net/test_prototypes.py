"""The shipped prototype is the published network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hil.net.factory import load_factory
from hil.net.prototypes import resnet20

pytestmark = pytest.mark.torch


def test_resnet20_has_the_published_size():
    # He et al. give 0.27 M parameters; 269,722 with option A, and the two 1x1 projections and
    # their norms add 16*32 + 2*32 + 32*64 + 2*64 to it.
    params = sum(p.numel() for p in resnet20(in_channels=3).parameters())

    assert params == 269_722 + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


def test_resnet20_has_the_published_arithmetic():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        resnet20(in_channels=3).eval()(torch.rand(1, 3, 32, 32))

    # 40.55 M with option A; each projection reads C channels at half resolution.
    projections = 16 * 32 * 16 * 16 + 32 * 64 * 8 * 8
    assert counter.get_total_flops() // 2 == 40_551_040 + projections


def test_resnet20_has_twenty_layers_on_its_longest_path():
    weighted = [
        name
        for name, m in resnet20().named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]

    assert len(weighted) == 20


def test_the_factory_finds_it_and_passes_its_arguments():
    model = load_factory("hil.net.prototypes:resnet20")(in_channels=2, classes=7)

    assert model(torch.rand(3, 2, 8, 8)).shape == (3, 7)
