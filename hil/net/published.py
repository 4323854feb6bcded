"""Networks whose latency on a TX2 is published, as ONNX files that can be built and run.

Definitions are TF-slim's, which NVIDIA measured, with batch normalisation folded into the
convolutions as TensorRT folds it. Weights are random: the time of a dense kernel does not depend
on them. One tile of 4096 normal values repeats, scaled as He has it, so that a file of 550 MB
compresses to 10 MB and nothing overflows in half precision.

Files come in chunks: no thread is kept from running for longer than one takes, and a host that
sends heartbeats to a board goes on sending them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

SEED = 27
TILE = 4096
TILES_A_CHUNK = 64
SIDE = 224
BRANCH_GAIN = 0.1


@dataclass(frozen=True)
class Published:
    """A network and the latency that its maker published.

    Attributes:
        row: its name in NVIDIA's table.
        latency_ms: batch 1, FP16, TensorRT 3.0 (JetPack 3.2), nvpmodel 3, copies included;
            github.com/NVIDIA-AI-IOT/tf_to_trt_image_classification, README; NVIDIA's own
            acceptance is 10 % either way.
        chunks: gives the file, piece by piece.
        shipped_mb: size of the file, in millions of bytes.
        build_s: board time set aside for building it; a guess, until a board was seen.
    """

    row: str
    latency_ms: float
    chunks: Callable[[], Iterator[bytes]]
    shipped_mb: int
    build_s: float


class _Writer:
    """Writes a chain of layers; each method returns the name of its output."""

    def __init__(self) -> None:
        self._tile = np.random.Generator(np.random.Philox(SEED)).normal(0, 1, TILE)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[tuple[str, tuple[int, ...], float]] = []
        self._channels = {"input": 3}

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int,
        stride: int = 1,
        *,
        pad: int | None = None,
        groups: int = 1,
        gain: float = 1.0,
    ) -> str:
        """Add a convolution with bias; `pad` defaults to half the kernel."""
        fan_in = self._channels[x] // groups
        shape = (channels, fan_in, kernel, kernel)
        scale = gain * (2.0 / (fan_in * kernel * kernel)) ** 0.5
        name = f"conv{len(self._nodes)}"
        inputs = [x, self._weight(shape, scale), self._weight((channels,), 0.01)]
        return self._node(
            "Conv",
            name,
            inputs,
            channels,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2 if pad is None else pad] * 4,
            group=groups,
        )

    def relu(self, x: str) -> str:
        """Add a ReLU."""
        return self._node("Relu", f"relu{len(self._nodes)}", [x], self._channels[x])

    def max_pool(self, x: str, kernel: int, stride: int, pad: int = 0) -> str:
        """Add a pooling."""
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        name = f"pool{len(self._nodes)}"
        return self._node("MaxPool", name, [x], self._channels[x], **sizes)

    def add(self, x: str, y: str) -> str:
        """Add a sum."""
        return self._node("Add", f"add{len(self._nodes)}", [x, y], self._channels[x])

    def mean(self, x: str) -> str:
        """Add a mean over all positions."""
        return self._node("GlobalAveragePool", f"mean{len(self._nodes)}", [x], self._channels[x])

    def file(self, x: str) -> Iterator[bytes]:
        """Close the network with a softmax over channels; yield it as an ONNX file."""
        count = self._channels[x]
        flat = self._node("Flatten", "flatten", [x], count)
        self._nodes.append(helper.make_node("Softmax", [flat], ["output"], "softmax", axis=1))
        taken = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
        given = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, count])
        graph = helper.make_graph(self._nodes, "published", [taken], [given]).SerializeToString()
        heads = [_tensor_head(name, shape) for name, shape, _ in self._weights]
        sizes = [_size(shape) for _, shape, _ in self._weights]
        inside = sum(len(head) + size for head, size in zip(heads, sizes, strict=True))
        opset = helper.make_opsetid("", 13)
        model = onnx.ModelProto(ir_version=7, producer_name="hil", opset_import=[opset])
        yield model.SerializeToString() + _begins(GRAPH, len(graph) + inside) + graph
        for head, size, (_, _, scale) in zip(heads, sizes, self._weights, strict=True):
            yield head
            yield from self._values(size, scale)

    def _values(self, size: int, scale: float) -> Iterator[bytes]:
        tile = (scale * self._tile).astype("<f4").tobytes()
        chunk = tile * TILES_A_CHUNK
        for _ in range(size // len(chunk)):
            yield chunk
        yield (chunk)[: size % len(chunk)]

    def _node(self, op: str, name: str, inputs: list[str], channels: int, **more: object) -> str:
        output = f"{name}_out"
        self._nodes.append(helper.make_node(op, inputs, [output], name, **more))
        self._channels[output] = channels
        return output

    def _weight(self, shape: tuple[int, ...], scale: float) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append((name, shape, scale))
        return name


# Protobuf's wire format by hand, for the one thing that is large: a field is its number and
# kind, the length of what follows, and that (protobuf.dev/programming-guides/encoding). Numbers
# are those of onnx.proto3.
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
_LENGTH_DELIMITED = 2


def _begins(field: int, length: int) -> bytes:
    return bytes([field << 3 | _LENGTH_DELIMITED]) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _size(shape: tuple[int, ...]) -> int:
    return 4 * int(np.prod(shape))


def _tensor_head(name: str, shape: tuple[int, ...]) -> bytes:
    """Return what comes before the values of a weight: all but them, and their length."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape).SerializeToString()
    values = _begins(RAW_DATA, _size(shape))
    return _begins(INITIALIZER, len(tensor) + len(values) + _size(shape)) + bytes(tensor) + values


def resnet50() -> Iterator[bytes]:
    """Give ResNet-50 v1: the last unit of a stage halves the size, as TF-slim does."""
    net = _Writer()
    x = net.max_pool(net.relu(net.conv("input", 64, 7, 2)), 3, 2, 1)
    for stage, units in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for unit in range(units):
            stride = 2 if unit == units - 1 and stage < 3 else 1
            if unit == 0:
                shortcut = net.conv(x, 4 * width, 1, stride)
            else:
                shortcut = net.max_pool(x, 1, stride) if stride > 1 else x
            y = net.relu(net.conv(x, width, 1))
            y = net.relu(net.conv(y, width, 3, stride))
            # no normalisation tames the sum of sixteen branches: each adds little
            x = net.relu(net.add(net.conv(y, 4 * width, 1, gain=BRANCH_GAIN), shortcut))
    return net.file(net.conv(net.mean(x), 1000, 1))


def vgg16() -> Iterator[bytes]:
    """Give VGG-16, its large layers as convolutions, as TF-slim does: 138 million weights."""
    net = _Writer()
    x = "input"
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            x = net.relu(net.conv(x, width, 3))
        x = net.max_pool(x, 2, 2)
    x = net.relu(net.conv(x, 4096, 7, pad=0))
    x = net.relu(net.conv(x, 4096, 1))
    return net.file(net.conv(x, 1000, 1))


def mobilenet() -> Iterator[bytes]:
    """Give MobileNet v1 of width 1.0."""
    net = _Writer()
    x, channels = net.relu(net.conv("input", 32, 3, 2)), 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    for width, stride in [*plan, *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        x = net.relu(net.conv(x, channels, 3, stride, groups=channels))
        x = net.relu(net.conv(x, width, 1))
        channels = width
    return net.file(net.conv(net.mean(x), 1001, 1))


PUBLISHED: Mapping[str, Published] = {
    "mobilenet": Published("mobilenet_v1_1p0_224", 12.9, mobilenet, 17, 60.0),
    "resnet50": Published("resnet_v1_50", 15.7, resnet50, 102, 90.0),
    "vgg16": Published("vgg_16", 38.2, vgg16, 553, 120.0),
}
"""In the order in which a board is asked to build them, smallest first."""
