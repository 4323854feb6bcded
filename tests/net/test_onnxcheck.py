"""Judging ONNX files before a board is touched: what TensorRT 8.2 refuses, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hil.core.errors import ConfigError, ExitCode
from hil.net.onnxcheck import findings, inspect, read_model

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("HIL_DATA", ROOT.parent / "shared" / "data")) / "onnx"
FLOAT = TensorProto.FLOAT


def model(nodes, *, inputs=None, constants=None, outputs=("y",), opset=13, domains=()):
    """A model; tensors get rank-4 shapes unless said otherwise."""
    inputs = {"x": (1, 4, 8, 8)} if inputs is None else inputs
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=7).SerializeToString()


def node(op, *inputs, outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), name=f"/net/{op}", **attributes)


def weights(*shape):
    return np.ones(shape, dtype=np.float32)


def save(tmp_path, data):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    return path


def test_a_model_the_board_takes_has_no_findings():
    nodes = [
        node("Conv", "x", "w", outputs=("a",), kernel_shape=[3, 3]),
        node("Relu", "a", outputs=("b",)),
        node("MaxPool", "b", kernel_shape=[2, 2]),
    ]

    assert findings(model(nodes, constants={"w": weights(4, 4, 3, 3)})) == ()


@pytest.mark.parametrize("op", ["NonZero", "Mod", "Reciprocal", "OneHot", "RoiAlign", "Xor"])
def test_an_operator_the_board_lacks_is_named_with_its_node_and_a_remedy(op):
    (finding,) = findings(model([node("Relu", "x", outputs=("a",)), node(op, "a")]))

    assert finding.node == f"/net/{op}"
    assert finding.op == op
    assert finding.rule == f"tensorrt-8.2 has no operator {op}"
    assert finding.remedy != "replace the operation in the network"
    assert finding.fatal


def test_an_operator_newer_than_the_table_is_refused():
    (finding,) = findings(model([node("GridSample", "x", "x")]))

    assert finding.op == "GridSample"


def test_an_unnamed_node_is_named_by_what_it_gives():
    (finding,) = findings(model([helper.make_node("NonZero", ["x"], ["y"])]))

    assert finding.node == "NonZero -> y"


@pytest.mark.parametrize(("opset", "count"), [(11, 0), (13, 0), (14, 1), (18, 1)])
def test_opsets_above_13_are_refused(opset, count):
    found = findings(model([node("Relu", "x")], opset=opset))

    assert len(found) == count
    assert all(f.fatal and f.node == "" and "13" in f.rule and "13" in f.remedy for f in found)


def test_operators_of_other_domains_are_refused():
    nodes = [node("FusedGelu", "x", domain="com.example")]

    (finding,) = findings(model(nodes, domains=["com.example"]))

    assert "com.example" in finding.rule


@pytest.mark.parametrize(
    ("nodes", "constants", "rule"),
    [
        ([node("Conv", "x", "z")], {}, "its weights as a constant"),
        ([node("ConvTranspose", "x", "z")], {}, "its weights as a constant"),
        ([node("Conv", "x", "w")], {"w": weights(4, 4, 3)}, "2D or 3D"),
        ([node("MaxPool", "x", kernel_shape=[2])], {}, "2D or 3D"),
        ([node("AveragePool", "x", kernel_shape=[2, 2, 2, 2])], {}, "2D or 3D"),
        ([node("MaxPool", "x", outputs=("y", "i"), kernel_shape=[2, 2])], {}, "indices"),
        ([node("Resize", "x", mode="cubic")], {}, "cubic"),
        (
            [node("Resize", "x", coordinate_transformation_mode="tf_crop_and_resize")],
            {},
            "tf_crop_and_resize",
        ),
        ([node("Slice", "x", "z", "z", "z")], {}, "its axes as a constant"),
        ([node("Squeeze", "x", "z")], {}, "its axes as a constant"),
        ([node("TopK", "x", "z", outputs=("y", "i"))], {}, "K as a constant"),
        ([node("CumSum", "x", "z")], {}, "its axis as a constant"),
        ([node("QuantizeLinear", "x", "s", "zp")], {"s": 0.1, "zp": np.int8(3)}, "zero point"),
        ([node("Einsum", "x", equation="...ij->...ji")], {}, "ellipsis"),
        ([node("Einsum", "x", equation="abii->ab")], {}, "diagonal"),
    ],
)
def test_restrictions_of_the_table_hold(nodes, constants, rule):
    data = model(nodes, constants=constants, inputs={"x": (1, 4, 8, 8), "z": (1,)})

    (finding,) = findings(data)

    assert rule in finding.rule
    assert finding.remedy
    assert finding.fatal


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Resize", "x", mode="linear", coordinate_transformation_mode="align_corners")], {}),
        ([node("Slice", "x", "c", "c", "c")], {"c": np.array([1])}),
        ([node("MaxPool", "x", outputs=("y", ""), kernel_shape=[2, 2])], {}),
        ([node("QuantizeLinear", "x", "s", "zp")], {"s": 0.1, "zp": np.int8(0)}),
        ([node("Einsum", "x", equation="abij->abji")], {}),
        (
            [
                node("Constant", outputs=("k",), value=numpy_helper.from_array(np.array([2]))),
                node("TopK", "x", "k", outputs=("y", "i")),
            ],
            {},
        ),
    ],
)
def test_what_the_table_allows_is_not_complained_about(nodes, constants):
    assert findings(model(nodes, constants=constants)) == ()


def test_subgraphs_are_looked_into():
    inner = helper.make_graph(
        [node("NonZero", "x", outputs=("n",))],
        "then",
        [],
        [helper.make_tensor_value_info("n", FLOAT, None)],
    )
    data = model([node("If", "c", then_branch=inner, else_branch=inner)], inputs={"c": (1,)})

    assert [f.op for f in findings(data)] == ["NonZero", "NonZero"]


def test_open_input_sizes_are_listed_with_the_option_to_give():
    data = model([node("Relu", "x")], inputs={"x": ("batch", 3, None, 224)})

    (finding,) = findings(data)

    assert inspect(data).dynamic_inputs[0].shape == ("batch", 3, None, 224)
    assert finding.remedy.endswith("--shape x=1x3x1x224")
    assert not finding.fatal


def test_inspection_tells_what_a_caller_must_give():
    data = model(
        [node("Conv", "x", "w", outputs=("a",)), node("Relu", "a")],
        inputs={"x": (1, 4, 8, 8), "w": (2, 4, 3, 3)},  # old files list initializers as inputs
        constants={"w": weights(2, 4, 3, 3)},
    )

    info = inspect(data)

    assert [(s.name, s.dtype, s.shape) for s in info.inputs] == [("x", "float", (1, 4, 8, 8))]
    assert [(s.name, s.shape) for s in info.outputs] == [("y", None)]
    assert info.opset == 13
    assert info.operators == {"Conv": 1, "Relu": 1}
    assert info.parameters == 72


def test_a_whole_file_reads_back_unchanged(tmp_path):
    data = model([node("Relu", "x")])

    assert read_model(save(tmp_path, data)) == data


@pytest.mark.parametrize("data", [b"", b"hello", b"\x00" * 64, b"PK\x03\x04rest", b"\x08\x07"])
def test_a_file_that_is_not_onnx_is_a_usage_error(tmp_path, data):
    with pytest.raises(ConfigError, match="not an ONNX model") as caught:
        read_model(save(tmp_path, data))

    assert caught.value.exit_code == ExitCode.USAGE


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_model(tmp_path / "none.onnx")


def test_a_truncated_file_is_refused(tmp_path):
    data = model([node("Conv", "x", "w")], constants={"w": weights(4, 4, 3, 3)})

    with pytest.raises(ConfigError):
        read_model(save(tmp_path, data[:-40]))


def test_a_model_whose_graph_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="damaged"):
        read_model(save(tmp_path, model([node("Relu", "nowhere")])))


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd"])
def test_weights_in_other_files_are_refused_and_never_opened(tmp_path, location):
    proto = onnx.load_model_from_string(
        model([node("Conv", "x", "w")], constants={"w": weights(4, 4, 3, 3)})
    )
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)

    with pytest.raises(ConfigError, match="other files") as caught:
        read_model(save(tmp_path, proto.SerializeToString()))

    assert location in (caught.value.why or "")


def test_an_unknown_target_is_refused():
    with pytest.raises(ConfigError, match=r"tensorrt-8\.2"):
        findings(model([node("Relu", "x")]), target="tensorrt-99")


@pytest.mark.skipif(not REAL.is_dir(), reason="no real ONNX files: set HIL_DATA")
@pytest.mark.parametrize("name", ["mnist-8", "ultraface_RFB-320", "trt_residual_block"])
def test_real_files_are_read_and_taken(name):
    data = read_model(REAL / f"{name}.onnx")

    assert not [f for f in findings(data) if f.fatal]
    assert len(inspect(data).inputs) == 1


def test_checking_a_file_needs_no_torch():
    code = "import sys, hil.net.onnxcheck; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
