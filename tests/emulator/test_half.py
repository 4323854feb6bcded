"""FP16 results: rounded wherever the board would store them, and only there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hil.emulator.trt.numerics import Calculator, half_precision

RNG = np.random.default_rng(5)
FIRST = (RNG.normal(size=(8, 16)) * 3).astype(np.float32)
SECOND = RNG.normal(size=(16, 4)).astype(np.float32)


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


def network() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Sigmoid", ["h"], ["s"], name="bend"),
        helper.make_node("MatMul", ["s", "b"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(FIRST, "a"), numpy_helper.from_array(SECOND, "b")],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=7)
    data: bytes = model.SerializeToString()
    return data


def by_hand(x: np.ndarray, *, fused: bool) -> np.ndarray:
    """The network in numpy, in single precision with rounding where a kernel ends."""
    hidden = half(x) @ half(FIRST)
    hidden = hidden if fused else half(hidden)
    bent = half(1 / (1 + np.exp(-hidden)))
    return half(bent @ half(SECOND))


@pytest.mark.parametrize("fused", [True, False])
def test_what_passes_between_kernels_is_rounded(fused):
    inside = frozenset({"first"}) if fused else frozenset()
    calculator = Calculator(network(), "fp16", inside)
    for _ in range(20):
        x = RNG.normal(size=(1, 8)).astype(np.float32)
        (got,) = calculator.run({"x": x})
        # One rounding step apart at most: the two sum in another order.
        assert np.abs(got - by_hand(x, fused=fused)).max() <= 2.0**-9 * np.abs(got).max()


def test_rounding_between_kernels_shows():
    differs = 0
    whole = Calculator(network(), "fp16", frozenset({"first", "bend", "second"}))
    layered = Calculator(network(), "fp16")
    for _ in range(50):
        x = RNG.normal(size=(1, 8)).astype(np.float32)
        differs += not np.array_equal(whole.run({"x": x})[0], layered.run({"x": x})[0])
    assert differs > 10


def test_single_precision_is_left_alone():
    x = RNG.normal(size=(1, 8)).astype(np.float32)
    (got,) = Calculator(network(), "fp32").run({"x": x})
    want = (1 / (1 + np.exp(-(x @ FIRST)))) @ SECOND
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_values_beyond_half_precision_become_infinite():
    (got,) = Calculator(network(), "fp16").run({"x": np.full((1, 8), 1e6, np.float32)})
    assert not np.isfinite(got).all() or np.abs(got).max() < 65504


def test_shapes_are_not_rounded():
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], name="shape"),
        helper.make_node("Reshape", ["x", "n"], ["y"], name="same"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2049])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2049])],
    )
    opset = [helper.make_opsetid("", 13)]
    data = helper.make_model(graph, opset_imports=opset, ir_version=7).SerializeToString()
    nodes = onnx.load_from_string(half_precision(data, frozenset())).graph.node
    assert [node.op_type for node in nodes] == ["Shape", "Reshape"]
    (got,) = Calculator(data, "fp16").run({"x": np.ones((1, 2049), np.float32)})
    assert got.shape == (1, 2049)
