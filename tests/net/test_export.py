"""Export: the opset that was asked for, one file, the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from hil.core.errors import ExportError, ParityError
from hil.net.export import check_parity, export_onnx, finish
from hil.net.onnxcheck import findings, inspect

pytestmark = pytest.mark.torch


def test_files_are_opset_13_batch_1_and_taken_by_the_board(net, pictures):
    data = export_onnx(net, (pictures,))

    info = inspect(data)
    assert info.opset == 13
    assert info.ir_version <= 8
    assert [(s.name, s.dtype, s.shape) for s in info.inputs] == [("input", "float", (1, 3, 16, 16))]
    assert [s.name for s in info.outputs] == ["output"]
    assert findings(data) == ()
    assert check_parity(net, data, (pictures[:1],)) < 1e-4


def test_norms_fold_into_their_convolutions_and_pooling_into_the_classifier(make_net, pictures):
    info = inspect(export_onnx(make_net("resnet20"), (pictures,)))

    # 21 convolutions of the network, and the pooled linear layer as one more.
    assert dict(info.operators) == {"Add": 9, "Conv": 22, "Flatten": 1, "Relu": 19}


def test_the_same_network_gives_the_same_bytes(make_net, pictures):
    assert export_onnx(make_net("unet"), (pictures,)) == export_onnx(make_net("unet"), (pictures,))


def test_the_mode_of_the_module_is_left_as_it_was(make_net, pictures):
    net = make_net("plain").train()

    data = export_onnx(net, (pictures,))

    assert net.training
    check_parity(net, data, (pictures[:1],))
    assert net.training


def test_an_open_batch_runs_at_any_size(make_net, pictures):
    net = make_net("plain")

    data = export_onnx(net, (pictures,), batch=None)

    assert [s.name for s in inspect(data).dynamic_inputs] == ["input"]
    check_parity(net, data, (torch.cat([pictures, pictures]),))


def test_a_batch_larger_than_the_example_is_filled(make_net, pictures):
    data = export_onnx(make_net("plain"), (pictures,), batch=4)

    assert inspect(data).inputs[0].shape == (4, 3, 16, 16)


class TwoInTwoOut(nn.Module):
    def forward(self, a, b):
        return a + b, a - b


def test_several_inputs_and_outputs_have_names():
    example = (torch.rand(1, 2), torch.rand(1, 2))

    data = export_onnx(TwoInTwoOut(), example)

    assert [s.name for s in inspect(data).inputs] == ["input", "input_1"]
    assert [s.name for s in inspect(data).outputs] == ["output", "output_1"]
    assert check_parity(TwoInTwoOut(), data, example) == 0.0


def test_parity_returns_the_largest_difference(make_net, pictures):
    net = make_net("plain")
    data = export_onnx(net, (pictures,))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        net.head.bias[2] += 0.25

    difference = check_parity(net, data, (pictures[:1],), atol=1.0)

    (by_hand,) = session.run(None, {"input": pictures[:1].numpy()})
    expected = np.abs(by_hand - net(pictures[:1]).detach().numpy()).max()
    assert difference == pytest.approx(expected)
    assert difference == pytest.approx(0.25, abs=1e-5)


def test_a_file_that_computes_something_else_is_refused(make_net, pictures):
    net = make_net("plain")
    model = onnx.load_model_from_string(export_onnx(net, (pictures,)))
    bias = next(t for t in model.graph.initializer if t.name == "head.bias")
    tampered = onnx.numpy_helper.to_array(bias) + 0.1
    bias.CopyFrom(onnx.numpy_helper.from_array(tampered, bias.name))

    with pytest.raises(ParityError, match=r"by 0\.1") as caught:
        check_parity(net, model.SerializeToString(), (pictures[:1],))

    assert caught.value.fix


def test_numbers_that_are_not_finite_are_no_parity(make_net, pictures):
    net = make_net("plain")
    model = onnx.load_model_from_string(export_onnx(net, (pictures,)))
    bias = next(t for t in model.graph.initializer if t.name == "head.bias")
    broken = np.full_like(onnx.numpy_helper.to_array(bias), np.nan)
    bias.CopyFrom(onnx.numpy_helper.from_array(broken, bias.name))

    with pytest.raises(ParityError):
        check_parity(net, model.SerializeToString(), (pictures[:1],))


class Unexportable(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x).abs()


class NeedsOpset14(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize("model", [Unexportable(), NeedsOpset14()])
def test_what_cannot_be_exported_is_refused_with_the_operation(model):
    with pytest.raises(ExportError, match="opset 13") as caught:
        export_onnx(model, (torch.rand(1, 4, 8),))

    assert "aten::" in (caught.value.why or "")
    assert caught.value.fix


@pytest.mark.parametrize(("opset", "ir_version"), [(14, 7), (18, 10), (13, 10)])
def test_what_an_exporter_hands_over_instead_is_refused(opset, ir_version):
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, (1, 2)) for n in ("x", "y")
    )
    model = onnx.helper.make_model(
        onnx.helper.make_graph([relu], "g", [x], [y]),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=ir_version,
    )

    with pytest.raises(ExportError, match=r"opset 13|IR version 10"):
        finish(model.SerializeToString(), 13)


class Nested(nn.Module):
    """Results in a dict of lists, as detectors give them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        return {"maps": [y, y * 2], "score": y.mean((1, 2, 3)), "none": None}


def test_nested_results_become_outputs_in_their_order(pictures):
    net = Nested()

    data = export_onnx(net, (pictures,))

    shapes = [(s.name, s.shape) for s in inspect(data).outputs]
    assert shapes == [
        ("output", (1, 4, 16, 16)),
        ("output_1", (1, 4, 16, 16)),
        ("output_2", (1,)),
    ]
    assert check_parity(net, data, (pictures[:1],)) < 1e-5
