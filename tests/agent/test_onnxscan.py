"""The small ONNX reader agrees with the onnx package and survives anything."""

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hil.agent import onnxscan


def model(opset):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("NonZero", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["y"], name="letzte Schicht ü", to=TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [value], [out])
    domains = [helper.make_opsetid("com.example", 3), helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


@pytest.mark.parametrize("opset", [9, 13, 130])
def test_opset_and_nodes_are_read(opset):
    made = model(opset)

    found, nodes = onnxscan.scan(made.SerializeToString())

    assert found == opset
    assert nodes == [(node.name, node.op_type) for node in made.graph.node]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_exception(data):
    onnxscan.scan(data)


@given(st.integers(0, 300))
def test_a_cut_file_is_read_without_an_exception(length):
    data = model(13).SerializeToString()
    opset, nodes = onnxscan.scan(data[:length])

    assert opset in (None, 13)
    assert len(nodes) <= 3
    assert onnx.load_from_string(data)
