"""What an engine for a network would launch: one record per kernel, with its work and its traffic.

Rule of this file: counting only. It knows shapes, and neither clocks nor watts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

from hil.core.errors import ConfigError
from hil.emulator.fusion import (
    ANCHORS,
    EPILOGUE_ACTIVATIONS,
    POINTWISE,
    TENSORRT_8_2,
    FusionRules,
    Group,
    fuse,
)
from hil.emulator.onnx_graph import Graph, Node, read_graph

if TYPE_CHECKING:
    import onnx

Kind = Literal[
    "conv3x3",
    "conv1x1",
    "conv",
    "depthwise",
    "gemm",
    "pool",
    "pointwise",
    "elementwise",
    "reduce",
    "resize",
    "copy",
    "softmax",
]
MATRIX_KINDS = frozenset({"conv3x3", "conv1x1", "conv", "gemm"})
"""Kinds that run as tiled matrix products; FP16 doubles their arithmetic."""

ITEM_BYTES = {"fp32": 4, "fp16": 2}
KINDS: dict[str, Kind] = {
    "MaxPool": "pool",
    "AveragePool": "pool",
    "LpPool": "pool",
    "GlobalAveragePool": "reduce",
    "GlobalMaxPool": "reduce",
    "ReduceMean": "reduce",
    "ReduceSum": "reduce",
    "ReduceMax": "reduce",
    "ReduceMin": "reduce",
    "ReduceProd": "reduce",
    "ReduceL2": "reduce",
    "ArgMax": "reduce",
    "TopK": "reduce",
    "InstanceNormalization": "reduce",
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "Resize": "resize",
    "Upsample": "resize",
}


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Attributes:
        name: as TensorRT names fused layers, e.g. `Conv_0 + Relu_1`.
        nodes: names of the ONNX nodes inside.
        kind: `conv3x3` is dense with stride 1 (Winograd may apply), `conv1x1` is dense; `conv`
            is every other convolution that is not depthwise; `elementwise` joins two tensors
            (and may end in an activation), `pointwise` is every other run of pointwise nodes.
        macs: multiply-adds of convolutions and matrix products.
        ops: other arithmetic operations.
        bytes_in: activations read, a residual operand included.
        bytes_out: activations written.
        bytes_weights: weights read.
        m: rows of the matrix product: output positions, batch included.
        n: columns: output channels of one group.
        k: inner length.
        groups: how many such products run side by side.
        precision: fp32 or fp16.
    """

    name: str
    nodes: tuple[str, ...]
    kind: Kind
    macs: int
    ops: int
    bytes_in: int
    bytes_out: int
    bytes_weights: int
    m: int
    n: int
    k: int
    groups: int
    precision: str


def lower(
    model: onnx.ModelProto,
    precision: str,
    shapes: Mapping[str, Sequence[int]] | None = None,
    rules: FusionRules = TENSORRT_8_2,
) -> tuple[Kernel, ...]:
    """Turns a network into the kernels of its engine, in launch order.

    Args:
        model: the network; values of large weights are not looked at and may be absent.
        precision: fp32 or fp16, for every kernel.
        shapes: shapes of inputs that the model leaves open, by name.
        rules: what the builder merges.

    Raises:
        ConfigError: unknown precision, or an input's shape is open.
        ExportError: shapes cannot be inferred.
    """
    if precision not in ITEM_BYTES:
        raise ConfigError(f"precision {precision} is not one of {', '.join(ITEM_BYTES)}")
    graph = read_graph(model, shapes, fold_constants=rules.fold_constants)
    return lower_graph(graph, precision, rules)


def lower_graph(
    graph: Graph, precision: str, rules: FusionRules = TENSORRT_8_2
) -> tuple[Kernel, ...]:
    """Turns a graph that has been read into the kernels of its engine, in launch order."""
    groups = fuse(graph, rules)
    counter = _Counter(graph, precision, _written_in_place(graph, groups))
    kernels = [kernel for group in groups if (kernel := counter.kernel(group)) is not None]
    if precision == "fp16" and rules.reformat and kernels:
        return (*counter.reformats_in(groups), *kernels, *counter.reformats_out(groups))
    return tuple(kernels)


@dataclass(frozen=True)
class _Counter:
    """Counts the work of groups of one graph at one precision."""

    graph: Graph
    precision: str
    in_place: Mapping[str, frozenset[str]]

    def kernel(self, group: Group) -> Kernel | None:
        """Returns the group's kernel, None where nothing has to be launched."""
        head = group.nodes[0]
        if head.op == "Concat":
            return self._concatenation(head, group)
        if group.anchored:
            return self._matrix(head, group)
        kind: Kind = KINDS.get(head.op, "copy")
        if head.op in POINTWISE:
            kind = "elementwise" if self._joins_two(group) else "pointwise"
        return self._simple(group, kind, self._operations(group, kind))

    def _joins_two(self, group: Group) -> bool:
        """Whether a group is one sum or product of tensors, at most with its activation."""
        rest = group.nodes[1:]
        activated = not rest or (len(rest) == 1 and rest[0].op in EPILOGUE_ACTIVATIONS)
        return activated and len(self.graph.variables(group.nodes[0])) > 1

    def reformats_in(self, groups: Sequence[Group]) -> list[Kernel]:
        """Returns the conversions of the network's inputs to FP16."""
        first = {name: group for group in reversed(groups) for name in group.inputs}
        return [
            self._copy(f"Reformatting CopyNode for Input Tensor 0 to {_name(first[name])}", name)
            for name in self.graph.inputs
            if name in first
        ]

    def reformats_out(self, groups: Sequence[Group]) -> list[Kernel]:
        """Returns the conversions of the network's outputs back to FP32."""
        made = {name for group in groups for node in group.nodes for name in node.outputs}
        return [
            self._copy(f"Reformatting CopyNode for Output Tensor 0 to {name}", name, back=True)
            for name in self.graph.outputs
            if name in made or name not in self.graph.constants
        ]

    def _bytes(self, elements: int) -> int:
        return elements * ITEM_BYTES[self.precision]

    def _copy(self, name: str, tensor: str, *, back: bool = False) -> Kernel:
        count = self.graph.elements(tensor)
        sizes = (self._bytes(count), 4 * count)
        read, written = sizes if back else (sizes[1], sizes[0])
        return self._record(name, (), "copy", count, read, written)

    def _record(
        self, name: str, nodes: tuple[str, ...], kind: Kind, ops: int, read: int, written: int
    ) -> Kernel:
        elements = written // ITEM_BYTES[self.precision]
        return Kernel(
            name, nodes, kind, 0, ops, read, written, 0, elements, 1, 1, 1, self.precision
        )

    def _traffic(self, group: Group) -> tuple[int, int]:
        read = sum(self._bytes(self.graph.elements(name)) for name in group.inputs)
        return read, sum(
            self._bytes(self.graph.elements(name))
            for name in (group.output, *group.nodes[-1].outputs[1:])
            if name in self.graph.shapes
        )

    def _simple(self, group: Group, kind: Kind, ops: int) -> Kernel:
        read, written = self._traffic(group)
        if kind == "copy":
            read = min(read, written)  # A slice reads no more than it keeps.
        return self._record(_name(group), _nodes(group), kind, ops, read, written)

    def _operations(self, group: Group, kind: Kind) -> int:
        head = group.nodes[0]
        written = self.graph.elements(group.output)
        if kind in {"pointwise", "elementwise"}:
            return sum(self.graph.elements(node.outputs[0]) for node in group.nodes)
        if kind == "pool":
            return written * int(prod(head.attributes.get("kernel_shape", [1])))
        if kind in {"reduce", "softmax"}:
            read = sum(self.graph.elements(name) for name in group.inputs)
            return read * (5 if kind == "softmax" else 1)
        return written * (4 if kind == "resize" else 1)

    def _matrix(self, head: Node, group: Group) -> Kernel:
        kind, m, n, k, groups = self._product(head)
        read, written = self._traffic(group)
        weights = [name for name in head.inputs[:2] if name in self.graph.constants]
        return Kernel(
            name=_name(group),
            nodes=_nodes(group),
            kind=kind,
            macs=m * n * k * groups,
            ops=self.graph.elements(group.output) * (len(group.nodes) - 1),
            bytes_in=read,
            bytes_out=written,
            bytes_weights=sum(self._bytes(self.graph.elements(name)) for name in weights),
            m=m,
            n=n,
            k=k,
            groups=groups,
            precision=self.precision,
        )

    def _product(self, head: Node) -> tuple[Kind, int, int, int, int]:
        """Returns kind, rows, columns, inner length and number of a node's matrix products."""
        out = self.graph.shape(head.outputs[0])
        left, right = (self.graph.shape(name) for name in head.inputs[:2])
        if head.op == "Gemm":
            inner = left[0] if head.attributes.get("transA") else left[1]
            return "gemm", out[0], out[1], inner, 1
        if head.op == "MatMul":
            if head.inputs[1] in self.graph.constants and len(right) == 2:
                return "gemm", prod(out[:-1]), out[-1], left[-1], 1
            rows = out[-2] if len(left) > 1 else 1
            columns = out[-1] if len(right) > 1 else 1
            return "gemm", rows, columns, left[-1], prod(out) // (rows * columns)
        groups = int(head.attributes.get("group", 1))
        if head.op == "ConvTranspose":
            positions, columns = left[0] * prod(left[2:]), right[1] * prod(right[2:])
            return "conv", positions, columns, left[1] // groups, groups
        kind = _convolution_kind(head, left[1], right[2:], groups)
        return kind, out[0] * prod(out[2:]), out[1] // groups, prod(right[1:]), groups

    def _concatenation(self, head: Node, group: Group) -> Kernel | None:
        """Returns the copies a concatenation needs: only of what cannot be written in place."""
        in_place = self.in_place.get(head.outputs[0], frozenset())
        copied = [name for name in group.inputs if name not in in_place]
        if not copied:
            return None
        moved = self._bytes(sum(self.graph.elements(name) for name in copied))
        ops = moved // ITEM_BYTES[self.precision]
        return self._record(f"{head.name} copy", (head.name,), "copy", ops, moved, moved)


def _convolution_kind(head: Node, channels: int, kernel: tuple[int, ...], groups: int) -> Kind:
    if groups > 1:
        return "depthwise" if groups == channels else "conv"
    if all(size == 1 for size in kernel):
        return "conv1x1"
    steps = [*head.attributes.get("strides", []), *head.attributes.get("dilations", [])]
    dense = all(step == 1 for step in steps)
    return "conv3x3" if dense and kernel == (3, 3) else "conv"


def _written_in_place(graph: Graph, groups: Sequence[Group]) -> dict[str, frozenset[str]]:
    """Tells, per concatenation, which inputs their kernels can write where they belong.

    That needs a contiguous place (nothing but ones before the axis), a kernel that makes the
    input, and no other concatenation that wants the same tensor.
    """
    made = {name for group in groups for name in (group.output, *group.nodes[-1].outputs)}
    taken: set[str] = set()
    result = {}
    for group in groups:
        head = group.nodes[0]
        if head.op != "Concat":
            continue
        shape = graph.shape(head.outputs[0])
        axis = int(head.attributes["axis"]) % len(shape)
        placed: set[str] = set()
        if prod(shape[:axis]) == 1:
            placed = {
                name
                for name in group.inputs
                if name in made and name not in taken and group.inputs.count(name) == 1
            }
        taken |= placed
        result[head.outputs[0]] = frozenset(placed)
    return result


def _nodes(group: Group) -> tuple[str, ...]:
    return tuple(node.name for node in sorted(group.nodes, key=lambda node: node.index))


def _name(group: Group) -> str:
    names = _nodes(group)
    if len(names) > 1 and group.nodes[0].op not in ANCHORS:
        return f"PWN({', '.join(names)})"
    return " + ".join(names)
