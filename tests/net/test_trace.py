"""Tracing: channels are followed where that is proven, and left alone everywhere else."""

from __future__ import annotations

import copy

import pytest
import torch
import torch_pruning
from torch import nn

from hil.core.errors import ExportError
from hil.net.prototypes import resnet20
from hil.net.trace import trace

pytestmark = pytest.mark.torch


def groups_of(traced):
    return {group.name: set(group.producers) for group in traced.groups}


def reasons_of(traced):
    return {entry.name: entry.reason for entry in traced.frozen}


def is_channelwise(module):
    depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
    return depthwise or isinstance(module, nn.BatchNorm2d | nn.PReLU)


def members(traced, group):
    """(path, side) of every module side that holds channels of the group."""
    classes = set(group.classes.tolist())
    found = set()
    for path, channels in traced.channels.items():
        if classes & set(channels.writes.tolist()):
            found.add((path, "out"))
        module = traced.prototype.get_submodule(path)
        if not is_channelwise(module) and classes & set(channels.reads.tolist()):
            found.add((path, "in"))
    return found


def members_by_torch_pruning(model, example, path):
    """The same, as torch-pruning's autograd-based dependency graph sees it."""
    graph = torch_pruning.DependencyGraph().build_dependency(model, example)
    module = model.get_submodule(path)
    names = {id(m): name for name, m in model.named_modules()}
    root = graph.get_pruner_of_module(module)
    group = graph.get_pruning_group(module, root.prune_out_channels, idxs=[0])
    sliceable = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, nn.PReLU)
    found = set()
    for item in group:
        target = item.dep.target.module
        if isinstance(target, sliceable):
            into = "in_channels" in item.dep.handler.__name__
            found.add((names[id(target)], "in" if into and not is_channelwise(target) else "out"))
    return found


def test_groups_agree_with_an_independent_dependency_graph(net, pictures):
    traced = trace(net, (pictures,))

    assert traced.groups
    for group in traced.groups:
        theirs = members_by_torch_pruning(copy.deepcopy(net), pictures, group.producers[0])
        assert members(traced, group) == theirs, group.name


def test_every_producer_is_in_a_group_or_frozen_with_a_reason(net, pictures):
    traced = trace(net, (pictures,))

    producers = {v.name for v in traced.vertices if v.kind in ("conv", "deconv", "linear")}
    chosen = set().union(*groups_of(traced).values())
    frozen = {name for name in reasons_of(traced) if name in producers}
    assert chosen | frozen == producers
    assert not chosen & frozen
    assert all(reasons_of(traced).values())


def test_residual_adds_couple_a_whole_stage():
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))

    groups = groups_of(traced)
    assert groups["conv1"] == {"conv1", *(f"stage1.{i}.conv2" for i in range(3))}
    assert groups["stage2.0.conv2"] == {
        "stage2.0.shortcut.0",
        *(f"stage2.{i}.conv2" for i in range(3)),
    }
    assert len(groups) == 12
    assert reasons_of(traced) == {"fc": "the task's output"}


def test_blocks_are_droppable_and_the_projection_stays():
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))

    names = [branch.name for branch in traced.branches]
    assert names == [f"stage{s}.{b}" for s in (1, 2, 3) for b in range(3)]
    projected = next(b for b in traced.branches if b.name == "stage2.0")
    assert "stage2.0.shortcut.0" not in projected.vertices
    assert {"stage2.0.conv1", "stage2.0.conv2"} < set(projected.vertices)


def test_a_branch_inside_a_branch_is_found(make_net, pictures):
    traced = trace(make_net("residual"), (pictures,))

    vertices = {branch.name: set(branch.vertices) for branch in traced.branches}
    assert len(vertices) == 4
    inner = next(v for v in vertices.values() if "inner.0" in v and "c.0" not in v)
    outer = next(v for v in vertices.values() if "c.0" in v)
    assert inner < outer


class Wrapped(nn.Module):
    """Two convolutions around a function under test."""

    def __init__(self, function, c_mid=16):
        super().__init__()
        self.first, self.function = nn.Conv2d(3, c_mid, 3, padding=1), function
        self.last = nn.LazyConv2d(4, 1)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x.flip(1), "flip"),
        (lambda x: torch.softmax(x, 1), "softmax"),
        (lambda x: x.view(-1, 4, 4, 16, 16).flatten(1, 2), "moves the channel axis"),
        (lambda x: x[:, :8], "picks channels"),
        (lambda x: torch.cat(torch.chunk(x, 2, 1)[::-1], 1), "several parts"),
        (lambda x: nn.functional.pad(x, (0, 0, 0, 0, 1, 1)), "pads the channel axis"),
        (lambda x: x * torch.arange(16.0).view(1, 16, 1, 1), "not sliced"),
        (lambda x: nn.functional.pixel_shuffle(x, 2), "pixel_shuffle"),
        (lambda x: x.permute(0, 2, 1, 3), "permute"),
        (lambda x: x / x.shape[1], "channel count"),
        (lambda x: x.mean(1, keepdim=True) + x, "reduces the channel axis"),
    ],
)
def test_what_is_not_proven_is_left_alone(function, reason):
    model = Wrapped(function)
    example = torch.rand(1, 3, 16, 16)
    model(example)

    traced = trace(model, (example,))

    assert traced.groups == ()
    assert reason in reasons_of(traced)["first"]


@pytest.mark.parametrize(
    ("function", "sizes"),
    [
        (lambda x: x.view(-1, 16, 16, 16), {16: 1}),
        (lambda x: x.reshape(x.size(0), 16, -1).unsqueeze(-1), {16: 1}),
        (lambda x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1], {8: 2}),
        (lambda x: x * x.mean((2, 3), keepdim=True).expand(-1, 16, -1, -1), {16: 1}),
        (lambda x: x * x.amax((2, 3), keepdim=True).expand_as(x), {16: 1}),
        (lambda x: torch.cat([x, nn.functional.silu(x), x.abs()], 1), {16: 1}),
        (lambda x: nn.functional.interpolate(x, scale_factor=2.0), {16: 1}),
    ],
)
def test_what_is_proven_is_chosen(function, sizes):
    model = Wrapped(function)
    example = torch.rand(1, 3, 16, 16)
    model(example)

    traced = trace(model, (example,))

    assert {len(g.classes): g.each for g in traced.groups} == sizes


class Parts(nn.Module):
    """Parts of a split that go different ways."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.narrow, self.wide = nn.Conv2d(6, 4, 1), nn.Conv2d(10, 4, 1)

    def forward(self, x):
        a, b = torch.split(self.first(x), [6, 10], dim=1)
        return self.narrow(a) + self.wide(b)


def test_parts_of_a_split_have_widths_of_their_own():
    traced = trace(Parts(), (torch.rand(1, 3, 8, 8),))

    assert {g.name: len(g.classes) for g in traced.groups} == {"first": 6, "first#2": 10}


class Grouped(nn.Module):
    def __init__(self, groups, deconv):
        super().__init__()
        kind = nn.ConvTranspose2d if deconv else nn.Conv2d
        self.first = nn.Conv2d(3, 16, 1)
        self.grouped = kind(16, 32, 3, padding=1, groups=groups)
        self.last = nn.Conv2d(32, 4, 1)

    def forward(self, x):
        return self.last(torch.relu(self.grouped(self.first(x))))


@pytest.mark.parametrize("deconv", [False, True])
@pytest.mark.parametrize(
    ("groups", "found"),
    [
        (2, {"first": (8, 2), "grouped": (16, 2)}),  # every group keeps the same positions
        (4, {"first": (4, 4), "grouped": (8, 4)}),
        (8, {"first": (8, 2)}),  # groups of two go as a whole
        (16, {"first": (16, 1)}),  # depthwise, two filters a channel
    ],
)
def test_grouped_convolutions_tie_channels(groups, found, deconv):
    traced = trace(Grouped(groups, deconv), (torch.rand(1, 3, 8, 8),))

    assert {g.name: (len(g.classes), g.each) for g in traced.groups} == found


class Modules(nn.Module):
    def __init__(self, *modules):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.middle = nn.Sequential(*modules)
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.last(self.middle(self.first(x)))


@pytest.mark.parametrize(
    "module", [nn.GroupNorm(4, 16), nn.LayerNorm((16, 8, 8)), nn.Softmax2d(), nn.PixelShuffle(1)]
)
def test_modules_that_mix_channels_freeze_their_neighbours(module):
    traced = trace(Modules(module), (torch.rand(1, 3, 8, 8),))

    assert traced.groups == ()
    assert set(reasons_of(traced)) >= {"first", "last"}


def test_a_module_that_is_called_twice_keeps_its_widths_in_step():
    shared = nn.Conv2d(16, 16, 3, padding=1)

    traced = trace(Modules(shared, nn.ReLU(), shared), (torch.rand(1, 3, 8, 8),))

    assert groups_of(traced) == {"first": {"first", "middle.0", "middle.0#2"}}
    assert sum(v.params for v in traced.vertices) == 3 * 16 + 16 + 16 * 16 * 9 + 16 + 16 * 4 + 4


def test_tied_parameters_are_left_alone():
    one, two = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
    two.weight = one.weight

    traced = trace(Modules(one, two), (torch.rand(1, 3, 8, 8),))

    assert "shares a parameter" in reasons_of(traced)["middle.0"]
    assert traced.groups == ()


class CoupledToInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.two(x + self.one(x))


def test_channels_added_to_the_input_stay():
    traced = trace(CoupledToInput(), (torch.rand(1, 8, 8, 8),))

    assert reasons_of(traced)["one"] == "coupled with the network's input"


class ReadTwice(nn.Module):
    """The branch's inside is an output as well."""

    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.stem(x)
        y = self.branch(x)
        return x + y, y


class TwoEqualSides(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        return self.left(x) + self.right(x)


@pytest.mark.parametrize(
    ("model", "reason"), [(ReadTwice(), "read elsewhere"), (TwoEqualSides(), "neither operand")]
)
def test_branches_that_cannot_go_are_listed_with_the_reason(model, reason):
    traced = trace(model, (torch.rand(1, 3, 8, 8),))

    assert traced.branches == ()
    assert reason in reasons_of(traced)["add"]


def test_tracing_leaves_the_model_as_it_was(net, pictures):
    net.train()
    before = copy.deepcopy(net.state_dict())

    trace(net, (pictures,))

    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_the_identifier_knows_structure_and_not_weights():
    example = (torch.rand(1, 1, 8, 8),)

    same = {trace(resnet20(), example).identifier for _ in range(2)}

    assert len(same) == 1
    assert trace(resnet20(classes=9), example).identifier not in same
    assert trace(resnet20(), (torch.rand(1, 1, 16, 16),)).identifier not in same


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "example", "what"),
    [
        (Branching(), torch.rand(1, 3), "cannot trace"),
        (resnet20(), torch.rand(1, 3, 8, 8), "does not run"),
    ],
)
def test_a_prototype_that_cannot_be_traced_is_refused_with_a_next_step(model, example, what):
    with pytest.raises(ExportError, match=what) as caught:
        trace(model, (example,))

    assert caught.value.why
    assert caught.value.fix
