"""Networks whose TX2 latency is published, as ONNX graphs from their published definitions.

The weights have shapes and no values: the graphs can be lowered, not run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

Tensor = tuple[str, int]
"""A tensor while a graph is built: its name and its channels."""

NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL_3X3 = range(5)
CELL_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


class NetworkBuilder:
    """Writes an ONNX graph layer by layer; every layer returns its output."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []
        shape = [1, channels, height, width]
        self._input = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
        self.input: Tensor = ("input", channels)

    def conv(self, x: Tensor, channels: int, kernel: int, stride: int = 1, **more: Any) -> Tensor:
        """Adds a convolution; `pad` defaults to half the kernel, `groups` to 1."""
        groups, pad = more.get("groups", 1), more.get("pad", kernel // 2)
        weight = self._weight([channels, x[1] // groups, kernel, kernel])
        return self.node(
            "Conv",
            [x[0], weight],
            channels,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad] * 4,
            group=groups,
        )

    def batch_norm(self, x: Tensor) -> Tensor:
        """Adds a batch normalisation."""
        parameters = [self._weight([x[1]]) for _ in range(4)]
        return self.node("BatchNormalization", [x[0], *parameters], x[1])

    def relu(self, x: Tensor) -> Tensor:
        """Adds a ReLU."""
        return self.node("Relu", [x[0]], x[1])

    def conv_bn_relu(self, x: Tensor, channels: int, kernel: int, stride: int = 1) -> Tensor:
        """Adds the usual three."""
        return self.relu(self.batch_norm(self.conv(x, channels, kernel, stride)))

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Adds a sum of two tensors."""
        return self.node("Add", [x[0], y[0]], x[1])

    def add_constant(self, x: Tensor) -> Tensor:
        """Adds a sum with a scalar."""
        return self.node("Add", [x[0], self._weight([])], x[1])

    def pool(self, x: Tensor, kernel: int, stride: int, pad: int = 0, op: str = "Max") -> Tensor:
        """Adds a pooling; `op` is Max or Average."""
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self.node(f"{op}Pool", [x[0]], x[1], **sizes)

    def global_pool(self, x: Tensor) -> Tensor:
        """Adds a mean over all positions."""
        return self.node("GlobalAveragePool", [x[0]], x[1])

    def linear(self, x: Tensor, features: int) -> Tensor:
        """Adds a linear layer over one position per channel."""
        flat = self.node("Flatten", [x[0]], x[1])
        weights = [self._weight([features, x[1]]), self._weight([features])]
        return self.node("Gemm", [flat[0], *weights], features, transB=1)

    def softmax(self, x: Tensor) -> Tensor:
        """Adds a softmax."""
        return self.node("Softmax", [x[0]], x[1])

    def node(self, op: str, inputs: Sequence[str], channels: int, **attributes: Any) -> Tensor:
        """Adds any node with one output."""
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out", channels

    def model(self, output: Tensor) -> onnx.ModelProto:
        """Closes the graph."""
        outputs = [helper.make_empty_tensor_value_info(output[0])]
        graph = helper.make_graph(self._nodes, "network", [self._input], outputs, self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])

    def _weight(self, dims: Sequence[int]) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims))
        return name


def resnet_v1(units: Sequence[int], size: int = 224) -> onnx.ModelProto:
    """Builds a bottleneck ResNet v1 as TF-slim does: the last unit of a stage halves the size."""
    net = NetworkBuilder(3, size, size)
    x = net.pool(net.conv_bn_relu(net.input, 64, 7, 2), 3, 2, 1)
    for stage, count in enumerate(units):
        width = 64 << stage
        for unit in range(count):
            stride = 2 if unit == count - 1 and stage < len(units) - 1 else 1
            x = _bottleneck(net, x, width, stride)
    logits = net.linear(net.global_pool(x), 1000)
    return net.model(net.softmax(logits))


def _bottleneck(net: NetworkBuilder, x: Tensor, width: int, stride: int) -> Tensor:
    if x[1] == 4 * width:
        shortcut = net.pool(x, 1, stride) if stride > 1 else x
    else:
        shortcut = net.batch_norm(net.conv(x, 4 * width, 1, stride))
    y = net.conv_bn_relu(net.conv_bn_relu(x, width, 1), width, 3, stride)
    y = net.batch_norm(net.conv(y, 4 * width, 1))
    return net.relu(net.add(y, shortcut))


def vgg16() -> onnx.ModelProto:
    """Builds VGG-16 with its fully connected layers."""
    net = NetworkBuilder(3, 224, 224)
    x = net.input
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            x = net.relu(net.conv(x, width, 3))
        x = net.pool(x, 2, 2)
    x = net.relu(net.conv(x, 4096, 7, pad=0))
    x = net.relu(net.linear(x, 4096))
    return net.model(net.softmax(net.linear(x, 1000)))


def mobilenet_v1(multiplier: float, size: int) -> onnx.ModelProto:
    """Builds MobileNet v1 at a width multiplier and an input size."""
    net = NetworkBuilder(3, size, size)
    x = net.conv_bn_relu(net.input, int(32 * multiplier), 3, 2)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    for width, stride in [*plan, *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        depthwise = net.conv(x, x[1], 3, stride, groups=x[1])
        x = net.relu(net.batch_norm(depthwise))
        x = net.conv_bn_relu(x, int(width * multiplier), 1)
    return net.model(net.softmax(net.linear(net.global_pool(x), 1001)))


PUBLISHED: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "resnet_v1_50": lambda: resnet_v1((3, 4, 6, 3)),
    "resnet_v1_101": lambda: resnet_v1((3, 4, 23, 3)),
    "resnet_v1_152": lambda: resnet_v1((3, 8, 36, 3)),
    "vgg_16": vgg16,
    "mobilenet_v1_0p25_128": lambda: mobilenet_v1(0.25, 128),
    "mobilenet_v1_0p5_160": lambda: mobilenet_v1(0.5, 160),
    "mobilenet_v1_1p0_224": lambda: mobilenet_v1(1.0, 224),
}
"""Builders by the name of the row in NVIDIA's table."""


def nas_bench_201(
    ops: Sequence[int], size: int = 32, classes: int = 10, width: int = 16
) -> onnx.ModelProto | None:
    """Builds the NAS-Bench-201 network around a cell.

    A sum over a node's edges starts from the number 0, as Python's `sum` does, which the
    measured engines kept as a sum with a constant. Edges of nothing, and what depends on
    constants only, fold away.

    Args:
        ops: operation of each edge of the cell, in the order of `CELL_EDGES`.
        size: height and width of the input.
        classes: outputs.
        width: channels of the first stage.

    Returns:
        The network, None where its output depends on no input.
    """
    net = NetworkBuilder(3, size, size)
    x: Tensor | None = net.batch_norm(net.conv(net.input, width, 3))
    for stage in range(3):
        if stage:
            x = _reduction(net, x, width << stage)
        for _ in range(5):
            x = _cell(net, x, ops)
    if x is None:
        return None
    x = net.global_pool(net.relu(net.batch_norm(x)))
    return net.model(net.linear(x, classes))


def _reduction(net: NetworkBuilder, x: Tensor | None, channels: int) -> Tensor | None:
    if x is None:
        return None
    y = net.batch_norm(net.conv(net.relu(x), channels, 3, 2))
    y = net.batch_norm(net.conv(net.relu(y), channels, 3))
    shortcut = net.conv(net.pool(x, 2, 2, op="Average"), channels, 1)
    return net.add(shortcut, y)


def _cell(net: NetworkBuilder, x: Tensor | None, ops: Sequence[int]) -> Tensor | None:
    nodes: list[Tensor | None] = [x, None, None, None]
    for target in (1, 2, 3):
        total: Tensor | None = None
        for (source, end), op in zip(CELL_EDGES, ops, strict=True):
            if end != target:
                continue
            term = _edge(net, nodes[source], op)
            if term is not None:
                total = net.add_constant(term) if total is None else net.add(total, term)
        nodes[target] = total
    return nodes[3]


def _edge(net: NetworkBuilder, x: Tensor | None, op: int) -> Tensor | None:
    if x is None or op == NONE:
        return None
    if op == SKIP:
        return x
    if op == AVG_POOL_3X3:
        return net.pool(x, 3, 1, 1, op="Average")
    return net.batch_norm(net.conv(net.relu(x), x[1], 1 if op == CONV_1X1 else 3))
