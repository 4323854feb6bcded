"""Analytic counts: equal to what a built network holds, and fast enough to rank thousands."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hil.net.features import (
    FEATURE_NAMES,
    cost,
    costs,
    feature_names,
    hardware_features,
    hardware_matrix,
    vertex_table,
)
from hil.net.materialise import materialise
from hil.net.prototypes import resnet20
from hil.net.space import build_space
from hil.net.trace import trace

pytestmark = pytest.mark.torch


def draw(space, count, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [v.size for v in space.variables]
    return [tuple(int(c) for c in rng.integers(0, sizes)) for _ in range(count)]


def named(features):
    return dict(zip(FEATURE_NAMES, features.tolist(), strict=True))


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.depthwise, self.point = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, x):
        return self.point(self.depthwise(torch.relu(self.norm(self.conv(x)))))


def test_counts_of_a_tiny_network_by_hand():
    traced = trace(Tiny(), (torch.rand(1, 3, 6, 6),))
    space = build_space(traced)
    narrow = (space.variables[0].choices.index(2),)

    rows = {row.name: row for row in vertex_table(traced, space, narrow)}
    features = named(hardware_features(traced, space, narrow))

    assert (rows["conv"].c_in, rows["conv"].c_out) == (3, 2)
    assert rows["conv"].macs == 3 * 2 * 9 * 36
    assert rows["conv"].params == 3 * 2 * 9 + 2
    assert rows["conv"].bytes_moved == 2 * ((3 + 2) * 36 + 3 * 2 * 9 + 2)
    assert rows["norm"].params == 4
    assert rows["depthwise"].macs == 2 * 9 * 16
    assert rows["depthwise"].bytes_moved == 2 * (2 * 36 + 2 * 16 + 2 * 9 + 2)
    assert features == {
        **dict.fromkeys(FEATURE_NAMES, 0.0),
        "count_conv_kxk": 1,
        "count_conv_1x1": 1,
        "count_depthwise": 1,
        "count_pointwise": 1,
        "macs_conv_kxk": 3 * 2 * 9 * 36,
        "macs_conv_1x1": 2 * 4 * 16,
        "macs_depthwise": 2 * 9 * 16,
        "activation_bytes": 2 * ((3 + 2) * 36 + 2 * 2 * 36 + 2 * (36 + 16) + (2 + 4) * 16),
        "weight_bytes": 2 * (3 * 2 * 9 + 2 + 4 + 2 * 9 + 2 + 2 * 4),
    }


class CalledTwice(nn.Module):
    """One convolution, called in a residual branch and again after it."""

    def __init__(self):
        super().__init__()
        self.stem, self.shared = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.shared(x)
        return self.head(self.shared(x))


def test_a_module_called_twice_counts_its_weights_once_and_its_work_twice(pictures):
    traced = trace(CalledTwice(), (pictures,))
    space = build_space(traced)
    assert {v.kind for v in space.variables} == {"width", "depth"}

    for arch in draw(space, 6):
        module = materialise(traced, space, arch)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(pictures[:1])
        counted = cost(traced, space, arch)
        assert counted.params == sum(p.numel() for p in module.parameters())
        assert counted.macs == counter.get_total_flops() // 2


def test_rows_agree_with_the_modules_of_the_built_network(net, pictures):
    traced = trace(net, (pictures,))
    space = build_space(traced)

    for arch in draw(space, 5):
        module = materialise(traced, space, arch)
        first = {}
        for vertex, row in zip(traced.vertices, vertex_table(traced, space, arch), strict=True):
            if row.live and vertex.module and vertex.module not in first:
                first[vertex.module] = row
        for path, row in first.items():
            built = module.get_submodule(path)
            assert row.params == sum(p.numel() for p in built.parameters())
            if isinstance(built, nn.Conv2d):
                assert (row.c_in, row.c_out) == (built.in_channels, built.out_channels)
        assert set(first) == {p for p, m in module.named_modules() if p in first}


def test_the_table_the_cost_and_the_batch_agree(net, pictures):
    traced = trace(net, (pictures,))
    space = build_space(traced)
    archs = draw(space, 20)

    together = costs(traced, space, archs)

    for arch, (macs, params) in zip(archs, together, strict=True):
        table = vertex_table(traced, space, arch)
        assert cost(traced, space, arch).macs == macs == sum(row.macs for row in table)
        assert cost(traced, space, arch).params == params == sum(row.params for row in table)


def test_features_of_many_are_the_features_of_each(net, pictures):
    traced = trace(net, (pictures,))
    space = build_space(traced)
    archs = draw(space, 10)

    matrix = hardware_matrix(traced, space, archs)

    names = feature_names(traced, space)
    assert matrix.shape == (10, len(names))
    assert names[: len(FEATURE_NAMES)] == FEATURE_NAMES
    for arch, row in zip(archs, matrix, strict=True):
        assert np.array_equal(hardware_features(traced, space, arch), row)


def test_features_know_the_prototype():
    traced = trace(resnet20(in_channels=3), (torch.rand(1, 3, 32, 32),))
    space = build_space(traced)

    features = named(hardware_features(traced, space, space.identity))

    assert features["count_conv_kxk"] == 19
    assert features["count_conv_1x1"] == 2
    assert features["count_linear"] == features["count_pool"] == 1
    assert features["count_pointwise"] == 19 + 9
    assert features["weight_bytes"] == 2 * 272_474


def test_dropping_and_narrowing_never_cost_more(net, pictures):
    traced = trace(net, (pictures,))
    space = build_space(traced)

    for arch in draw(space, 5):
        for i, choice in enumerate(arch):
            if choice > 0:
                less = (*arch[:i], choice - 1, *arch[i + 1 :])
                change = hardware_features(traced, space, less) - hardware_features(
                    traced, space, arch
                )
                assert (change <= 0).all()


def test_thousands_of_architectures_are_counted_in_seconds():
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))
    space = build_space(traced)
    archs = draw(space, 2000)

    start = time.process_time()
    for arch in archs:
        cost(traced, space, arch)
    hardware_matrix(traced, space, archs)

    # Some 8,000 a second on an idle core; the bound only catches a change of order.
    assert time.process_time() - start < 4.0
