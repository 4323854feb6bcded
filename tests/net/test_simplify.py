from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from hil.net.simplify import (
    MOST_MERGED_WEIGHTS,
    drop_repeated_relus,
    merge_pooled_linear,
)


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


def pooled_linear(height: int, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    rng = np.random.Generator(np.random.Philox(3))
    weights = {
        "w": rng.normal(size=(10, 6)).astype(np.float32),
        "b": rng.normal(size=10).astype(np.float32),
    }
    shapes = {"y": [1, 10], "p": [1, 6, 1, 1]}
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("GlobalAveragePool", ["a"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"], axis=1),
            helper.make_node("Gemm", ["f", "w", "b"], ["y"], "fc", transB=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, height, 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def answer(model: onnx.ModelProto, height: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    picture = np.random.Generator(np.random.Philox(5)).normal(size=(1, 6, height, 3))
    return session.run(["y"], {"x": picture.astype(np.float32)})[0]


def test_pooling_and_a_linear_layer_become_one_convolution_of_the_same_function():
    model = pooled_linear(4)
    before = answer(model, 4)

    merged = merge_pooled_linear(model)

    onnx.checker.check_model(model, full_check=True)
    assert merged == 1
    assert [n.op_type for n in model.graph.node] == ["Relu", "Conv", "Flatten"]
    np.testing.assert_allclose(answer(model, 4), before, rtol=1e-5, atol=1e-6)


def test_a_map_too_large_for_the_merged_weights_stays_pooled():
    height = MOST_MERGED_WEIGHTS // (10 * 6 * 3) + 1
    model = pooled_linear(height)

    assert merge_pooled_linear(model) == 0
    assert [n.op_type for n in model.graph.node][1] == "GlobalAveragePool"


def test_a_pooled_result_that_is_an_output_stays():
    model = pooled_linear(4, outputs=("y", "p"))

    assert merge_pooled_linear(model) == 0
