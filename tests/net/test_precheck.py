"""What a target would refuse, with the node, the rule and a remedy; nothing else is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hil.net.precheck import Target, precheck
from hil.net.sample import sample_network

TX2 = Target("tensorrt", 13, "fp16", "jetson-tx2")
ORIN = Target("tensorrt", 17, "fp16", "jetson-orin-nano")
ZERO = np.int8(0)
XAVIER = Target("tensorrt", 13, "int8", "jetson-xavier-nx")
HOST = Target("onnxruntime", 13, "fp32", "host")


def model(*nodes, opset=13, shape=(1, 4), weights=()):
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7).SerializeToString()


def relu(**more):
    return model(helper.make_node("Relu", ["x"], ["y"], "r"), **more)


def quantised(weights=None, zero=ZERO):
    """A convolution with Q and DQ before its input and its weights, or with weights held so."""
    held = np.ones((2, 3, 3, 3), np.float32) if weights is None else weights
    node = helper.make_node
    pair = [node("QuantizeLinear", ["w", "s", "z"], ["p"], "weights")] if weights is None else []
    return model(
        node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantise"),
        node("DequantizeLinear", ["q", "s", "z"], ["d"], "back"),
        *pair,
        node("DequantizeLinear", ["p" if pair else "w", "s", "z"], ["v"], "unpack"),
        node("Conv", ["d", "v"], ["y"], "conv"),
        shape=(1, 3, 8, 8),
        weights=(("s", np.float32(0.1)), ("z", zero), ("w", held)),
    )


def fatal(found):
    return [one for one in found if one.fatal]


@pytest.mark.parametrize("target", [TX2, HOST])
def test_a_plain_network_is_taken_without_a_word(target):
    assert precheck(sample_network(), target) == ()


def test_a_release_without_a_table_says_that_operators_were_not_judged():
    (note,) = precheck(relu(), ORIN)

    assert not note.fatal
    assert "not judged" in note.rule


@pytest.mark.parametrize(("target", "newest"), [(TX2, 13), (ORIN, 17), (HOST, 13)])
def test_opsets_end_where_the_target_says(target, newest):
    assert fatal(precheck(relu(opset=newest), target)) == []
    (one,) = fatal(precheck(relu(opset=newest + 1), target))
    assert f"{newest} at most" in one.rule
    assert f"opset {newest}" in one.remedy


def test_an_operator_that_is_not_there_is_named_with_its_node():
    (one,) = precheck(model(helper.make_node("NonZero", ["x"], ["y"], "where_is_it")), TX2)

    assert (one.node, one.op, one.fatal) == ("where_is_it", "NonZero", True)
    assert "NonZero" in one.rule
    assert one.remedy


def test_open_sizes_are_a_note_until_they_are_given():
    data = relu(shape=("n", 4))

    (note,) = precheck(data, TX2)
    assert (note.node, note.fatal) == ("x", False)
    assert "--shape x=1x4" in note.remedy
    given = Target("tensorrt", 13, "fp16", shapes={"x": (8, 4)})
    assert precheck(data, given) == ()


@pytest.mark.parametrize("shape", [(8, 5), (8,), (8, 4, 1)])
def test_sizes_that_the_file_does_not_allow_are_refused(shape):
    (one,) = precheck(relu(shape=("n", 4)), Target("tensorrt", 13, "fp16", shapes={"x": shape}))

    assert one.fatal
    assert "nx4" in one.rule


def test_an_input_that_is_not_there_is_refused():
    (one,) = precheck(relu(), Target("tensorrt", 13, "fp16", shapes={"q": (1, 4)}))

    assert one.fatal
    assert "x" in one.remedy


def test_fp16_is_no_choice_of_onnxruntime():
    (one,) = precheck(relu(), Target("onnxruntime", 13, "fp16"))

    assert one.fatal
    assert "fp32" in one.remedy


@pytest.mark.parametrize(
    ("board", "refused"),
    [("jetson-tx2", True), ("jetson-nano", True), ("jetson-xavier-nx", False)],
)
def test_int8_is_refused_where_the_board_has_none(board, refused):
    found = fatal(precheck(quantised(), Target("tensorrt", 13, "int8", board)))
    plain = fatal(precheck(sample_network(), Target("tensorrt", 13, "int8", board)))

    assert [one.node for one in found] == (["quantise"] if refused else [])
    assert len(plain) == refused
    assert all("fp16" in one.remedy for one in (*found, *plain))


def test_a_quantised_network_is_for_int8_alone():
    (one,) = fatal(precheck(quantised(), Target("tensorrt", 13, "fp16", "jetson-xavier-nx")))

    assert (one.node, "int8" in one.remedy) == ("quantise", True)


def test_int8_wants_scales_and_says_where_they_come_from():
    (note,) = precheck(sample_network(), XAVIER)

    assert not note.fatal
    assert "--calibrate" in note.remedy


def test_a_network_without_weighted_operators_cannot_be_int8():
    (one,) = fatal(precheck(relu(), XAVIER))

    assert "no Conv" in one.rule


def test_a_precision_that_the_devices_file_does_not_offer_is_refused():
    target = Target("tensorrt", 13, "int8", "jetson", ("fp16", "fp32"))

    (one,) = fatal(precheck(quantised(), target))

    assert "offers fp16, fp32" in one.rule


@pytest.mark.parametrize(
    ("weights", "opset", "word"),
    [
        (np.ones((2, 3, 3, 3), np.int8), 13, "INT8 constant"),
        (np.ones((2, 3, 3, 3), np.int8), 17, None),  # taken from 8.5 on
        (np.ones((2, 3, 3, 3), np.int32), 17, "INT32"),
    ],
)
def test_constants_that_tensorrt_does_not_dequantise_are_named(weights, opset, word):
    found = fatal(precheck(quantised(weights), Target("tensorrt", opset, "int8", "")))

    assert [one.node for one in found] == ([] if word is None else ["unpack"])
    assert word is None or word in found[0].rule


def test_uint8_is_named():
    found = fatal(precheck(quantised(zero=np.uint8(0)), XAVIER))

    assert {one.node for one in found} == {"quantise", "back", "weights", "unpack"}
    assert all("UINT8" in one.rule for one in found)


@pytest.mark.parametrize(("value", "notes"), [(65504.0, 0), (65536.0, 1)])
def test_weights_beyond_fp16_are_a_note(value, notes):
    node = helper.make_node("Mul", ["x", "w"], ["y"], "scale")
    data = model(node, weights=[("w", np.array([value], np.float32))])

    found = precheck(data, TX2)
    assert len(found) == notes
    assert all(one.node == "scale" and not one.fatal for one in found)
    assert precheck(data, Target("tensorrt", 13, "fp32")) == ()
