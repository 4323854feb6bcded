"""An ONNX graph as an engine builder sees it: live nodes only, constants folded, every shape known.

Rule of this file: it knows ONNX and no hardware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hil.core.errors import ConfigError, ExportError

Shape = tuple[int, ...]
SMALL_TENSOR = 4096
"""Constants up to this many elements keep their data while shapes are inferred."""


@dataclass(frozen=True)
class Node:
    """One live node. `inputs` and `outputs` are tensor names, absent optional inputs left out."""

    index: int
    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """Live nodes in execution order, with the shape of every tensor they touch.

    Attributes:
        constants: tensors that are known before the first inference and cost nothing.
        computed_constants: tensors that depend on no input and are computed all the same.
    """

    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    constants: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    computed_constants: frozenset[str] = frozenset()

    def elements(self, tensor: str) -> int:
        """Counts the elements of a tensor."""
        return prod(self.shape(tensor))

    def shape(self, tensor: str) -> Shape:
        """Returns the shape of a tensor.

        Raises:
            ExportError: shape inference did not reach it.
        """
        if tensor not in self.shapes:
            raise ExportError(
                f"the shape of tensor {tensor} cannot be inferred",
                fix="simplify the network (onnxslim) or export it with static shapes",
            )
        return self.shapes[tensor]

    def variables(self, node: Node) -> tuple[str, ...]:
        """Returns the inputs of a node that change from inference to inference."""
        return tuple(name for name in node.inputs if name not in self.constants)


def read_graph(
    model: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    fold_constants: bool = True,
) -> Graph:
    """Reads a model's live part.

    Args:
        model: the network; its weights' values are not looked at.
        shapes: shapes of inputs, where the model leaves them open; an open first dimension is
            taken as a batch of 1.
        fold_constants: what depends on no input is computed beforehand.

    Raises:
        ConfigError: an input's shape is open and not given.
        ExportError: shapes cannot be inferred.
    """
    light = _light_copy(model, shapes or {})
    known = _infer(light)
    while _fold(light, known):
        known = _infer(light)
    return live_part(
        [_node(index, node) for index, node in enumerate(light.graph.node)],
        known,
        frozenset(tensor.name for tensor in light.graph.initializer),
        tuple(value.name for value in light.graph.input),
        tuple(value.name for value in light.graph.output),
        fold_constants=fold_constants,
    )


def live_part(
    nodes: Sequence[Node],
    shapes: Mapping[str, Shape],
    weights: frozenset[str],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    *,
    fold_constants: bool = True,
) -> Graph:
    """Keeps the nodes whose results reach an output and are not known beforehand."""
    known = _independent(nodes, shapes, weights)
    constants = known if fold_constants else weights
    wanted = set(outputs)
    live: list[Node] = []
    for node in reversed(nodes):
        if wanted.isdisjoint(node.outputs) or constants.issuperset(node.outputs):
            continue
        wanted.update(node.inputs)
        live.append(node)
    return Graph(tuple(reversed(live)), shapes, constants, inputs, outputs, known - constants)


def _node(index: int, node: onnx.NodeProto) -> Node:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return Node(
        index,
        node.name or f"{node.op_type}_{index}",
        node.op_type,
        tuple(name for name in node.input if name),
        tuple(name for name in node.output if name),
        attributes,
    )


def _independent(
    nodes: Sequence[Node], shapes: Mapping[str, Shape], weights: frozenset[str]
) -> frozenset[str]:
    """Names every tensor that does not depend on the network's inputs' values."""
    known = set(weights)
    for node in nodes:
        shape_only = node.op in {"Shape", "Size"} and all(name in shapes for name in node.inputs)
        random = node.op.startswith(("Random", "Multinomial", "Bernoulli"))
        if shape_only or (not random and all(name in known for name in node.inputs)):
            known.update(node.outputs)
    return frozenset(known)


def _infer(model: onnx.ModelProto) -> dict[str, Shape]:
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError("shapes of the network do not fit together", why=str(error)) from error
    return _known_shapes(inferred.graph)


def _fold(model: onnx.ModelProto, known: Mapping[str, Shape]) -> bool:
    """Computes nodes whose small inputs are known and puts their results in their place.

    Needed for networks whose shapes are computed by the network itself. Does nothing where
    every shape is known already.

    Returns:
        Whether anything was computed.
    """
    made = [name for node in model.graph.node for name in node.output if name]
    if all(name in known for name in made):
        return False
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if _has_data(t)}
    kept, count = [], len(values)
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in known and not node.attribute:
            values[node.output[0]] = np.array(known[node.input[0]], dtype=np.int64)
        elif all(name in values for name in node.input if name) and _is_small(node, known):
            values |= _evaluate(node, values, model.opset_import)
        if not all(name in values for name in node.output if name):
            kept.append(node)
    if len(values) == count:
        return False
    old = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in values.items() if name not in old
    )
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return True


def _has_data(tensor: TensorProto) -> bool:
    return prod(tensor.dims) <= SMALL_TENSOR and (
        prod(tensor.dims) == 0 or len(tensor.raw_data) > 0 or _has_typed_data(tensor)
    )


def _has_typed_data(tensor: TensorProto) -> bool:
    return any((tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data))


def _is_small(node: onnx.NodeProto, known: Mapping[str, Shape]) -> bool:
    return all(prod(known.get(name, ())) <= SMALL_TENSOR for name in node.output)


def _evaluate(
    node: onnx.NodeProto, values: Mapping[str, np.ndarray[Any, Any]], opsets: Any
) -> dict[str, np.ndarray[Any, Any]]:
    """Runs one node; nodes that the reference evaluator cannot run stay unknown."""
    if node.op_type.startswith("Random"):
        return {}
    feeds = {name: values[name] for name in node.input if name}
    names = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_empty_tensor_value_info(name) for name in feeds],
        [helper.make_empty_tensor_value_info(name) for name in names],
    )
    one = helper.make_model(graph, opset_imports=list(opsets))
    try:
        results = ReferenceEvaluator(one).run(None, feeds)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return {}
    return dict(zip(names, results, strict=True))


def _light_copy(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """Copies a model without the values of its weights, and with every input's shape closed."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [
        _closed_input(value, shapes.get(value.name))
        for value in graph.input
        if value.name not in weights
    ]
    outputs = [helper.make_empty_tensor_value_info(value.name) for value in graph.output]
    light = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    light.opset_import.extend(model.opset_import)
    light.graph.name = graph.name or "graph"
    light.graph.node.extend(graph.node)
    light.graph.input.extend(inputs)
    light.graph.output.extend(outputs)
    light.graph.initializer.extend(_light_tensor(tensor) for tensor in graph.initializer)
    return light


def _light_tensor(tensor: TensorProto) -> TensorProto:
    if prod(tensor.dims) <= SMALL_TENSOR and tensor.data_location != TensorProto.EXTERNAL:
        return tensor
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


def _closed_input(value: onnx.ValueInfoProto, given: Sequence[int] | None) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim]
    if given is not None:
        dims = list(given)
    elif dims and dims[0] is None:
        dims[0] = 1
    if None in dims or not (dims or tensor.HasField("shape")):
        raise ConfigError(
            f"input {value.name} leaves its shape open",
            fix=f"give it, for example --shape {value.name}=1x3x224x224",
        )
    return helper.make_tensor_value_info(value.name, tensor.elem_type, dims)


def _known_shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape"):
            dims = tuple(d.dim_value for d in tensor.shape.dim)
            if all(d.HasField("dim_value") for d in tensor.shape.dim):
                known[value.name] = dims
    return known
