from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hil.core.errors import ConfigError
from hil.emulator.fusion import TENSORRT_3
from hil.emulator.kernels import lower
from hil.emulator.reference_networks import NetworkBuilder, mobilenet_v1, resnet_v1, vgg16

DATA = Path(os.environ.get("HIL_DATA", "../shared/data")) / "onnx"


def kinds(kernels):
    return [kernel.kind for kernel in kernels]


def basic_block(net: NetworkBuilder, x, width: int, stride: int):
    y = net.conv_bn_relu(x, width, 3, stride)
    y = net.batch_norm(net.conv(y, width, 3))
    if stride > 1 or x[1] != width:
        x = net.batch_norm(net.conv(x, width, 1, stride))
    return net.relu(net.add(y, x))


def test_a_basic_block_is_two_kernels_and_its_projection():
    net = NetworkBuilder(16, 8, 8)
    x = basic_block(net, net.input, 16, 1)
    plain = net.model(x)
    net = NetworkBuilder(16, 8, 8)
    projected = net.model(basic_block(net, net.input, 32, 2))

    assert kinds(lower(plain, "fp32")) == ["conv3x3", "conv3x3"]
    assert sorted(kinds(lower(projected, "fp32"))) == ["conv", "conv1x1", "conv3x3"]


def test_the_block_is_named_as_tensorrt_names_fused_layers():
    net = NetworkBuilder(16, 8, 8)
    model = net.model(basic_block(net, net.input, 16, 1))

    names = [kernel.name for kernel in lower(model, "fp32")]

    assert names == [
        "Conv_0 + BatchNormalization_1 + Relu_2",
        "Conv_3 + BatchNormalization_4 + Add_5 + Relu_6",
    ]


def test_a_residual_operand_is_read_by_the_kernel_that_adds_it():
    net = NetworkBuilder(16, 8, 8)
    first, second = lower(net.model(basic_block(net, net.input, 16, 1)), "fp32")

    assert first.bytes_in == 4 * 16 * 8 * 8
    assert second.bytes_in == 2 * 4 * 16 * 8 * 8


def test_older_builders_keep_sums_and_activations_behind_them_apart():
    net = NetworkBuilder(16, 8, 8)
    model = net.model(basic_block(net, net.input, 16, 1))

    kernels = lower(model, "fp32", rules=TENSORRT_3)

    assert kinds(kernels) == ["conv3x3", "conv3x3", "elementwise", "pointwise"]


def test_branches_that_reach_no_output_cost_nothing():
    net = NetworkBuilder(8, 8, 8)
    kept = net.conv(net.input, 8, 3)
    net.relu(net.conv(net.conv(net.input, 64, 3), 64, 3))
    model = net.model(kept)

    assert [kernel.name for kernel in lower(model, "fp32")] == ["Conv_0"]


def test_hard_swish_written_out_is_one_pointwise_kernel():
    net = NetworkBuilder(8, 8, 8)
    x = net.conv(net.input, 8, 1)
    gate = net.node("HardSigmoid", [x[0]], 8)
    y = net.node("Mul", [x[0], gate[0]], 8)
    model = net.model(net.conv(y, 8, 1))

    kernels = lower(model, "fp32")

    assert kinds(kernels) == ["conv1x1", "pointwise", "conv1x1"]
    assert kernels[1].bytes_in == 4 * 8 * 8 * 8  # its input once, not twice


def test_a_tensor_that_others_read_keeps_its_kernel_closed():
    net = NetworkBuilder(8, 8, 8)
    x = net.conv(net.input, 8, 1)
    shared = net.relu(x)
    model = net.model(net.add(shared, net.batch_norm(x)))

    # x is read twice, so neither ReLU nor batch normalisation can hide it.
    assert kinds(lower(model, "fp32")) == ["conv1x1", "pointwise"]


def test_views_cost_nothing_and_hide_nothing_from_fusion():
    net = NetworkBuilder(8, 4, 4)
    x = net.node("Identity", [net.conv(net.input, 8, 1)[0]], 8)
    x = net.node("Dropout", [net.relu(x)[0]], 8)
    model = net.model(net.linear(net.global_pool(x), 10))

    assert kinds(lower(model, "fp32")) == ["conv1x1", "reduce", "gemm"]


def test_concatenation_is_free_where_kernels_write_in_place():
    net = NetworkBuilder(8, 4, 4)
    parts = [net.conv(net.input, 8, 1), net.conv(net.input, 8, 3)]
    joined = net.node("Concat", [part[0] for part in parts], 16, axis=1)
    in_place = net.model(net.conv(joined, 8, 1))
    net = NetworkBuilder(8, 4, 4)
    joined = net.node("Concat", [net.conv(net.input, 8, 1)[0], net.input[0]], 16, axis=1)
    copied = net.model(net.conv(joined, 8, 1))

    assert "copy" not in kinds(lower(in_place, "fp32"))
    copies = [kernel for kernel in lower(copied, "fp32") if kernel.kind == "copy"]
    assert [kernel.bytes_out for kernel in copies] == [4 * 8 * 4 * 4]


def test_shapes_the_network_computes_itself_are_folded():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Concat", ["n", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("Relu", ["flat"], ["y"]),
    ]
    weights = [
        onnx.numpy_helper.from_array(np.array([0], dtype=np.int64), "zero"),
        onnx.numpy_helper.from_array(np.array([-1], dtype=np.int64), "rest"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])

    (kernel,) = lower(model, "fp32")

    assert (kernel.kind, kernel.bytes_out) == ("pointwise", 4 * 48)


@pytest.mark.parametrize(
    ("network", "published_mmacs"),
    [
        # MobileNet v1 paper table 4: 569 M; its table 7: 0.5 at 160 px, 76 M.
        (lambda: mobilenet_v1(1.0, 224), 569),
        (lambda: mobilenet_v1(0.5, 160), 76),
        # VGG-16: 15.3 G in convolutions (ResNet paper) and 0.12 G in three linear layers.
        (vgg16, 15470),
        # TF-slim's ResNet v1 50, stride in the last unit: 6.97 GFLOP.
        (lambda: resnet_v1((3, 4, 6, 3)), 3485),
    ],
)
def test_multiply_adds_are_those_the_papers_state(network, published_mmacs):
    macs = sum(kernel.macs for kernel in lower(network(), "fp32"))

    assert macs / 1e6 == pytest.approx(published_mmacs, rel=0.01)


def test_half_precision_halves_traffic_and_converts_at_the_edges():
    net = NetworkBuilder(8, 8, 8)
    model = net.model(net.conv(net.input, 8, 3))

    (full,) = lower(model, "fp32")
    before, half, after = lower(model, "fp16")

    assert (half.bytes_in, half.bytes_weights) == (full.bytes_in // 2, full.bytes_weights // 2)
    assert (before.kind, before.bytes_in) == ("copy", 2 * before.bytes_out)
    assert (after.kind, after.bytes_out) == ("copy", 2 * after.bytes_in)


def test_an_open_shape_is_asked_for_and_taken():
    net = NetworkBuilder(3, 8, 8)
    model = net.model(net.conv(net.input, 8, 3))
    for dim in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[dim].dim_param = f"d{dim}"

    with pytest.raises(ConfigError, match="input"):
        lower(model, "fp32")
    (kernel,) = lower(model, "fp32", {"input": (1, 3, 16, 16)})
    assert kernel.m == 256


@pytest.mark.parametrize(
    ("file", "mmacs", "count"),
    [
        # mnist-8: 8x28x28x25 + 16x14x14x200 + 256x10; two convolutions, two poolings, a product.
        ("mnist-8.onnx", 0.78656, 5),
        # conv1 118.0, 1x1 12.8 + 51.4 + 51.4, 3x3 115.6: five convolutions and a pooling.
        ("trt_residual_block.onnx", 349.225, 6),
        # its repository states 0.1 G for 320x240.
        ("ultraface_RFB-320.onnx", 100.4, 73),
    ],
)
def test_real_files_lower(file, mmacs, count):
    path = DATA / file
    if not path.is_file():
        pytest.skip(f"{file} is not in HIL_DATA")

    kernels = lower(onnx.load(path), "fp32")

    assert sum(kernel.macs for kernel in kernels) / 1e6 == pytest.approx(mmacs, rel=1e-3)
    assert len(kernels) == count
