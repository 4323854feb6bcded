"""Exported networks run by PyTorch: operator by operator what ONNX Runtime computes, or refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hil.core.errors import ConfigError, ExportError
from hil.net import prototypes
from hil.net.export import export_onnx
from hil.net.half import to_half
from hil.net.onnxtorch import OPERATORS, Network
from hil.net.reference import reference_network
from hil.net.sample import sample_network

pytestmark = pytest.mark.torch

_SPEC = importlib.util.spec_from_file_location(
    "space_check", Path(__file__).parents[2] / "bench" / "space_check.py"
)
_space_check = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_space_check)
zoo = _space_check.load_zoo()


def by_onnxruntime(data, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def by_torch(data, feeds):
    network = Network(data, {name: x.shape for name, x in feeds.items()})
    results = network({name: torch.from_numpy(x) for name, x in feeds.items()})
    assert [tuple(r.shape) for r in results] == [v.shape for v in network.outputs]
    assert [r.dtype for r in results] == [v.dtype for v in network.outputs]
    return [r.numpy() for r in results]


def equal(data, feeds, tolerance=1e-5):
    want = by_onnxruntime(data, feeds)
    got = by_torch(data, feeds)
    assert len(want) == len(got)
    for w, g in zip(want, got, strict=True):
        assert w.shape == g.shape
        assert w.dtype == g.dtype
        scale = max(1.0, float(np.abs(w[np.isfinite(w)]).max(initial=0)) if w.size else 1.0)
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance * scale)


def model_of(op, operands, params=(), outputs=1, opset=13, kinds=None, **attributes):
    """One node: operands are inputs of the graph, params (None: left out) constants behind them."""
    weights, names = [], [f"x{i}" for i in range(len(operands))]
    for i, value in enumerate(params):
        names.append("" if value is None else f"p{i}")
        if value is not None:
            weights.append(numpy_helper.from_array(np.asarray(value), f"p{i}"))
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, "the-node", **attributes)
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, operands, strict=False)
    ]
    kinds = kinds or [TensorProto.FLOAT] * outputs
    ends = [helper.make_tensor_value_info(n, k, None) for n, k in zip(results, kinds, strict=True)]
    graph = helper.make_graph([node], "one", values, ends, weights)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    ).SerializeToString()


def x(*shape, seed=0, positive=False):
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.abs(values) + 0.1 if positive else values


def ints(*values):
    return np.array(values, dtype=np.int64)


PICTURE, OTHER = x(2, 4, 7, 6), x(2, 4, 7, 6, seed=1)
VECTOR = x(4, seed=3)
ONE = [
    *[(op, [PICTURE], [], {}) for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Erf", "Exp")],
    *[(op, [x(2, 5, positive=True)], [], {}) for op in ("Log", "Sqrt", "Reciprocal")],
    *[(op, [PICTURE], [], {}) for op in ("Neg", "Abs", "Identity", "Flatten", "Elu")],
    *[(op, [PICTURE, OTHER], [], {}) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")],
    ("Add", [PICTURE, x(4, 1, 1)], [], {}),
    ("Max", [PICTURE, OTHER, x(2, 4, 7, 6, seed=5)], [], {}),
    ("Pow", [x(2, 5, positive=True), x(2, 5)], [], {}),
    ("HardSwish", [PICTURE], [], {"opset": 14}),
    ("HardSigmoid", [PICTURE], [], {"alpha": 1 / 6, "beta": 0.5}),
    ("LeakyRelu", [PICTURE], [], {"alpha": 0.2}),
    ("PRelu", [PICTURE], [x(4, 1, 1, seed=2)], {}),
    ("Elu", [PICTURE], [], {"alpha": 0.7}),
    ("Gelu", [PICTURE], [], {"opset": 20}),
    ("Gelu", [PICTURE], [], {"opset": 20, "approximate": "tanh"}),
    ("Softmax", [PICTURE], [], {"axis": 1}),
    ("LogSoftmax", [PICTURE], [], {"axis": -1}),
    ("Clip", [PICTURE], [np.float32(-0.5), np.float32(0.6)], {}),
    ("Clip", [PICTURE], [None, np.float32(0.6)], {}),
    ("Clip", [PICTURE], [], {"opset": 6, "min": 0.0, "max": 0.5}),
    ("Reshape", [PICTURE], [ints(0, -1, 3)], {}),
    ("Flatten", [PICTURE], [], {"axis": 2}),
    ("Flatten", [PICTURE], [], {"axis": -1}),
    ("Transpose", [PICTURE], [], {"perm": [0, 2, 3, 1]}),
    ("Transpose", [PICTURE], [], {}),
    ("Unsqueeze", [PICTURE], [ints(0, -1)], {}),
    ("Unsqueeze", [PICTURE], [], {"opset": 11, "axes": [1]}),
    ("Squeeze", [x(2, 1, 3, 1)], [ints(1, 3)], {}),
    ("Squeeze", [x(2, 1, 3, 1)], [], {}),
    ("Concat", [PICTURE, OTHER], [], {"axis": 1}),
    ("Split", [PICTURE], [ints(1, 3)], {"axis": 1, "outputs": 2}),
    ("Split", [PICTURE], [], {"axis": 1, "outputs": 2}),
    ("Split", [PICTURE], [], {"axis": 1, "outputs": 2, "opset": 11, "split": [3, 1]}),
    ("Slice", [PICTURE], [ints(1, -3), ints(99, -1), ints(2, 1)], {}),
    ("Slice", [PICTURE], [ints(0), ints(6), ints(3), ints(2)], {}),
    ("Gather", [PICTURE], [ints(2, 0, -1)], {"axis": 1}),
    ("Gather", [PICTURE], [np.int64(1)], {"axis": 2}),
    ("Expand", [x(1, 4, 1, 1)], [ints(2, 1, 3, 5)], {}),
    ("Tile", [PICTURE], [ints(1, 2, 1, 3)], {}),
    ("Pad", [PICTURE], [ints(0, 0, 1, 2, 0, 0, 0, 3), np.float32(0.5)], {}),
    ("Pad", [PICTURE], [ints(0, 0, 1, 2, 0, 0, 0, 3)], {"mode": "reflect"}),
    ("Pad", [PICTURE], [ints(0, 0, 1, 2, 0, 0, 0, 3)], {"mode": "edge"}),
    ("ReduceMean", [PICTURE], [], {"axes": [2, 3]}),
    ("ReduceMean", [PICTURE], [], {"keepdims": 0}),
    ("ReduceMean", [PICTURE], [ints(1)], {"opset": 18, "keepdims": 0}),
    ("ReduceSum", [PICTURE], [ints(2, 3)], {}),
    ("ReduceMax", [PICTURE], [], {"axes": [1]}),
    ("MatMul", [x(3, 4), x(4, 5)], [], {}),
    ("Gemm", [x(3, 4), x(4, 5)], [x(5)], {"alpha": 0.5, "beta": 2.0}),
    ("Gemm", [x(4, 3)], [x(5, 4), x(5)], {"transA": 1, "transB": 1}),
    ("Gemm", [x(3, 4), x(4, 5)], [], {}),
    ("Conv", [PICTURE], [x(6, 2, 3, 3), x(6)], {"group": 2, "pads": [1, 0, 2, 1]}),
    ("Conv", [PICTURE], [x(6, 4, 3, 3)], {"strides": [2, 1], "dilations": [1, 2]}),
    ("Conv", [x(2, 3, 9)], [x(5, 3, 3)], {"pads": [1, 1]}),
    ("Conv", [x(1, 2, 4, 5, 6)], [x(3, 2, 2, 2, 2)], {}),
    (
        "ConvTranspose",
        [PICTURE],
        [x(4, 3, 3, 3), x(6)],
        {"group": 2, "strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]},
    ),
    ("MaxPool", [PICTURE], [], {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", [PICTURE], [], {"kernel_shape": [5, 5], "pads": [4, 4, 4, 4]}),
    ("MaxPool", [PICTURE], [], {"kernel_shape": [3, 3], "pads": [0, 1, 2, 1], "dilations": [2, 1]}),
    ("AveragePool", [PICTURE], [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    (
        "AveragePool",
        [PICTURE],
        [],
        {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    ("GlobalAveragePool", [PICTURE], [], {}),
    ("GlobalMaxPool", [PICTURE], [], {}),
    (
        "BatchNormalization",
        [PICTURE],
        [VECTOR, x(4), x(4, seed=7), x(4, positive=True)],
        {"epsilon": 1e-3},
    ),
    ("InstanceNormalization", [PICTURE], [VECTOR, x(4)], {"epsilon": 1e-3}),
    ("LayerNormalization", [PICTURE], [x(7, 6), x(7, 6, seed=4)], {"axis": 2, "opset": 17}),
]
for _mode, _coordinates, _more in (
    ("nearest", "asymmetric", {"nearest_mode": "floor"}),
    ("linear", "half_pixel", {}),
    ("linear", "pytorch_half_pixel", {}),
    ("linear", "align_corners", {}),
    ("cubic", "half_pixel", {"cubic_coeff_a": -0.75}),
    ("cubic", "align_corners", {"cubic_coeff_a": -0.75}),
):
    _how = {"mode": _mode, "coordinate_transformation_mode": _coordinates, **_more}
    ONE += [
        ("Resize", [PICTURE], [None, np.array([1, 1, 2, 3], np.float32)], _how),
        ("Resize", [PICTURE], [None, None, ints(2, 4, 10, 3)], _how),
    ]


@pytest.mark.parametrize(("op", "operands", "params", "how"), ONE)
def test_an_operator_computes_what_onnxruntime_computes(op, operands, params, how):
    data = model_of(op, operands, params, **how)

    equal(data, {f"x{i}": value for i, value in enumerate(operands)})


@pytest.mark.parametrize(
    ("op", "operands", "kinds"),
    [
        ("Equal", [np.int64([[1, 2, 3]]), np.int64([[1, 0, 3]])], [TensorProto.BOOL]),
        ("Greater", [PICTURE, OTHER], [TensorProto.BOOL]),
        ("Less", [PICTURE, OTHER], [TensorProto.BOOL]),
        ("Where", [PICTURE > 0, PICTURE, OTHER], [TensorProto.FLOAT]),
        ("Div", [np.int64([-7, 7, 5]), np.int64([2, -2, 3])], [TensorProto.INT64]),
    ],
)
def test_types_other_than_float(op, operands, kinds):
    equal(model_of(op, operands, kinds=kinds), {f"x{i}": value for i, value in enumerate(operands)})


@pytest.mark.parametrize("to", [TensorProto.FLOAT16, TensorProto.INT32, TensorProto.BOOL])
def test_casts(to):
    equal(model_of("Cast", [PICTURE], kinds=[to], to=to), {"x0": PICTURE})


def test_every_operator_of_the_table_is_tried_alone_or_in_shape_arithmetic():
    alone = {case[0] for case in ONE} | {"Equal", "Greater", "Less", "Where", "Cast"}

    assert set(OPERATORS) - alone == {"Constant", "ConstantOfShape"}


def test_what_follows_from_shapes_is_worked_out_beforehand():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Constant", [], ["i"], value=numpy_helper.from_array(ints(1))),
        helper.make_node("Gather", ["s", "i"], ["c"]),
        helper.make_node("Constant", [], ["m"], value_ints=[-1]),
        helper.make_node("Concat", ["c", "m"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node(
            "ConstantOfShape", ["c"], ["z"], value=numpy_helper.from_array(np.float32([2]))
        ),
        helper.make_node("Unsqueeze", ["z", "i"], ["zz"]),
        helper.make_node("Add", ["r", "zz"], ["y"]),
        helper.make_node("Identity", ["s"], ["told"]),
    ]
    data = helper.make_model(
        helper.make_graph(
            nodes,
            "shapes",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "w"])],
            [
                helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
                helper.make_tensor_value_info("told", TensorProto.INT64, None),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    ).SerializeToString()

    equal(data, {"x": x(2, 3, 5)})
    ran: list[str] = []
    Network(data, {"x": (2, 3, 5)})({"x": torch.zeros(2, 3, 5)}, observe=ran.append)
    assert ran == ["r", "y"]


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    op=st.sampled_from(["Conv", "MaxPool"]),
)
def test_windows_of_any_geometry_are_onnxruntimes(sides, kernel, strides, pads, op):
    assume(all(p < kernel[i % 2] for i, p in enumerate(pads)))
    picture = x(1, 2, *sides)
    how = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    weights = [x(3, 2, *kernel, seed=1)] if op == "Conv" else []

    equal(model_of(op, [picture], weights, **how), {"x0": picture})


def prototype_cases():
    pictures = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    for name in ("resnet20", "resnet32"):
        yield name, lambda name=name: (getattr(prototypes, name)().eval(), pictures)
    for name in zoo.ZOO:
        yield name, lambda name=name: (zoo.make(name), zoo.pictures())


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize(("name", "made"), list(prototype_cases()))
def test_every_prototype_as_exported(name, made, opset):
    module, pictures = made()
    data = export_onnx(module, (pictures,), opset=opset, batch=None)

    equal(data, {"input": pictures.numpy()}, tolerance=2e-5)


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2", "unet"])
def test_a_network_made_float16_keeps_within_float16(name):
    module, pictures = dict(prototype_cases())[name]()
    data = export_onnx(module, (pictures,), batch=2)
    want = by_onnxruntime(data, {"input": pictures.numpy()})[0]

    got = by_torch(to_half(data), {"input": pictures.numpy()})[0]

    assert got.dtype == np.float32
    assert not np.array_equal(got, want)
    assert np.abs(got - want).max() <= 1e-2 * np.abs(want).max()


@pytest.mark.parametrize("data", [reference_network(), sample_network()], ids=["ref", "sample"])
def test_networks_shipped_as_files(data):
    shapes = {v.name: v.shape for v in Network(data).inputs}

    equal(data, {name: x(*shape) for name, shape in shapes.items()})


def test_an_operator_that_is_not_known_is_refused_by_name():
    data = model_of("Einsum", [x(2, 3), x(3, 2)], equation="ij,jk->ik")

    with pytest.raises(ExportError, match="Einsum") as refusal:
        Network(data)

    assert "the-node" in refusal.value.why
    assert "TensorRT" in refusal.value.fix


def test_an_operator_of_another_domain_is_refused_by_name():
    model = onnx.load_model_from_string(model_of("Relu", [PICTURE]))
    model.graph.node[0].domain = "com.example"

    with pytest.raises(ExportError, match=r"com\.example::Relu"):
        Network(model.SerializeToString())


@pytest.mark.parametrize(
    ("op", "operands", "params", "how"),
    [
        ("Conv", [PICTURE], [x(4, 4, 3, 3)], {"auto_pad": "SAME_UPPER"}),
        ("Resize", [PICTURE], [None, np.float32([1, 2, 1, 1])], {"mode": "linear"}),
        (
            "Resize",
            [PICTURE],
            [None, np.float32([1, 1, 2, 2])],
            {"mode": "nearest", "coordinate_transformation_mode": "half_pixel"},
        ),
        ("AveragePool", [PICTURE], [], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        ("Slice", [PICTURE], [ints(5), ints(0), ints(2), ints(-1)], {}),
        ("Softmax", [PICTURE], [], {"axis": 1, "opset": 11}),
    ],
)
def test_a_use_that_would_be_computed_otherwise_is_refused_with_its_node(op, operands, params, how):
    with pytest.raises(ExportError, match="the-node"):
        Network(model_of(op, operands, params, **how))


def test_a_shape_that_only_the_network_knows_is_refused():
    data = model_of("Reshape", [PICTURE, ints(-1)])

    with pytest.raises(ExportError, match="the-node") as refusal:
        Network(data)

    assert "computed by the network" in refusal.value.why


def test_shapes_are_asked_for_and_checked():
    open_shape = export_onnx(prototypes.resnet20().eval(), (torch.rand(1, 1, 28, 28),), batch=None)

    with pytest.raises(ConfigError, match="not fixed"):
        Network(open_shape)
    with pytest.raises(ConfigError, match="asked"):
        Network(open_shape, {"input": (1, 3, 28, 28)})
    with pytest.raises(ConfigError, match="no input other"):
        Network(open_shape, {"input": (1, 1, 28, 28), "other": (1,)})


def test_a_size_of_minus_one_is_an_open_one():
    model = onnx.load_model_from_string(
        export_onnx(prototypes.resnet20().eval(), (torch.rand(1, 1, 28, 28),), batch=None)
    )
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    data = model.SerializeToString()

    with pytest.raises(ConfigError, match="not fixed"):
        Network(data)
    assert Network(data, {"input": (3, 1, 28, 28)}).inputs[0].shape == (3, 1, 28, 28)
