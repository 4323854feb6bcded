"""The space: choices from the trace, one key for one network."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch

from hil.core.errors import ConfigError
from hil.net.features import feature_names, hardware_matrix
from hil.net.materialise import materialise
from hil.net.prototypes import resnet20
from hil.net.space import Choices, build_space, width_choices
from hil.net.trace import trace

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def space():
    return build_space(trace(resnet20(), (torch.rand(1, 1, 8, 8),)))


def change(space, **choices):
    """The identity with some variables set."""
    names = [v.name for v in space.variables]
    arch = list(space.identity)
    for name, choice in choices.items():
        arch[names.index(name)] = choice
    return tuple(arch)


@pytest.mark.parametrize(
    ("base", "choices"),
    [
        (16, (4, 6, 8, 10, 12, 14, 16)),
        (32, (8, 16, 24, 32)),
        (64, (16, 24, 32, 40, 48, 56, 64)),
        (24, (6, 9, 12, 15, 18, 21, 24)),
        (20, (6, 8, 10, 12, 14, 16, 18, 20)),
        (100, (32, 40, 48, 56, 64, 72, 80, 88, 96, 100)),
        (512, (128, 192, 256, 320, 384, 448, 512)),
        (4, (1, 2, 3, 4)),
    ],
)
def test_widths_are_granules_from_a_quarter_to_the_whole(base, choices):
    assert width_choices(base) == choices


@pytest.mark.parametrize("base", range(4, 700, 7))
def test_widths_ascend_to_the_base_and_are_few(base):
    choices = width_choices(base)

    assert choices[-1] == base
    assert all(a < b for a, b in itertools.pairwise(choices))
    assert choices[0] * 4 >= base
    assert len(choices) <= 10


def test_the_identity_is_the_last_choice_everywhere(space):
    assert space.identity == tuple(v.size - 1 for v in space.variables)
    assert space.size == 7**4 * 4**4 * 7**4 * 2**9


def test_widths_inside_a_dropped_block_make_no_difference(space):
    dropped = {"depth:stage1.1": 0}
    inner = {"width:stage1.1.conv1": 2}

    assert space.key(change(space, **dropped, **inner)) == space.key(change(space, **dropped))
    assert space.key(change(space, **inner)) != space.key(space.identity)
    assert space.canonical(change(space, **dropped, **inner)) == change(space, **dropped)


def test_the_width_of_the_stage_still_matters_when_a_block_goes(space):
    dropped, stage = {"depth:stage1.1": 0}, {"width:conv1": 1}

    assert space.key(change(space, **dropped, **stage)) != space.key(change(space, **dropped))


def test_an_inner_branch_makes_no_difference_once_the_outer_one_is_dropped(make_net, pictures):
    space = build_space(trace(make_net("residual"), (pictures,)))
    depths = [v for v in space.variables if v.kind == "depth"]
    inner, outer = next((a, b) for a in depths for b in depths if set(a.vertices) < set(b.vertices))

    both = space.key(change(space, **{inner.name: 0, outer.name: 0}))

    assert both == space.key(change(space, **{outer.name: 0}))
    assert both != space.key(change(space, **{inner.name: 0}))


@pytest.mark.slow
def test_keys_are_the_same_in_another_process(space):
    arch = change(space, **{"depth:stage1.1": 0, "width:conv1": 3})
    code = (
        "import torch; from hil.net.prototypes import resnet20; from hil.net.trace import trace;"
        "from hil.net.space import build_space; torch.manual_seed(5);"
        f"print(build_space(trace(resnet20(), (torch.rand(1, 1, 8, 8),))).key({arch}))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == space.key(arch)


def test_neighbours_are_one_level_away_and_all_different_networks(space):
    arch = change(space, **{"depth:stage1.1": 0, "width:conv1": 3})

    neighbours = space.neighbours(arch)

    # Two levels for the stem, one for each of the ten other widths in play, nine depths.
    assert len(neighbours) == 2 + 10 + 9
    keys = {space.key(n) for n in neighbours}
    assert len(keys) == len(neighbours)
    assert space.key(arch) not in keys


def test_variables_can_be_frozen_by_name(space):
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))

    smaller = build_space(traced, frozen=["depth:stage1.0", "width:conv1"])

    names = {v.name for v in space.variables} - {v.name for v in smaller.variables}
    assert names == {"depth:stage1.0", "width:conv1"}
    with pytest.raises(ConfigError, match=r"depth:stage9"):
        build_space(traced, frozen=["depth:stage9"])


@pytest.mark.parametrize("arch", [(), (0,) * 20, (0,) * 22, (9,) * 21, (-1,) * 21])
def test_what_is_no_architecture_is_refused(space, arch):
    with pytest.raises(ConfigError):
        space.validate(arch)


def test_precision_is_a_choice_where_more_than_one_is_allowed(space):
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))
    both = build_space(traced, choices=Choices(precisions=("fp16", "fp32")))

    half, single = ((*space.identity, index) for index in (0, 1))

    assert both.variables[:-1] == space.variables
    assert both.identity == half  # the first that is named is the prototype's
    assert (both.precision(half), both.precision(single)) == ("fp16", "fp32")
    assert both.key(half) != both.key(single)
    assert half in both.neighbours(single)
    assert space.precision(space.identity) is None


def test_int8_is_the_narrowest_choice_and_has_columns_of_its_own():
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))
    space = build_space(traced, choices=Choices(precisions=("fp16", "int8")))
    narrow, half = ((*space.identity[:-1], index) for index in (0, 1))

    assert (space.precision(narrow), space.precision(half)) == ("int8", "fp16")
    names = feature_names(traced, space)
    rows = dict(zip(names, hardware_matrix(traced, space, [narrow, half]).T, strict=True))
    assert "count_fp32" not in names
    assert (rows["count_int8"][0] > 0, rows["count_int8"][1]) == (True, 0)
    assert (rows["macs_int8"][0] > 0, rows["macs_int8"][1]) == (True, 0)
    for name in ("activation_bytes", "weight_bytes"):
        assert rows[name][0] == rows[name][1] / 2


def test_one_precision_is_no_choice_and_is_told():
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))

    only = build_space(traced, choices=Choices(precisions=("fp32",)))

    assert all(v.kind != "precision" for v in only.variables)
    assert only.precision(only.identity) == "fp32"
    with pytest.raises(ConfigError, match="fp8"):
        build_space(traced, choices=Choices(precisions=("fp8",)))


def test_precision_changes_the_engine_and_not_the_network():
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))
    both = build_space(traced, choices=Choices(precisions=("fp16", "fp32")))
    half, single = ((*both.identity[:-1], index) for index in (0, 1))

    one, two = (materialise(traced, both, arch) for arch in (half, single))

    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_widths_can_be_given_as_a_measured_staircase():
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))
    levels = {"width:conv1": (16, 12, 5), "width:stage3.0.conv1": (32,)}

    found = {
        v.name: v.choices for v in build_space(traced, choices=Choices(levels=levels)).variables
    }

    assert found["width:conv1"] == (5, 12, 16)
    assert found["width:stage3.0.conv1"] == (32, 64)
    for wrong in ({"width:conv1": (17,)}, {"width:conv1": (0,)}, {"width:nobody": (4,)}):
        with pytest.raises(ConfigError):
            build_space(traced, choices=Choices(levels=wrong))


def test_the_granule_can_be_given():
    traced = trace(resnet20(), (torch.rand(1, 1, 8, 8),))

    found = {v.name: v.choices for v in build_space(traced, choices=Choices(granule=16)).variables}

    assert found["width:stage3.0.conv1"] == (16, 32, 48, 64)
    assert found["width:conv1"] == width_choices(16)


@pytest.mark.parametrize(
    ("base", "each", "choices"),
    [(8, 4, (2, 4, 6, 8)), (3, 8, (1, 2, 3)), (64, 2, (16, 24, 32, 40, 48, 56, 64))],
)
def test_tied_channels_come_in_units(base, each, choices):
    assert width_choices(base, each=each) == choices
