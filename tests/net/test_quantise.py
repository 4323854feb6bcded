"""INT8 by QuantizeLinear and DequantizeLinear: numbers, what TensorRT asks, what is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hil.core.errors import ConfigError, ExportError
from hil.net.onnxcheck import findings
from hil.net.quantise import (
    Calibration,
    calibration_of,
    evenly,
    is_quantised,
    kept,
    quantise,
    scales,
)


def pointwise(weights, bias, batch="n", opset=13):
    """A 1x1 convolution: y = W x + b for each pixel."""
    c_out, c_in = weights.shape
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="only")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, c_in, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, c_out, 1, 1])],
        [
            numpy_helper.from_array(weights.astype(np.float32)[:, :, None, None], "w"),
            numpy_helper.from_array(bias.astype(np.float32), "b"),
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7).SerializeToString()


def run(data, feeds):
    """The graph as it is written: ONNX Runtime's own INT8 kernels saturate on some CPUs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def rounded(values, scale):
    return np.clip(np.rint(values / scale), -128, 127) * scale


def drawn(seed, c_in=5, c_out=3, count=16):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(c_out, c_in)).astype(np.float32)
    bias = rng.normal(size=c_out).astype(np.float32)
    x = rng.normal(size=(count, c_in, 1, 1)).astype(np.float32)
    return weights, bias, x


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), c_in=st.integers(1, 12), c_out=st.integers(1, 6))
def test_outputs_are_those_of_symmetric_rounding_written_out_in_numpy(seed, c_in, c_out):
    weights, bias, x = drawn(seed, c_in, c_out)

    data = quantise(pointwise(weights, bias), Calibration({"x": x}))

    found = scales(data)
    np.testing.assert_allclose(found["x"], np.abs(x).max() / 127, rtol=0.005)
    np.testing.assert_allclose(found["w"], np.abs(weights).max(1) / 127, rtol=0.005)
    w8 = rounded(weights, found["w"][:, None])
    want = rounded(x[:, :, 0, 0], found["x"]) @ w8.T + bias
    np.testing.assert_allclose(run(data, {"x": x})[:, :, 0, 0], want, rtol=1e-4, atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), c_in=st.integers(1, 12), c_out=st.integers(1, 6))
def test_outputs_lie_within_the_bound_that_half_a_step_gives(seed, c_in, c_out):
    weights, bias, x = drawn(seed, c_in, c_out)

    data = quantise(pointwise(weights, bias), Calibration({"x": x}))

    found, flat = scales(data), np.abs(x[:, :, 0, 0])
    # A product of two rounded numbers: each is off by half a step, the largest by a little more
    # where the scale leaves it outside.
    off_x = found["x"] / 2 + np.maximum(flat.max() - 127 * found["x"], 0)
    off_w = found["w"] / 2 + np.maximum(np.abs(weights).max(1) - 127 * found["w"], 0)
    bound = (
        np.abs(weights).sum(1) * off_x + flat.sum(1)[:, None] * off_w + c_in * off_x * off_w + 1e-4
    )
    error = np.abs(run(data, {"x": x}) - run(pointwise(weights, bias), {"x": x}))[:, :, 0, 0]
    assert (error <= bound).all()
    assert error.max() > 0


def test_percentile_clips_a_lone_outlier_and_minmax_lets_it_fit():
    weights, bias, _ = drawn(0)
    x = np.random.default_rng(1).uniform(-1, 1, size=(10000, 5, 1, 1)).astype(np.float32)
    x[17, 2] = 100.0
    network = pointwise(weights, bias)

    wide = scales(quantise(network, Calibration({"x": x}, "minmax")))["x"]
    narrow = scales(quantise(network, Calibration({"x": x}, "percentile")))["x"]

    assert wide == pytest.approx(100 / 127, rel=0.01)
    assert narrow < 2 / 127


@pytest.fixture(scope="module")
def resnet():
    torch = pytest.importorskip("torch")
    from hil.net.export import export_onnx
    from hil.net.prototypes import resnet20

    torch.manual_seed(0)
    return export_onnx(resnet20(), (torch.rand(1, 1, 28, 28),))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).random((40, 1, 28, 28), "float32")


@pytest.mark.torch
def test_a_prototype_keeps_its_outputs_and_what_tensorrt_asks(resnet, pictures):
    data = quantise(resnet, Calibration({"input": pictures[:32]}))

    model = onnx.load_from_string(data)
    assert findings(data) == ()  # the table of TensorRT 8.2
    assert [(e.domain, e.version) for e in model.opset_import] == [("", 13)]
    assert model.ir_version == onnx.load_from_string(resnet).ir_version
    constants = {t.name: t for t in model.graph.initializer}
    points = {n.input[2] for n in model.graph.node if n.op_type.endswith("eLinear")}
    integers = {name for name, t in constants.items() if t.data_type == TensorProto.INT8}
    assert integers == points  # 8.x takes no INT8 weights: they are float in front of a pair
    assert not any(numpy_helper.to_array(constants[name]).any() for name in points)
    one = {"input": pictures[35:36]}
    full, eight = run(resnet, one), run(data, one)
    assert 0 < np.abs(full - eight).max() < 0.05 * np.abs(full).max()


@pytest.mark.torch
def test_a_shortcut_that_a_convolution_reads_in_int8_is_added_in_int8(resnet, pictures):
    graph = onnx.load_from_string(quantise(resnet, Calibration({"input": pictures}))).graph

    made_by = {name: node for node in graph.node for name in node.output}
    added = [[made_by[i].op_type for i in n.input] for n in graph.node if n.op_type == "Add"]
    assert len(added) == 9
    # Seven blocks pass their input on, two change its size by a convolution of their own.
    assert sorted(map(sorted, added)) == [["Conv", "Conv"]] * 2 + [["Conv", "DequantizeLinear"]] * 7


def test_the_same_samples_give_the_same_bytes_and_say_what_they_were():
    weights, bias, x = drawn(3)
    network = pointwise(weights, bias)

    data = quantise(network, Calibration({"x": x}))

    assert quantise(network, Calibration({"x": x.copy()})) == data
    told = calibration_of(data)
    assert (told["method"], told["samples"]) == ("minmax", 16)
    assert told["sha256"] == Calibration({"x": x}).key(network)
    assert told["sha256"] != Calibration({"x": x + 1}).key(network)
    assert told["sha256"] != Calibration({"x": x}, "percentile").key(network)
    assert calibration_of(network) is None
    assert (is_quantised(data), is_quantised(network)) == (True, False)


def test_a_fixed_batch_is_filled_with_samples():
    weights, bias, x = drawn(4, count=10)

    data = quantise(pointwise(weights, bias, batch=4), Calibration({"x": x}))

    np.testing.assert_allclose(scales(data)["x"], np.abs(x).max() / 127, rtol=0.005)


def test_a_batch_that_an_old_exporter_left_open_as_minus_one_is_open():
    weights, bias, x = drawn(3)
    named = quantise(pointwise(weights, bias), Calibration({"x": x}))

    data = quantise(pointwise(weights, bias, batch=-1), Calibration({"x": x}))

    assert sorted(scales(data)) == sorted(scales(named))
    for name, scale in scales(named).items():
        np.testing.assert_array_equal(scales(data)[name], scale)


def test_a_calibration_is_kept_by_content_and_a_damaged_one_made_anew(tmp_path):
    weights, bias, x = drawn(5)
    network, folder = pointwise(weights, bias), tmp_path / "kept"

    first = kept(folder, network, Calibration({"x": x}))

    (file,) = folder.iterdir()
    assert file.name == Calibration({"x": x}).key(network)
    before = file.stat().st_mtime_ns
    assert kept(folder, network, Calibration({"x": x})) == first
    assert file.stat().st_mtime_ns == before
    kept(folder, network, Calibration({"x": 2 * x}))
    assert len(list(folder.iterdir())) == 2
    whole = file.read_bytes()
    for damage in (b"", whole[:-1], whole[:-9] + b"?" + whole[-8:]):
        file.write_bytes(damage)
        assert kept(folder, network, Calibration({"x": x})) == first
        assert file.read_bytes() == whole


def test_samples_are_taken_from_all_over_sorted_data():
    assert evenly(np.arange(100), 5).tolist() == [0, 25, 50, 74, 99]
    assert evenly(np.arange(3), 5).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("samples", "word"),
    [
        ({}, "x"),
        ({"y": np.zeros((2, 5, 1, 1), np.float32)}, "differ"),
        ({"x": np.zeros((0, 5, 1, 1), np.float32)}, "some"),
        ({"x": np.zeros((2, 4, 1, 1), np.float32)}, "fit"),
        ({"x": np.zeros((2, 5), np.float32)}, "fit"),
        ({"x": np.zeros((2, 5, 1, 1), np.float64)}, "float64"),
        ({"x": np.full((2, 5, 1, 1), np.nan, np.float32)}, "finite"),
    ],
)
def test_samples_that_do_not_fit_are_refused(samples, word):
    weights, bias, _ = drawn(6)
    with pytest.raises(ConfigError, match=word):
        quantise(pointwise(weights, bias), Calibration(samples))


def test_what_cannot_be_int8_is_refused_with_what_to_do():
    weights, bias, x = drawn(7)
    network, calibration = pointwise(weights, bias), Calibration({"x": x})
    model = onnx.load_from_string(network)
    model.graph.node[0].op_type = "Relu"
    del model.graph.node[0].input[1:]

    for data, word in (
        (quantise(network, calibration), "already"),
        (pointwise(weights, bias, opset=9), "opset 9"),
        (model.SerializeToString(), "has no Conv"),
    ):
        with pytest.raises(ExportError) as refusal:
            quantise(data, calibration)
        assert word in refusal.value.why
        assert refusal.value.fix
