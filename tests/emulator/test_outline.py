"""What of a network's file the board's server is sent: everything but large weights' values."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hil.emulator.kernels import lower
from hil.emulator.trt import limits, tensors
from hil.emulator.trt.outline import KEPT_BYTES, outline, parsed
from hil.net.published import PUBLISHED

SIDE = 256  # 256 KiB of floats


def dense(weights: TensorProto, *more: TensorProto, nodes=()) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIDE]) for name in ("x", "y")
    ]
    matmul = helper.make_node("MatMul", ["x", weights.name], ["y"])
    graph = helper.make_graph([*nodes, matmul], "dense", ends[:1], ends[1:], [weights, *more])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def large(dtype: str = "float32") -> TensorProto:
    return numpy_helper.from_array(np.ones((SIDE, SIDE), dtype), "w")


def same(data: bytes) -> None:
    """Asserts that the outline is refused, described and turned into kernels as the file is."""
    full, light = onnx.load_from_string(data), onnx.load_from_string(outline(data))
    assert limits.refusals(light) == limits.refusals(full)
    assert tensors.of_model(light) == tensors.of_model(full)
    assert list(map(asdict, lower(light, "fp16", {}))) == list(map(asdict, lower(full, "fp16", {})))


def test_a_network_of_half_a_gigabyte_is_sent_in_less_than_one_megabyte():
    light = outline(b"".join(PUBLISHED["vgg16"].chunks()))

    assert len(light) < 1 << 20
    weights = {
        each.name: tuple(each.dims) for each in onnx.load_from_string(light).graph.initializer
    }
    assert sum(int(np.prod(shape)) for shape in weights.values()) == pytest.approx(138e6, rel=0.01)


def test_what_is_refused_and_how_long_it_takes_is_that_of_the_whole_file():
    same(b"".join(PUBLISHED["mobilenet"].chunks()))
    same(dense(large()).SerializeToString())


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_large_weights_lose_their_values_and_nothing_else(dtype):
    model = dense(large(dtype))
    light = onnx.load_from_string(outline(model.SerializeToString()))

    model.graph.initializer[0].ClearField("raw_data")
    assert light == model


def test_weights_that_are_not_raw_lose_their_values_too():
    weights = helper.make_tensor("w", TensorProto.FLOAT, [SIDE, SIDE], [0.5] * SIDE * SIDE)
    assert len(outline(dense(weights).SerializeToString())) < 1024


def test_small_weights_and_zero_points_keep_their_values():
    small = numpy_helper.from_array(np.arange(9.0, dtype="float32"), "small")
    zeros = numpy_helper.from_array(np.zeros(KEPT_BYTES + 1, "int8"), "zeros")
    light = onnx.load_from_string(outline(dense(large(), small, zeros).SerializeToString()))

    kept = {each.name: each for each in light.graph.initializer}
    assert (kept["small"], kept["zeros"]) == (small, zeros)


@given(st.binary(max_size=200))
def test_what_is_no_model_is_sent_as_it_is_or_reads_the_same(data):
    assert outline(data) == data or onnx.load_from_string(outline(data)) == onnx.load_from_string(
        data
    )


def test_a_file_cut_short_is_sent_as_it_is():
    data = dense(large()).SerializeToString()
    assert outline(data[:-1000]) == data[:-1000]


class Heard:
    """A server that keeps what it is asked."""

    def call(self, operation, **parameters):
        self.asked = (operation, parameters)
        return {}


def test_the_whole_file_gives_the_name():
    data, server = dense(large()).SerializeToString(), Heard()
    parsed(server, data)

    operation, parameters = server.asked
    assert operation == "parse"
    assert parameters["sha256"] == hashlib.sha256(data).hexdigest()
    assert len(parameters["data"]) < 1024
