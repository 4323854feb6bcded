"""Exact simplifications of ONNX graphs that the general simplifier leaves undone."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def drop_repeated_relus(model: onnx.ModelProto) -> int:
    """Remove every Relu that reads another Relu's result, in place: max(max(x, 0), 0) is max(x, 0).

    Dropped residual branches leave such pairs behind, and TensorRT runs each as a kernel of its
    own. A Relu whose result is an output of the graph stays, for its name's sake.

    Returns:
        How many were removed.
    """
    graph = model.graph
    outputs = {value.name for value in graph.output}
    source: dict[str, str] = {}
    kept = []
    relus: set[str] = set()
    for node in graph.node:  # in topological order, as ONNX demands
        for index, name in enumerate(node.input):
            node.input[index] = source.get(name, name)
        plain = node.op_type == "Relu" and node.domain in ("", "ai.onnx")
        if plain and node.input[0] in relus and node.output[0] not in outputs:
            source[node.output[0]] = node.input[0]
            continue
        if plain:
            relus.add(node.output[0])
        kept.append(node)
    removed = len(graph.node) - len(kept)
    if removed:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)
    return removed


MOST_MERGED_WEIGHTS = 65_536
"""Weights that a merged layer may have: reading so many costs less than launching a kernel."""


def merge_pooled_linear(model: onnx.ModelProto) -> int:
    """Turn global average pooling, a view and a linear layer into one convolution, in place.

    The mean over H x W followed by W x + b is a convolution whose H x W kernel holds W / (H W) at
    every position: the same function in one kernel instead of two. Done only where the pooled
    size is known and the larger weights stay small (`MOST_MERGED_WEIGHTS`).

    Returns:
        How many were merged.
    """
    graph = model.graph
    shapes = _shapes(model)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    merged = 0
    for pool in [n for n in graph.node if n.op_type == "GlobalAveragePool"]:
        chain = _chain(pool, readers, outputs)
        if chain is None:
            continue
        view, gemm = chain
        weights = _convolution_weights(gemm, constants, shapes.get(pool.input[0]))
        if weights is None:
            continue
        _rewrite(graph, (pool, view, gemm), weights)
        merged += 1
    return merged


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for value in (*graph.value_info, *graph.input):
        sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if sizes and all(size > 0 for size in sizes):
            found[value.name] = sizes
    return found


def _chain(
    pool: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]], outputs: set[str]
) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """The view and the linear layer that alone read the pooled result."""

    def only_reader(node: onnx.NodeProto, ops: tuple[str, ...]) -> onnx.NodeProto | None:
        found = readers.get(node.output[0], [])
        alone = len(found) == 1 and node.output[0] not in outputs
        return found[0] if alone and found[0].op_type in ops else None

    view = only_reader(pool, ("Flatten",))
    if view is None or any(a.name == "axis" and a.i != 1 for a in view.attribute):
        return None
    gemm = only_reader(view, ("Gemm",))
    return None if gemm is None else (view, gemm)


def _convolution_weights(
    gemm: onnx.NodeProto, constants: dict[str, onnx.TensorProto], pooled: list[int] | None
) -> np.ndarray | None:
    """Weights (out, in, H, W), or None where the layer cannot be merged."""
    attributes = {a.name: a for a in gemm.attribute}
    plain = all(name not in attributes or attributes[name].f == 1.0 for name in ("alpha", "beta"))
    flipped = "transA" in attributes and attributes["transA"].i
    known = len(gemm.input) == 3 and {gemm.input[1], gemm.input[2]} <= constants.keys()
    if not plain or flipped or not known or pooled is None or len(pooled) != 4:
        return None
    matrix = numpy_helper.to_array(constants[gemm.input[1]])
    if not ("transB" in attributes and attributes["transB"].i):
        matrix = matrix.T
    area = pooled[2] * pooled[3]
    bias = constants[gemm.input[2]]
    if matrix.size * area > MOST_MERGED_WEIGHTS or list(bias.dims) != [matrix.shape[0]]:
        return None
    spread = matrix[:, :, None, None] / np.float32(area)
    kernel = np.broadcast_to(spread, (*matrix.shape, pooled[2], pooled[3]))
    return np.ascontiguousarray(kernel, dtype=np.float32)


def _rewrite(
    graph: onnx.GraphProto,
    nodes: tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto],
    weights: np.ndarray,
) -> None:
    pool, view, gemm = nodes
    name = f"{gemm.input[1]}_pooled"
    graph.initializer.append(numpy_helper.from_array(weights, name))
    between = f"{gemm.output[0]}_map"
    convolution = helper.make_node(
        "Conv",
        [pool.input[0], name, gemm.input[2]],
        [between],
        gemm.name or "pooled_linear",
        kernel_shape=list(weights.shape[2:]),
    )
    flatten = helper.make_node("Flatten", [between], [gemm.output[0]], view.name, axis=1)
    new = []
    for node in graph.node:
        if node.output[0] == gemm.output[0]:
            new += [convolution, flatten]
        elif node.output[0] not in (pool.output[0], view.output[0]):
            new.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(new)
    if not any(gemm.input[1] in node.input for node in graph.node):
        unused = next(t for t in graph.initializer if t.name == gemm.input[1])
        graph.initializer.remove(unused)
