"""Windows that shrink about their centre: the same network with its outer taps silent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hil.net.features import FEATURE_NAMES, cost, hardware_features
from hil.net.materialise import materialise
from hil.net.space import Choices, build_space
from hil.net.stimuli import harm_curve, taylor_importance
from hil.net.trace import trace

pytestmark = pytest.mark.torch


class Windows(nn.Module):
    def __init__(self, window):
        super().__init__()
        self.first, self.window, self.last = nn.Conv2d(3, 8, 1), window, nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.window(self.first(x))))


def traced_with(window):
    torch.manual_seed(3)
    return trace(Windows(window), (torch.rand(1, 3, 12, 14),))


def space_of(traced):
    return build_space(traced, choices=Choices(kernels=True))


def with_window(space, choice):
    return tuple(choice if v.kind == "kernel" else v.identity for v in space.variables)


SHRINKABLE = {
    "3x3": lambda: nn.Conv2d(8, 8, 3, padding=1),
    "7x7, stride 2": lambda: nn.Conv2d(8, 8, 7, 2, padding=3),
    "5x5, dilated": lambda: nn.Conv2d(8, 8, 5, padding=4, dilation=2, bias=False),
    "5x5, depthwise": lambda: nn.Conv2d(8, 8, 5, padding=2, groups=8),
    "3x3, grouped": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2),
    "1x7": lambda: nn.Conv2d(8, 8, (1, 7), padding=(0, 3)),
    "3x7": lambda: nn.Conv2d(8, 8, (3, 7), padding=(1, 3)),
    "more padding than it needs": lambda: nn.Conv2d(8, 8, 3, padding=2),
    "same": lambda: nn.Conv2d(8, 8, 5, padding="same", dilation=2),
    "reflected": lambda: nn.Conv2d(8, 8, 5, padding=2, padding_mode="reflect"),
    "same, circular": lambda: nn.Conv2d(8, 8, 5, padding="same", padding_mode="circular"),
}


@pytest.mark.parametrize("window", SHRINKABLE.values(), ids=SHRINKABLE)
def test_a_smaller_window_is_the_large_one_with_silent_outer_taps(window):
    traced = traced_with(window())
    space = space_of(traced)
    variable = next(v for v in space.variables if v.kind == "kernel")
    (kernel,) = traced.kernels
    x = torch.rand(2, 3, 12, 14)

    assert variable.choices == tuple(range(1, max(kernel.sizes) + 1, 2))
    for choice, side in enumerate(variable.choices):
        silent = traced.prototype.state_dict()
        weight = silent["window.weight"] = silent["window.weight"].clone()
        for axis, size in enumerate(kernel.sizes, start=2):
            cut = (size - min(side, size)) // 2
            weight.narrow(axis, 0, cut).zero_()
            weight.narrow(axis, size - cut, cut).zero_()
        module = materialise(traced, space, with_window(space, choice))
        assert module.window.kernel_size == tuple(min(side, k) for k in kernel.sizes)
        assert torch.allclose(module(x), traced.with_weights(silent).prototype(x), atol=1e-6)


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (nn.Conv2d(8, 8, 4, padding=2), "even"),
        (nn.Conv2d(8, 8, 3), "padding is narrower"),
        (nn.Conv2d(8, 8, 3, padding="valid"), "padding is narrower"),
        (nn.ConvTranspose2d(8, 8, 3), "transposed"),
    ],
)
def test_windows_that_stay_say_why(window, reason):
    traced = traced_with(window)

    assert traced.kernels == ()
    found = {entry.name: entry.reason for entry in traced.frozen}
    assert reason in found["kernel:window"]


def test_a_window_shrinks_as_far_as_its_padding_reaches():
    traced = traced_with(nn.Conv2d(8, 8, 7, padding=1))

    (kernel,) = traced.kernels

    assert kernel.choices == (5, 7)


def test_windows_stay_unless_they_are_asked_for():
    traced = traced_with(nn.Conv2d(8, 8, 3, padding=1))

    assert {v.kind for v in build_space(traced).variables} == {"width"}


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.shared = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.first(x)
        return self.last(self.shared(torch.relu(self.shared(x))))


def test_a_window_that_is_used_twice_is_one_choice():
    traced = trace(CalledTwice(), (torch.rand(1, 3, 8, 8),))
    space = space_of(traced)

    (variable,) = (v for v in space.variables if v.kind == "kernel")

    assert variable.vertices == ("shared", "shared#2")
    saved = (
        cost(traced, space, space.identity).macs - cost(traced, space, with_window(space, 0)).macs
    )
    assert saved == 2 * 8 * 8 * 8 * 64


def test_a_window_of_one_counts_as_a_1x1_convolution():
    traced = traced_with(nn.Conv2d(8, 8, 3, padding=1))
    space = space_of(traced)

    rows = [hardware_features(traced, space, with_window(space, c)).tolist() for c in (0, 1)]
    small, large = (dict(zip(FEATURE_NAMES, row, strict=True)) for row in rows)

    assert (small["count_conv_1x1"], small["count_conv_kxk"]) == (3, 0)
    assert (large["count_conv_1x1"], large["count_conv_kxk"]) == (2, 1)
    assert small["macs_conv_1x1"] == large["macs_conv_1x1"] + large["macs_conv_kxk"] / 9
    assert large["weight_bytes"] - small["weight_bytes"] == 2 * 8 * 8 * 8


class Linear(nn.Module):
    """Linear in each tap, so that the first-order estimate is exact."""

    def __init__(self):
        super().__init__()
        self.window, self.last = nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 1, 1)

    def forward(self, x):
        return self.last(self.window(x)).sum()


def test_scores_of_windows_are_the_change_of_a_loss_that_is_linear_in_the_taps():
    torch.manual_seed(1)
    net = Linear()
    x = torch.rand(2, 3, 8, 8)
    traced = trace(net, (x,))
    space = space_of(traced)

    scores = taylor_importance(net, traced, space, [(x, None)], lambda y, _: y)["kernel:window"]

    values = [materialise(traced, space, with_window(space, c))(x).item() for c in range(3)]
    assert scores[1:] == pytest.approx(np.abs(np.diff(values)), rel=1e-4)


def test_harm_of_a_window_adds_up_from_the_outside():
    traced = traced_with(nn.Conv2d(8, 8, 5, padding=2))
    variable = next(v for v in space_of(traced).variables if v.kind == "kernel")

    assert harm_curve(variable, np.array([9.0, 3.0, 1.0]), 2.0).tolist() == [2.0, 0.5, 0.0]
    assert harm_curve(variable, np.zeros(3), 2.4) == pytest.approx([2.4, 1.6, 0.0])
