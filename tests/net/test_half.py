"""A network made float16: the same numbers within float16, float32 at its ends."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hil.core.errors import ExportError
from hil.net.export import export_onnx
from hil.net.half import to_half
from hil.net.onnxcheck import findings, inspect
from hil.net.sample import sample_network


def run(data, x):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["plain", "separable", "unet", "resnet20"])
def test_results_are_those_of_float32_within_float16(make_net, pictures, name):
    data = export_onnx(make_net(name), (pictures,))
    half = to_half(data)
    x = pictures[:1].numpy()

    full, got = run(data, x), run(half, x)

    assert got.dtype == np.float32
    assert np.abs(full - got).max() <= 1e-2 * np.abs(full).max()
    assert not np.array_equal(full, got)
    assert findings(half) == ()
    assert len(half) < 0.6 * len(data)


def test_ends_keep_their_types_and_names():
    before, after = inspect(sample_network()), inspect(to_half(sample_network()))

    assert after.inputs == before.inputs
    assert after.outputs == before.outputs
    assert (after.opset, after.ir_version) == (before.opset, before.ir_version)


def model(*nodes, weights=()):
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7).SerializeToString()


def test_scales_that_must_be_float32_stay_so():
    data = model(
        helper.make_node("Resize", ["x", "", "scales"], ["y"], "resize", mode="nearest"),
        weights=[("scales", np.array([1, 1, 2, 2], np.float32))],
    )

    (scales,) = onnx.load_from_string(to_half(data)).graph.initializer
    assert scales.data_type == TensorProto.FLOAT
    assert run(to_half(data), np.ones((1, 2, 4, 4), np.float32)).shape == (1, 2, 8, 8)


def test_an_input_used_twice_is_cast_once():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "one"),
        helper.make_node("Add", ["a", "x"], ["y"], "two"),
    ]
    half = onnx.load_from_string(to_half(model(*nodes)))

    assert [node.op_type for node in half.graph.node].count("Cast") == 2


@pytest.mark.parametrize("value", [65536.0, -7e4])
def test_a_weight_beyond_float16_is_refused(value):
    node = helper.make_node("Mul", ["x", "w"], ["y"], "scale")

    with pytest.raises(ExportError, match="w do not fit"):
        to_half(model(node, weights=[("w", np.array([value], np.float32))]))


def test_quantised_networks_are_refused():
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], "quantise")
    weights = [("s", np.array(0.1, np.float32)), ("z", np.array(0, np.int8))]

    with pytest.raises(ExportError, match="quantise"):
        to_half(model(node, weights=weights))
