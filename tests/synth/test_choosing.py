"""From a profile's `space` section to the space of its job."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hil.core.errors import ConfigError
from hil.net.space import build_space
from hil.net.trace import trace
from hil.synth.choosing import space_of
from hil.synth.profile import load_profile
from hil.synth.searchspace import uniform_level
from hil.synth.traced import TracedSpace

pytestmark = pytest.mark.torch

PROFILE = """\
schema: hil/profile@1
name: least
task: classification
prototype: {factory: "mine:network"}
data: {factory: "mine:pictures"}
requirements: {energy_mj: {at_most: 4.5}}
"""


class Net(nn.Module):
    def __init__(self, fixed=False):
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 5, padding=2)
        self.block = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)
        )
        self.pool = nn.Identity() if fixed else nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Linear(32 * 256 if fixed else 32, 40), nn.Linear(40, 10))

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.pool(x + self.block(x)).flatten(1))


@pytest.fixture(scope="module")
def traced():
    return trace(Net(), (torch.rand(1, 1, 16, 16),))


@pytest.fixture
def space(tmp_path):
    """Return how a section becomes a space."""

    def made(section, traced, precision="fp16"):
        path = tmp_path / "p.yaml"
        text = f"{PROFILE}precision: {precision}\n"
        path.write_text(text + (f"space: {section}\n" if section else ""), encoding="utf-8")
        return space_of(load_profile(path), traced)

    return made


def names(space):
    return {v.name for v in space.variables}


@pytest.mark.parametrize("section", [None, "{}", "{precisions: [fp16]}", "{granule: 8}"])
def test_what_is_not_asked_for_changes_nothing(space, traced, section):
    assert space(section, traced) == build_space(traced)


def test_every_kind_that_is_asked_for_is_there(space, traced):
    found = space("{kernels: true, resolutions: [8, 12], precisions: [fp16, fp32]}", traced)

    choices = {v.name: v.choices for v in found.variables if v.kind not in ("width", "depth")}
    assert choices == {
        "kernel:stem": (1, 3, 5),
        "kernel:block.0": (1, 3),
        "kernel:block.2": (1, 3),
        "resolution": (8, 12, 16),
        "precision": (16, 32),
    }


@pytest.mark.parametrize(("own", "other"), [("fp16", "fp32"), ("fp32", "fp16"), ("int8", "fp16")])
def test_the_prototype_keeps_the_precision_of_the_profile(space, traced, own, other):
    found = space(f"{{precisions: [{other}, {own}]}}", traced, own)

    assert found.precision(found.identity) == own


def test_the_granule_sets_the_steps_of_widths(space, traced):
    found = space("{granule: 16}", traced)

    assert {v.name: v.choices for v in found.variables}["width:stem"] == (16, 32)


def test_a_frozen_module_keeps_its_width_its_window_and_its_block(space, traced):
    everything = names(space("{kernels: true}", traced))
    assert "depth:block" in everything

    left = names(space('{kernels: true, freeze: ["block.0"]}', traced))

    assert everything - left == {"width:block.0", "kernel:block.0", "depth:block"}


def test_patterns_name_modules_and_variables(space, traced):
    everything = names(space("{kernels: true, resolutions: auto}", traced))

    left = names(space('{kernels: true, resolutions: auto, freeze: ["head.*", "width:*"]}', traced))

    assert "width:head.0" in everything
    assert left == {name for name in everything if not name.startswith("width:")}


def test_what_is_frozen_anyway_may_be_named(space, traced):
    assert names(space('{freeze: ["head.1"]}', traced)) == names(space(None, traced))


def test_a_name_that_nothing_has_is_refused_with_those_that_exist(space, traced):
    with pytest.raises(ConfigError, match=r"neck\.\*") as caught:
        space('{freeze: ["neck.*"]}', traced)

    assert "stem" in str(caught.value.why)


def test_a_resolution_that_cannot_be_is_told_of(space):
    found = space("{resolutions: [8]}", trace(Net(fixed=True), (torch.rand(1, 1, 16, 16),)))

    assert "resolution" not in names(found)
    assert any(r.name == "resolution" and "8 rows" in r.reason for r in found.remarks)


def test_a_resolution_above_the_prototype_s_is_refused(space, traced):
    with pytest.raises(ConfigError, match="32 rows"):
        space("{resolutions: [32]}", traced)


def test_uniform_scaling_scales_widths_and_nothing_else(space, traced):
    found = space("{kernels: true, resolutions: [8], precisions: [fp16, fp32]}", traced)

    narrow = uniform_level(TracedSpace(traced, found), 0.0)

    for variable, choice in zip(found.variables, narrow, strict=True):
        assert choice == (0 if variable.kind == "width" else variable.identity)
