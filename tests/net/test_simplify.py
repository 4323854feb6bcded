from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from hil.net.simplify import drop_repeated_relus


def model_of(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in outputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": np.array([-2, -0.5, 0.5, 3], dtype=np.float32)})


def node(op: str, source: str, target: str) -> onnx.NodeProto:
    return helper.make_node(op, [source], [target])


def test_a_chain_of_relus_becomes_one_and_computes_the_same():
    chain = [node("Relu", "x", "a"), node("Relu", "a", "b"), node("Relu", "b", "c")]
    model = model_of(*chain, node("Neg", "c", "y"))
    before = run(model)

    removed = drop_repeated_relus(model)

    onnx.checker.check_model(model, full_check=True)
    assert removed == 2
    assert [n.op_type for n in model.graph.node] == ["Relu", "Neg"]
    np.testing.assert_array_equal(run(model)[0], before[0])


def test_a_relu_that_is_an_output_stays():
    model = model_of(node("Relu", "x", "a"), node("Relu", "a", "y"))

    assert drop_repeated_relus(model) == 0
    assert [n.op_type for n in model.graph.node] == ["Relu", "Relu"]


def test_a_relu_after_something_that_can_be_negative_stays():
    model = model_of(node("Relu", "x", "a"), node("Neg", "a", "b"), node("Relu", "b", "y"))

    assert drop_repeated_relus(model) == 0
    assert len(model.graph.node) == 3


def test_other_readers_of_a_removed_relu_read_what_it_read():
    model = model_of(
        node("Relu", "x", "a"),
        node("Relu", "a", "b"),
        node("Neg", "b", "y"),
        node("Abs", "b", "z"),
        outputs=("y", "z"),
    )
    before = run(model)

    assert drop_repeated_relus(model) == 1
    for got, wanted in zip(run(model), before, strict=True):
        np.testing.assert_array_equal(got, wanted)
