"""Materialising: every architecture is a working network, and the identity is the prototype."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hil.core.errors import ConfigError
from hil.net.export import check_parity, export_onnx
from hil.net.features import Cost, cost, vertex_table
from hil.net.materialise import magnitude_importance, materialise, rebuild
from hil.net.space import build_space
from hil.net.trace import trace

pytestmark = pytest.mark.torch


@pytest.fixture
def traced(net, pictures):
    return trace(net, (pictures,))


@pytest.fixture
def space(traced):
    return build_space(traced)


def draw(space, count, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [v.size for v in space.variables]
    return [tuple(int(c) for c in rng.integers(0, sizes)) for _ in range(count)]


def with_choice(space, name, choice):
    return tuple(
        choice if v.name == name else c
        for v, c in zip(space.variables, space.identity, strict=True)
    )


def independent_cost(module, example):
    """MACs by torch's own counter (two operations each) and parameters by torch's own list."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(example)
    return Cost(counter.get_total_flops() // 2, sum(p.numel() for p in module.parameters()))


def test_the_identity_is_the_prototype_bit_for_bit(net, traced, space, pictures):
    module = materialise(traced, space, space.identity)

    state, original = module.state_dict(), net.state_dict()
    assert set(state) == set(original)
    assert all(torch.equal(state[k], original[k]) for k in original)
    assert torch.equal(module(pictures), net(pictures))


def test_random_architectures_work_and_cost_what_the_counter_says(traced, space, net, pictures):
    shape = net(pictures).shape

    for arch in draw(space, 32):
        module = materialise(traced, space, arch)
        assert module(pictures).shape == shape
        assert cost(traced, space, arch) == independent_cost(module, pictures[:1])


def test_random_architectures_export_and_compute_the_same(traced, space, pictures):
    for arch in draw(space, 3, seed=1):
        module = materialise(traced, space, arch)
        data = export_onnx(module, (pictures,), batch=2)
        assert check_parity(module, data, (pictures,)) < 1e-4


@pytest.mark.slow
def test_thirty_random_architectures_export_and_compute_the_same(traced, space, pictures):
    for arch in draw(space, 30, seed=2):
        module = materialise(traced, space, arch)
        data = export_onnx(module, (pictures,), batch=2)
        assert check_parity(module, data, (pictures,)) < 1e-4


def test_materialising_is_deterministic_and_shares_nothing(traced, space, pictures):
    arch = draw(space, 1)[0]
    before = {k: v.clone() for k, v in traced.prototype.state_dict().items()}

    one, two = (materialise(traced, space, arch) for _ in range(2))

    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
    assert all(torch.equal(before[k], v) for k, v in traced.prototype.state_dict().items())


def test_materialised_networks_train(traced, space, pictures):
    module = materialise(traced, space, draw(space, 1)[0]).train()

    module(pictures).square().mean().backward()

    gradients = [p.grad for p in module.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert any(g.abs().sum() > 0 for g in gradients)


def test_a_saved_state_loads_into_the_rebuilt_structure(net, traced, space, pictures, make_net):
    arch = draw(space, 1, seed=3)[0]
    module = materialise(traced, space, arch)
    other = dataclasses.replace(traced, prototype=trace(net, (pictures,)).prototype)
    with torch.no_grad():
        for parameter in other.prototype.parameters():
            parameter.normal_()

    rebuilt = rebuild(other, space, arch)
    rebuilt.load_state_dict(module.state_dict())

    assert torch.equal(rebuilt(pictures), module(pictures))


def test_weights_can_be_exchanged_without_tracing_again(net, traced, space, pictures):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)

    module = materialise(traced.with_weights(net.state_dict()), space, space.identity)

    assert torch.equal(module(pictures), net(pictures))
    assert not torch.equal(traced.prototype(pictures), net(pictures))


def test_every_dropped_branch_leaves_no_trace_of_itself(traced, space):
    for variable in space.variables:
        if variable.kind != "depth":
            continue
        arch = with_choice(space, variable.name, 0)
        module = materialise(traced, space, arch)
        left = {name for name, _ in module.named_modules()}
        gone = {v.module for v in traced.vertices if v.name in variable.vertices if v.module}
        exclusive = {m for m in gone if not _called_elsewhere(traced, m, variable.vertices)}
        assert exclusive
        assert not exclusive & left
        table = {row.name: row for row in vertex_table(traced, space, arch)}
        assert not any(table[name].live or table[name].params for name in variable.vertices)


def _called_elsewhere(traced, module, vertices):
    return any(v.module == module and v.name not in vertices for v in traced.vertices)


def test_a_dropped_block_is_the_prototype_with_a_silent_branch(make_net, pictures):
    net = make_net("resnet20")
    traced = trace(net, (pictures,))
    space = build_space(traced)
    module = materialise(traced, space, with_choice(space, "depth:stage2.0", 0))

    block = net.stage2[0]
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)

    assert torch.allclose(module(pictures), net(pictures), atol=1e-6)


def test_blocks_added_one_on_another_can_all_go(make_net, pictures):
    net = make_net("separable")
    traced = trace(net, (pictures,))
    space = build_space(traced)
    arch = tuple(
        0 if v.kind == "depth" else c for v, c in zip(space.variables, space.identity, strict=True)
    )

    module = materialise(traced, space, arch)

    net.blocks = nn.ModuleList()
    assert len(traced.branches) == 3
    assert torch.equal(module(pictures), net(pictures))


class InPlaceReader(nn.Module):
    """What remains after the drop is overwritten by one reader and read by another."""

    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(16, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.cat([self.relu(x + self.branch(x)), x], 1))


def test_an_in_place_reader_does_not_overwrite_the_shortcut(pictures):
    net = InPlaceReader()
    traced = trace(net, (pictures,))
    space = build_space(traced)
    module = materialise(traced, space, with_choice(space, space.variables[-1].name, 0))

    x = net.stem(pictures)
    expected = net.head(torch.cat([torch.relu(x), x], 1))

    assert torch.allclose(module(pictures), expected, atol=1e-6)


def test_given_scores_decide_which_channels_stay(make_net, pictures):
    net = make_net("plain")
    traced = trace(net, (pictures,))
    space = build_space(traced)
    name = "width:features.0.0"
    scores = np.array([0.0, 9, 1, 9, 0, 9, 2, 9, 0, 9, 0, 9, 3, 9, 0, 9])

    module = materialise(traced, space, with_choice(space, name, 2), {name: scores})

    kept = torch.tensor([1, 3, 5, 7, 9, 11, 13, 15])
    sliced = module.state_dict()["features.0.0.weight"]
    assert torch.equal(sliced, net.state_dict()["features.0.0.weight"][kept])
    consumer = module.state_dict()["features.2.0.weight"]
    assert torch.equal(consumer, net.state_dict()["features.2.0.weight"][:, kept])


def test_flattened_pictures_keep_the_features_of_the_kept_channels(make_net, pictures):
    net = make_net("plain")
    traced = trace(net, (pictures,))
    space = build_space(traced)
    name = "width:features.2.0"
    scores = np.arange(24.0)

    module = materialise(traced, space, with_choice(space, name, 0), {name: scores})

    columns = net.hidden.weight.view(32, 24, 16)[:, 18:].flatten(1)
    assert torch.equal(module.state_dict()["hidden.weight"], columns)


def test_silent_channels_go_first_by_default_and_change_nothing(make_net, pictures):
    net = make_net("unet")
    silent = [1, 4, 6]
    with torch.no_grad():
        for tensor in (net.enc1[0].weight, net.enc1[1].weight, net.enc1[1].bias):
            tensor[silent] = 0
        net.enc2[0].weight[:, silent] = 0
        net.dec1[0].weight[:, [16 + s for s in silent]] = 0
    traced = trace(net, (pictures,))
    space = build_space(traced)
    variable = next(v for v in space.variables if v.name == "width:enc1.0")

    scores = magnitude_importance(traced, space)["width:enc1.0"]
    arch = with_choice(space, variable.name, variable.choices.index(5))

    assert np.flatnonzero(scores == 0).tolist() == silent
    assert torch.allclose(materialise(traced, space, arch)(pictures), net(pictures), atol=1e-6)


def test_narrower_networks_keep_a_subset_of_the_wider_ones_channels(make_net, pictures):
    net = make_net("plain")
    net.features[0][0].weight.data[:, 0, 0, 0] = torch.arange(16.0)
    traced = trace(net, (pictures,))
    space = build_space(traced)
    marks = []
    for choice in range(7):
        module = materialise(traced, space, with_choice(space, "width:features.0.0", choice))
        marks.append(set(module.state_dict()["features.0.0.weight"][:, 0, 0, 0].tolist()))

    assert all(a < b for a, b in itertools.pairwise(marks))


def test_scores_of_the_wrong_length_are_refused(make_net, pictures):
    traced = trace(make_net("plain"), (pictures,))
    space = build_space(traced)
    name = "width:features.0.0"

    with pytest.raises(ConfigError, match="16 channel scores"):
        materialise(traced, space, with_choice(space, name, 0), {name: np.ones(3)})


def test_a_space_of_another_prototype_is_refused(make_net, pictures):
    space = build_space(trace(make_net("plain"), (pictures,)))

    with pytest.raises(ConfigError, match="another prototype"):
        materialise(trace(make_net("unet"), (pictures,)), space, space.identity)
