"""Segmenters, the detector and the full-size networks: published sizes, and spaces that work."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from hil.net.export import export_onnx
from hil.net.materialise import materialise
from hil.net.precheck import Target, precheck
from hil.net.prototypes_dense import pyramid_detector, refinenet, unet
from hil.net.prototypes_full import mobilenet_v1, mobilenet_v2, resnet50, vgg16
from hil.net.space import build_space
from hil.net.trace import trace

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("space_check", ROOT / "bench" / "space_check.py")
space_check = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(space_check)

SMALL = {
    "refinenet": lambda: refinenet(3, 5, widths=(8, 16, 32), blocks=2, width=16),
    "unet": lambda: unet(3, 5, widths=(8, 16, 24)),
    "pyramid_detector": lambda: pyramid_detector(3, 4, (8, 16, 32), 2, 16),
    "mobilenet_v2": lambda: mobilenet_v2(3, 10, small=True),
}
PICTURES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@lru_cache
def case(name):
    torch.manual_seed(0)
    net = SMALL[name]().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
    traced = trace(net, (PICTURES,))
    return net, traced, build_space(traced, choices=space_check.EVERYTHING)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_identity_is_the_prototype_bit_for_bit(name):
    net, traced, space = case(name)

    same = materialise(traced, space, space.identity)

    pairs = zip(tree_leaves(same(PICTURES)), tree_leaves(net(PICTURES)), strict=True)
    assert all(torch.equal(got, want) for got, want in pairs)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_sampled_architectures_are_working_networks(name):
    _, traced, space = case(name)

    # Shapes, MACs, parameters, a step of training, opset 13, ONNX Runtime, TensorRT 8.2's rules.
    for arch in space_check.draw(space, 3 if name == "mobilenet_v2" else 5, seed=11):
        space_check.check(traced, space, arch)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_everything_but_the_answers_can_be_chosen(name):
    _, traced, space = case(name)

    chosen = {vertex for v in space.variables if v.kind == "width" for vertex in v.vertices}
    convs = {v.name for v in traced.vertices if v.kind in ("conv", "deconv")}
    heads = {f.name for f in traced.frozen if f.reason == "the task's output"}
    assert heads
    assert convs - chosen <= heads
    kinds = {v.kind for v in space.variables}
    assert {"width", "resolution", "precision"} <= kinds
    assert ("depth" in kinds) == (name != "unet")


@pytest.mark.parametrize("name", sorted(SMALL))
def test_hil_check_finds_nothing_that_a_tx2_would_refuse(name):
    net, _, _ = case(name)

    data = export_onnx(net, (PICTURES,), opset=13)

    found = precheck(data, Target("tensorrt", 13, "fp16", "jetson-tx2"))
    assert not [f for f in found if f.fatal]


def test_answers_have_the_shapes_that_the_tasks_read():
    pictures = torch.rand(1, 3, 64, 96)

    assert refinenet(3, 11)(torch.rand(2, 3, 64, 96)).shape == (2, 11, 64, 96)
    assert unet(3, 11, (8, 16))(pictures).shape == (1, 11, 64, 96)
    shapes = [tuple(m.shape) for m in pyramid_detector(3, 3, levels=3).eval()(pictures)]
    assert shapes == [(1, 7, 16, 24), (1, 7, 8, 12), (1, 7, 4, 6)]


# torchvision's documented counts; MobileNet v1's is that of Keras' (Howard et al. give 4.2 M) less
# the running statistics and bias that Keras counts differently: 4,231,976 trainable.
@pytest.mark.parametrize(
    ("make", "parameters", "gmacs"),
    [
        (resnet50, 25_557_032, 4.089),
        (vgg16, 138_357_544, 15.47),
        (mobilenet_v2, 3_504_872, 0.301),
        (mobilenet_v1, 4_231_976, 0.569),
    ],
)
def test_full_size_networks_have_the_published_sizes(make, parameters, gmacs):
    with torch.device("meta"):
        net = make().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            answers = net(torch.empty(1, 3, 224, 224))

    assert answers.shape == (1, 1000)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=0.005)
