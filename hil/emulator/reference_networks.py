"""Networks whose TX2 latency is published, as ONNX graphs from their published definitions.

The weights have shapes and no values: the graphs can be lowered, not run. A network can be had
as an ONNX model, or at once as the graph that `read_graph` would read from that model (much
faster; the shapes are counted here by the same rules).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from hil.emulator.onnx_graph import Graph, Node, live_part

Tensor = tuple[str, int]
"""A tensor while a graph is built: its name and its channels."""


class NetworkBuilder:
    """Writes an ONNX graph layer by layer; every layer returns its output."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self._nodes: list[Node] = []
        self._weights: dict[str, tuple[int, ...]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {"input": (1, channels, height, width)}
        self.input: Tensor = ("input", channels)

    def conv(self, x: Tensor, channels: int, kernel: int, stride: int = 1, **more: Any) -> Tensor:
        """Adds a convolution.

        `pad` defaults to half the kernel, `groups` to 1; `prefix` goes before the node's name.
        """
        groups, pad = more.get("groups", 1), more.get("pad", kernel // 2)
        weight = self._weight([channels, x[1] // groups, kernel, kernel])
        return self.node(
            "Conv",
            [x[0], weight],
            channels,
            self._windows(x, kernel, stride, pad),
            more.get("prefix", ""),
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

    def constant_like(self, x: Tensor) -> Tensor:
        """Adds a constant of another tensor's shape."""
        return self._weight(self._shapes[x[0]]), x[1]

    def pool(self, x: Tensor, kernel: int, stride: int, pad: int = 0, op: str = "Max") -> Tensor:
        """Adds a pooling; `op` is Max or Average."""
        sizes: dict[str, Any] = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [pad] * 4,
        }
        spatial = self._windows(x, kernel, stride, pad)
        return self.node(f"{op}Pool", [x[0]], x[1], spatial, **sizes)

    def global_pool(self, x: Tensor) -> Tensor:
        """Adds a mean over all positions."""
        return self.node("GlobalAveragePool", [x[0]], x[1], (1, 1))

    def linear(self, x: Tensor, features: int) -> Tensor:
        """Adds a linear layer over one position per channel."""
        flat = self.node("Flatten", [x[0]], x[1], ())
        weights = [self._weight([features, x[1]]), self._weight([features])]
        return self.node("Gemm", [flat[0], *weights], features, (), transB=1)

    def softmax(self, x: Tensor) -> Tensor:
        """Adds a softmax."""
        return self.node("Softmax", [x[0]], x[1])

    def concat(self, tensors: Sequence[Tensor]) -> Tensor:
        """Joins tensors along the channels."""
        channels = sum(channels for _, channels in tensors)
        return self.node("Concat", [name for name, _ in tensors], channels, axis=1)

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        channels: int,
        spatial: tuple[int, ...] | None = None,
        prefix: str = "",
        **attributes: Any,
    ) -> Tensor:
        """Adds any node with one output; `spatial` is its size, by default the first input's."""
        name = f"{prefix}{op}_{len(self._nodes)}"
        size = self._shapes[inputs[0]][2:] if spatial is None else spatial
        output = f"{name}_out"
        self._nodes.append(Node(len(self._nodes), name, op, tuple(inputs), (output,), attributes))
        self._shapes[output] = (1, channels, *size)
        return output, channels

    def model(self, output: Tensor) -> onnx.ModelProto:
        """Closes the graph as an ONNX model."""
        nodes = [
            helper.make_node(node.op, node.inputs, node.outputs, name=node.name, **node.attributes)
            for node in self._nodes
        ]
        weights = [
            TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
            for name, dims in self._weights.items()
        ]
        taken = helper.make_tensor_value_info("input", TensorProto.FLOAT, self._shapes["input"])
        made = [helper.make_empty_tensor_value_info(output[0])]
        graph = helper.make_graph(nodes, "network", [taken], made, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])

    def graph(self, output: Tensor, *, fold_constants: bool = True) -> Graph:
        """Closes the graph as `read_graph` would read it from `model`."""
        return live_part(
            self._nodes,
            self._shapes,
            frozenset(self._weights),
            ("input",),
            (output[0],),
            fold_constants=fold_constants,
        )

    def _windows(self, x: Tensor, kernel: int, stride: int, pad: int) -> tuple[int, ...]:
        return tuple((n + 2 * pad - kernel) // stride + 1 for n in self._shapes[x[0]][2:])

    def _weight(self, dims: Sequence[int]) -> str:
        name = f"w{len(self._weights)}"
        self._weights[name] = self._shapes[name] = tuple(dims)
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


def resnet_v2(units: Sequence[int], size: int = 299) -> onnx.ModelProto:
    """Builds a bottleneck ResNet v2 (activation first) as TF-slim does."""
    net = NetworkBuilder(3, size, size)
    x = net.pool(net.conv(net.input, 64, 7, 2), 3, 2, 1)
    for stage, count in enumerate(units):
        width = 64 << stage
        for unit in range(count):
            stride = 2 if unit == count - 1 and stage < len(units) - 1 else 1
            before = net.relu(net.batch_norm(x))
            if x[1] != 4 * width:
                x = net.conv(before, 4 * width, 1, stride)
            elif stride > 1:
                x = net.pool(x, 1, stride)
            y = net.conv_bn_relu(net.conv_bn_relu(before, width, 1), width, 3, stride)
            x = net.add(x, net.conv(y, 4 * width, 1))
    logits = net.linear(net.global_pool(net.relu(net.batch_norm(x))), 1001)
    return net.model(net.softmax(logits))


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


def inception_v1() -> onnx.ModelProto:
    """Builds Inception v1 as TF-slim does (3x3 in place of 5x5, batch normalisation)."""
    net = NetworkBuilder(3, 224, 224)
    x = net.pool(net.conv_bn_relu(net.input, 64, 7, 2), 3, 2, 1)
    x = net.conv_bn_relu(net.conv_bn_relu(x, 64, 1), 192, 3)
    for stage in INCEPTION_V1:
        x = net.pool(x, 3, 2, 1)
        for one, three, five, pooled in stage:
            branches = [
                net.conv_bn_relu(x, one, 1),
                net.conv_bn_relu(net.conv_bn_relu(x, three[0], 1), three[1], 3),
                net.conv_bn_relu(net.conv_bn_relu(x, five[0], 1), five[1], 3),
                net.conv_bn_relu(net.pool(x, 3, 1, 1), pooled, 1),
            ]
            x = net.concat(branches)
    return net.model(net.softmax(net.linear(net.global_pool(x), 1001)))


INCEPTION_V1 = (
    ((64, (96, 128), (16, 32), 32), (128, (128, 192), (32, 96), 64)),
    (
        (192, (96, 208), (16, 48), 64),
        (160, (112, 224), (24, 64), 64),
        (128, (128, 256), (24, 64), 64),
        (112, (144, 288), (32, 64), 64),
        (256, (160, 320), (32, 128), 128),
    ),
    ((256, (160, 320), (32, 128), 128), (384, (192, 384), (48, 128), 128)),
)
"""Channels of each module's branches, stage by stage."""


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
    "inception_v1": inception_v1,
    "resnet_v2_50": lambda: resnet_v2((3, 4, 6, 3)),
    "resnet_v2_101": lambda: resnet_v2((3, 4, 23, 3)),
    "resnet_v2_152": lambda: resnet_v2((3, 8, 36, 3)),
    "resnet_v1_50": lambda: resnet_v1((3, 4, 6, 3)),
    "resnet_v1_101": lambda: resnet_v1((3, 4, 23, 3)),
    "resnet_v1_152": lambda: resnet_v1((3, 8, 36, 3)),
    "vgg_16": vgg16,
    "mobilenet_v1_0p25_128": lambda: mobilenet_v1(0.25, 128),
    "mobilenet_v1_0p5_160": lambda: mobilenet_v1(0.5, 160),
    "mobilenet_v1_1p0_224": lambda: mobilenet_v1(1.0, 224),
}
"""Builders by the name of the row in NVIDIA's table."""
