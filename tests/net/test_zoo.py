"""Networks that nobody here wrote: every architecture works, and what cannot be proven stays."""

from __future__ import annotations

import copy
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_pruning
from torch import fx, nn
from torch.utils._pytree import tree_leaves, tree_structure

from hil.net import exported
from hil.net.features import cost, feature_names, hardware_features, hardware_matrix
from hil.net.materialise import materialise
from hil.net.space import build_space
from hil.net.stimuli import branch_response, harm_curve, taylor_importance
from hil.net.trace import retrace, trace

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("space_check", ROOT / "bench" / "space_check.py")
space_check = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(space_check)
zoo = space_check.load_zoo()
NAMES = sorted(zoo.ZOO)
ARCHITECTURES = 12  # a prototype; bench/space_check.py draws hundreds


@lru_cache
def case(name):
    """(network, trace, space of all kinds of choices)."""
    net = zoo.make(name)
    traced = trace(net, (zoo.pictures(),))
    return net, traced, build_space(traced, choices=space_check.EVERYTHING)


def reasons_of(traced):
    return {entry.name: entry.reason for entry in traced.frozen}


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_is_the_prototype_bit_for_bit(name):
    net, traced, space = case(name)
    module = materialise(traced, space, space.identity)

    state, original = module.state_dict(), net.state_dict()
    assert set(state) == set(original)
    assert all(torch.equal(state[k], original[k]) for k in original)
    got, want = module(zoo.pictures()), net(zoo.pictures())
    assert tree_structure(got) == tree_structure(want)
    assert all(map(torch.equal, tree_leaves(got), tree_leaves(want)))


@pytest.mark.parametrize("name", ["detector", "foreign", "refinenet"])
def test_both_ways_of_tracing_find_the_same(name):
    net, traced, _ = case(name)

    graph = exported.by_export(copy.deepcopy(net), (zoo.pictures(),))
    other = retrace(graph, (zoo.pictures(1),))

    assert other.prototype.state_dict().keys() == net.state_dict().keys()
    for one, two in (
        (producers_of(traced), producers_of(other)),
        ([k.name for k in traced.kernels], [k.name for k in other.kernels]),
        (len(traced.branches), len(other.branches)),
    ):
        assert one == two


def producers_of(traced):
    """Widths, by the modules that they belong to (functions are named differently)."""
    return {
        frozenset(p.partition("#")[0] for p in g.producers): (len(g.classes), g.each)
        for g in traced.groups
    }


@pytest.mark.parametrize("name", NAMES)
def test_sampled_architectures_are_working_networks(name):
    _, traced, space = case(name)

    for arch in space_check.draw(space, ARCHITECTURES, seed=11):
        space_check.check(traced, space, arch)


class Masked(fx.Interpreter):
    """The prototype itself, with removed channels silenced wherever they appear."""

    def __init__(self, traced, kept):
        super().__init__(traced.prototype)
        names = {node: name for name, node in traced.nodes.items()}
        self._flows = {node: traced.flows[name].writes for node, name in names.items()}
        self._kept = kept

    def run_node(self, n):
        result = super().run_node(n)
        writes = self._flows.get(n.name)
        if writes is None or not len(writes):
            return result
        keep = torch.from_numpy(self._kept[writes]).to(result.dtype)
        return result * keep.view(1, -1, *[1] * (result.dim() - 2))


@pytest.mark.parametrize("name", NAMES)
def test_narrow_networks_compute_what_the_prototype_does_without_those_channels(name):
    _, traced, _ = case(name)
    space = build_space(traced)
    widths = [v for v in space.variables if v.kind == "width"]
    groups = {f"width:{g.name}": g.classes for g in traced.groups}
    rng = np.random.Generator(np.random.Philox(2))

    for _ in range(4):
        arch = tuple(
            int(rng.integers(v.size)) if v.kind == "width" else v.identity for v in space.variables
        )
        scores = {v.name: rng.permutation(v.choices[-1]).astype(float) for v in widths}
        kept = np.ones(traced.class_count, dtype=bool)
        for variable, choice in zip(space.variables, arch, strict=True):
            if variable.kind == "width":
                least = variable.choices[-1] - variable.choices[choice]
                kept[groups[variable.name][scores[variable.name] < least]] = False

        narrow = materialise(traced, space, arch, scores)

        with torch.no_grad():
            got = tree_leaves(narrow(zoo.pictures()))
            want = tree_leaves(Masked(traced, kept).run(zoo.pictures()))
        assert not kept.all()
        for one, other in zip(got, want, strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


HEADS = {
    "cifar_resnet": {"fc"},
    "mobilenet_v2": {"classifier.1"},
    "unet": {"head"},
    "refinenet": {"classify"},
    "detector": {f"{kind}.{level}" for kind in ("score", "box") for level in range(3)},
    "foreign": {"dense", "label"},
    "shape_minded": {"head", "aux"},
}


@pytest.mark.parametrize("name", NAMES)
def test_heads_stay_and_everything_else_is_chosen_or_frozen_with_a_reason(name):
    _, traced, space = case(name)
    reasons = reasons_of(traced)

    heads = {n for n, reason in reasons.items() if reason == "the task's output"}
    made = {v.name for v in traced.vertices if v.kind in ("conv", "grouped", "deconv", "linear")}
    chosen = {vertex for v in space.variables if v.kind == "width" for vertex in v.vertices}

    assert {h for h in heads if not h.startswith("kernel:")} == HEADS[name]
    passing = {p for p, c in traced.channels.items() if c.way == "blocks"}
    assert made - chosen - set(reasons) <= passing
    assert not chosen & HEADS[name]
    for variable in space.variables:
        if variable.kind == "kernel":
            assert not HEADS[name].intersection(variable.vertices)


def test_what_is_frozen_in_the_foreign_network_says_why():
    _, traced, space = case("foreign")

    reasons = reasons_of(traced)

    assert reasons["mix.0"] == "GroupNorm: it normalises over several channels"
    assert "transposed" in reasons["kernel:up"]
    assert set(reasons) == {"mix.0", "dense", "label", "kernel:up", "kernel:up_each"}
    assert [r.name for r in space.remarks] == ["resolution"] * 4
    assert "invalid for input" in space.remarks[0].reason


def test_channels_that_convolutions_tie_are_chosen_in_units():
    _, traced, _ = case("foreign")

    each = {g.name: (g.each, len(g.classes)) for g in traced.groups}

    # Four groups keep the same positions, twelve pairs stay or go: units of eight channels.
    assert each["stem.0"] == (8, 3)
    assert each["left.0"] == (4, 8)


def is_channelwise(module):
    return isinstance(module, nn.BatchNorm2d | nn.PReLU) or getattr(module, "groups", 1) > 1


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


def members_by_torch_pruning(model, path):
    """The same, as torch-pruning's autograd-based dependency graph sees it."""
    graph = torch_pruning.DependencyGraph().build_dependency(model, zoo.pictures())
    module = model.get_submodule(path)
    names = {id(m): name for name, m in model.named_modules()}
    root = graph.get_pruner_of_module(module)
    found = set()
    for item in graph.get_pruning_group(module, root.prune_out_channels, idxs=[0]):
        target = item.dep.target.module
        if isinstance(target, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):
            into = "in_channels" in item.dep.handler.__name__
            found.add((names[id(target)], "in" if into and not is_channelwise(target) else "out"))
    return found


# Not the foreign network: torch-pruning removes one channel of a grouped convolution without
# its like in the other groups, and cuts through transposed depthwise convolutions.
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"foreign"}))
def test_groups_agree_with_an_independent_dependency_graph(name):
    net, traced, _ = case(name)

    assert traced.groups
    for group in traced.groups:
        theirs = members_by_torch_pruning(copy.deepcopy(net), group.producers[0])
        assert members(traced, group) == theirs, group.name


def squares(outputs, _labels):
    return sum(x.square().mean() for x in tree_leaves(outputs))


@pytest.mark.parametrize("name", NAMES)
def test_task_stimuli_reach_every_width_and_window(name):
    net, traced, space = case(name)
    batches = [(zoo.pictures(), None)]

    scores = taylor_importance(net, traced, space, batches, squares)
    response = branch_response(
        net, traced, space, zoo.pictures(), None, squares, lambda module, x: None
    )

    searched = [v for v in space.variables if v.kind in ("width", "kernel")]
    assert set(scores) == {v.name for v in searched}
    for variable in searched:
        own = scores[variable.name]
        assert len(own) == (variable.choices[-1] if variable.kind == "width" else variable.size)
        assert np.isfinite(own).all()
        assert own.any()
        harm = harm_curve(variable, own, 2.0)
        assert harm[0] == pytest.approx(2.0)
        assert harm[-1] == 0
        assert (np.diff(harm) <= 0).all()
    assert set(response) == {v.name for v in space.variables if v.kind == "depth"}


@pytest.mark.parametrize("name", NAMES)
def test_features_cover_all_choices_and_rows_do_not_depend_on_each_other(name):
    _, traced, space = case(name)
    archs = space_check.draw(space, 16, seed=4)

    names = feature_names(traced, space)
    matrix = hardware_matrix(traced, space, archs)

    assert matrix.shape == (16, len(names))
    for arch, row in zip(archs, matrix, strict=True):
        assert np.array_equal(hardware_features(traced, space, arch), row)
        by_name = dict(zip(names, row.tolist(), strict=True))
        macs = sum(v for n, v in by_name.items() if n.startswith("macs_") and n != "macs_fp32")
        assert macs == pytest.approx(cost(traced, space, arch).macs)
        wide = space.precision(arch) == "fp32"
        assert by_name["macs_fp32"] == pytest.approx(macs if wide else 0.0)
        assert by_name["weight_bytes"] == (4 if wide else 2) * cost(traced, space, arch).params
    for i, variable in enumerate(space.variables):
        if variable.kind in ("width", "kernel", "resolution"):
            least = list(space.identity)
            least[i] = 0
            change = matrix_difference(traced, space, tuple(least))
            assert any(value < 0 for value in change), variable.name


def matrix_difference(traced, space, arch):
    rows = hardware_matrix(traced, space, [arch, space.identity])
    return (rows[0] - rows[1]).tolist()
