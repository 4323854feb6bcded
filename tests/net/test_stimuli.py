"""Task stimuli: the estimates against removing for real."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hil.net.materialise import materialise
from hil.net.space import build_space
from hil.net.stimuli import branch_response, taylor_importance
from hil.net.trace import trace

pytestmark = pytest.mark.torch


class Product(nn.Module):
    """Linear in each channel, so that the first-order estimate is exact."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)).mean((2, 3)))


def total(outputs, labels):
    return outputs.sum() + 0 * labels.sum()


def test_scores_are_the_change_of_a_loss_that_is_linear_in_the_channels(pictures):
    torch.manual_seed(0)
    net = Product()
    traced = trace(net, (pictures,))
    space = build_space(traced)
    labels = torch.zeros(2)

    scores = taylor_importance(net, traced, space, [(pictures, labels)], total)["width:first"]

    whole = total(net(pictures), labels)
    for channel in range(8):
        without = Product()
        without.load_state_dict(net.state_dict())
        without.last.weight.data[:, channel] = 0
        change = abs((whole - total(without(pictures), labels)).item())
        assert scores[channel] == pytest.approx(change, rel=1e-4)


def test_scores_cover_every_width_and_find_the_dead_channels(net, pictures):
    traced = trace(net, (pictures,))
    space = build_space(traced)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()

    scores = taylor_importance(
        net, traced, space, [(pictures, torch.zeros(2))] * 2, lambda y, _: y.square().mean()
    )

    widths = {v.name: v.choices[-1] for v in space.variables if v.kind == "width"}
    assert {name: len(s) for name, s in scores.items()} == widths
    assert all(np.isfinite(s).all() and (s >= 0).all() and s.any() for s in scores.values())
    assert net.training
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_scores_use_the_weights_that_are_given(make_net, pictures):
    net = make_net("plain")
    traced = trace(net, (pictures,))
    space = build_space(traced)

    def scores():
        batches = [(pictures, torch.zeros(2))]
        found = taylor_importance(net, traced, space, batches, lambda y, _: y.square().mean())
        return found["width:features.0.0"]

    before = scores()
    net.features[2][0].weight.data[:, 3] = 0  # nobody reads channel 3 any more

    assert before[3] > 0
    assert scores()[3] == 0


def test_no_batches_is_an_error(make_net, pictures):
    traced = trace(make_net("plain"), (pictures,))

    with pytest.raises(ValueError, match="batch"):
        taylor_importance(traced.prototype, traced, build_space(traced), [], total)


def test_branches_answer_with_the_loss_of_the_network_without_them(make_net, pictures):
    net = make_net("resnet20")
    nn.init.zeros_(net.stage1[1].bn2.weight)
    nn.init.zeros_(net.stage1[1].bn2.bias)
    traced = trace(make_net("resnet20"), (pictures,))  # other weights: the model's must count
    space = build_space(traced)
    labels = torch.tensor([1, 2])
    loss = nn.functional.cross_entropy
    seen = []

    response = branch_response(
        net, traced, space, pictures, labels, loss, lambda module, x: seen.append((module, x))
    )

    depths = [v.name for v in space.variables if v.kind == "depth"]
    assert list(response) == depths
    assert response["depth:stage1.1"] == pytest.approx(0.0, abs=1e-6)
    assert len(seen) == 1 + len(depths)
    assert all(x is pictures for _, x in seen)
    arch = tuple(0 if v.name == "depth:stage3.1" else v.identity for v in space.variables)
    without = materialise(traced.with_weights(net.state_dict()), space, arch)
    change = (loss(without(pictures), labels) - loss(net(pictures), labels)).item()
    assert response["depth:stage3.1"] == pytest.approx(change, abs=1e-6)
    assert abs(change) > 1e-4
