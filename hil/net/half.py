"""A network's float32 made float16 in the ONNX file, for runtimes that take precision from there.

TensorRT 11 is strongly typed: it has no FP16 flag. Inputs and outputs stay float32 (a Cast beside
each), so that callers feed and read what they did before.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hil.core.errors import ExportError

_LARGEST = float(np.finfo(np.float16).max)
# Inputs that stay float32 whatever the network computes in (onnx operator specification).
_KEEP = {"Resize": (1, 2), "Upsample": (1,), "QuantizeLinear": (1,), "DequantizeLinear": (1,)}


def to_half(data: bytes) -> bytes:
    """Return the model with float16 weights and arithmetic; inputs and outputs as they were.

    Args:
        data: an ONNX model without subgraphs and without quantisation.

    Raises:
        ExportError: it holds subgraphs or quantisation, or a weight beyond float16's 65504.
    """
    model = onnx.load_model_from_string(data)
    graph = model.graph
    _refuse_what_has_no_half(graph)
    kept = _kept(graph)
    for tensor in _constants(graph, kept):
        _halve(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            to_float = attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT
            if node.op_type == "Cast" and to_float and node.output[0] not in kept:
                attribute.i = TensorProto.FLOAT16
    del graph.value_info[:]  # they named the old types
    first = [_into_half(graph, value) for value in _open_inputs(graph)]
    last = [_out_of_half(graph, value) for value in graph.output if _is_float(value)]
    nodes = [*filter(None, first), *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    made = bytes(model.SerializeToString())
    if all(value.type.tensor_type.HasField("shape") for value in graph.output):
        onnx.checker.check_model(model, full_check=True)  # which wants a shape everywhere
    return made


def _refuse_what_has_no_half(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        inner = [a for a in node.attribute if a.HasField("g") or a.graphs]
        if inner or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            raise ExportError(
                f"{node.name or node.op_type} ({node.op_type}) cannot be made float16",
                why="networks with branches or quantisation are left as they are",
                fix="ask for fp32: a quantised network carries its own precision",
            )


def _kept(graph: onnx.GraphProto) -> set[str]:
    """Names of tensors that operators demand in float32."""
    return {
        node.input[index]
        for node in graph.node
        for index in _KEEP.get(node.op_type, ())
        if index < len(node.input)
    }


def _constants(graph: onnx.GraphProto, kept: set[str]) -> Iterator[onnx.TensorProto]:
    for tensor in graph.initializer:
        if tensor.name not in kept:
            yield tensor
    for node in graph.node:
        for attribute in node.attribute:
            constant = node.op_type in ("Constant", "ConstantOfShape")
            if constant and attribute.HasField("t") and node.output[0] not in kept:
                yield attribute.t


def _halve(tensor: onnx.TensorProto) -> None:
    if tensor.data_type != TensorProto.FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    if np.abs(values[np.isfinite(values)]).max(initial=0.0) > _LARGEST:
        raise ExportError(
            f"the weights {tensor.name} do not fit float16",
            why=f"the largest is {np.abs(values).max():g}; float16 ends at {_LARGEST:g}",
            fix="scale them down, or keep fp32",
        )
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)


def _open_inputs(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name in weights:
            if _is_float(value):
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
        elif _is_float(value):
            yield value


def _into_half(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> onnx.NodeProto:
    name = f"{value.name}_half"
    for node in graph.node:
        for index, used in enumerate(node.input):
            if used == value.name:
                node.input[index] = name
    return helper.make_node(
        "Cast", [value.name], [name], name=f"cast_{name}", to=TensorProto.FLOAT16
    )


def _out_of_half(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> onnx.NodeProto:
    name = f"{value.name}_half"
    for node in graph.node:
        for side in (node.input, node.output):
            for index, used in enumerate(side):
                if used == value.name:
                    side[index] = name
    return helper.make_node(
        "Cast", [name], [value.name], name=f"cast_{value.name}", to=TensorProto.FLOAT
    )
