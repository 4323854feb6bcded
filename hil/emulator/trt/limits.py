"""What the ONNX parser of TensorRT 8.2 refuses, and how it says so.

The table of operators is NVIDIA's own (`data/onnx_tensorrt_8.2_operators.csv`); the restrictions
beside it are checked where a file alone can decide them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

NEWEST_OPSET = 13
TABLE = Path(__file__).resolve().parents[1] / "data" / "onnx_tensorrt_8.2_operators.csv"
EXPERIMENTAL = "Y [EXPERIMENTAL]"
RESIZE_TRANSFORMS = {
    "half_pixel",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
    "asymmetric",
    "align_corners",
}
RESIZE_MODES = {"nearest", "linear"}
MUST_BE_INITIALIZER = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "CumSum": (1,),
    "InstanceNormalization": (1, 2),
    "NonMaxSuppression": (2, 3, 4),
    "Slice": (3,),
    "Squeeze": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
}
"""Inputs, by index, whose values the parser needs at once."""
POOLS = {"AveragePool", "MaxPool", "LpPool"}
CONVOLUTIONS = {"Conv", "ConvTranspose"}
ZERO_POINTS = {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True)
class Refusal:
    """One complaint of the parser.

    Attributes:
        code: name of TensorRT's error code.
        node: index of the node in the file, -1 where none is meant.
        function: the parser's function that gave up.
        text: what it says.
    """

    code: str
    node: int
    function: str
    text: str


@lru_cache(maxsize=1)
def supported_operators() -> frozenset[str]:
    """The operators that the 8.2 parser imports."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return frozenset(row["operator"] for row in rows if row["supported"] in ("Y", EXPERIMENTAL))


def refusals(model: onnx.ModelProto) -> list[Refusal]:
    """Finds what the parser would refuse, in the order of the file; empty where it takes all.

    A wrong opset stops it before it looks at any node.
    """
    opset = max(
        (each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1
    )
    if opset > NEWEST_OPSET:
        text = (
            f'Assertion failed: opset_version <= {NEWEST_OPSET} && "Unsupported ONNX opset '
            f'version: {opset}. TensorRT 8.2 supports operators up to Opset {NEWEST_OPSET}."'
        )
        return [Refusal("UNSUPPORTED_GRAPH", -1, "importModel", text)]
    known = _constants(model.graph)
    found: list[Refusal] = []
    for index, node in enumerate(model.graph.node):
        found.extend(_node_refusals(index, node, known))
    return found


def _constants(graph: onnx.GraphProto) -> dict[str, Any]:
    known: dict[str, Any] = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values = [each.t for each in node.attribute if each.name == "value"]
            known[node.output[0]] = values[0] if values else None
        elif node.op_type in ("Identity", "Cast") and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
    return known


def _node_refusals(index: int, node: onnx.NodeProto, known: dict[str, Any]) -> Iterator[Refusal]:
    kind = node.op_type
    if node.domain not in ("", "ai.onnx") or kind not in supported_operators():
        text = (
            'Assertion failed: creator && "Plugin not found, are the plugin name, version, and '
            f'namespace correct?" (No importer registered for op: {kind})'
        )
        yield Refusal("UNSUPPORTED_NODE", index, "importFallbackPluginImporter", text)
        return
    for text in _restrictions(node, known):
        yield Refusal("UNSUPPORTED_NODE", index, f"import{kind}", f"Assertion failed: {text}")


def _restrictions(node: onnx.NodeProto, known: dict[str, Any]) -> Iterator[str]:
    kind = node.op_type
    for position in MUST_BE_INITIALIZER.get(kind, ()):
        name = node.input[position] if position < len(node.input) else ""
        if name and name not in known:
            yield f'inputs.at({position}).is_weights() && "{name} must be an initializer!"'
    attributes = {each.name: each for each in node.attribute}
    if kind == "Resize":
        yield from _resize(attributes)
    elif kind in POOLS | CONVOLUTIONS:
        yield from _dimensions(node, attributes, known)
    elif kind == "Einsum" and b"." in attributes["equation"].s:
        yield 'equation.find("...") == std::string::npos && "Ellipsis is not supported."'
    elif kind in ZERO_POINTS and len(node.input) > 2 and not _is_zero(known.get(node.input[2])):
        yield 'shiftIsAllZeros(zeroPoint) && "TRT only supports symmetric quantization."'
    if kind == "MaxPool" and len(node.output) > 1 and node.output[1]:
        yield 'node.output().size() == 1 && "Indices output tensor is unsupported."'


def _resize(attributes: dict[str, Any]) -> Iterator[str]:
    def text(name: str, default: str) -> str:
        return attributes[name].s.decode() if name in attributes else default

    transform = text("coordinate_transformation_mode", "half_pixel")
    if transform not in RESIZE_TRANSFORMS:
        yield f'"TensorRT does not support the transformation mode {transform} here!"'
    mode = text("mode", "nearest")
    if mode not in RESIZE_MODES:
        yield (
            '(mode == "nearest" || mode == "linear") && "This version of TensorRT only supports '
            f'nearest or linear, not {mode}!"'
        )


def _dimensions(
    node: onnx.NodeProto, attributes: dict[str, Any], known: dict[str, Any]
) -> Iterator[str]:
    rank = len(attributes["kernel_shape"].ints) if "kernel_shape" in attributes else None
    if rank is None and node.op_type in CONVOLUTIONS:
        weights = known.get(node.input[1])
        rank = len(weights.dims) - 2 if weights is not None else None
    if rank is not None and rank not in (2, 3):
        yield (
            f'(nbSpatialDims == 2 || nbSpatialDims == 3) && "{node.op_type} is 2D or 3D only, '
            f'not {rank}D."'
        )


def _is_zero(tensor: Any) -> bool:
    from onnx import numpy_helper

    return tensor is not None and not numpy_helper.to_array(tensor).any()
