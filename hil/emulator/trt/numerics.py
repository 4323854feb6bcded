"""What an engine computes: ONNX Runtime on one thread, rounded to what the board would store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from hil.emulator.trt.device import Content
    from hil.emulator.trt.tensors import Tensor


FLOAT, HALF = 1, 10
"""ONNX's numbers of the two types."""


class Calculator:
    """Runs a network.

    Args:
        onnx_bytes: the network.
        precision: with fp16, weights, inputs, outputs and what passes from kernel to kernel are
            rounded to half precision. Inside a kernel sums are as ONNX Runtime makes them; what
            the real kernels accumulate in is not public.
        inside: names of nodes whose results stay inside a kernel.
    """

    def __init__(
        self, onnx_bytes: bytes, precision: str, inside: frozenset[str] = frozenset()
    ) -> None:
        self._bytes = onnx_bytes
        self._inside = inside
        self._half = precision == "fp16"
        self._session: Any = None

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Computes all outputs, in the types of the file."""
        if self._session is None:
            self._session = self._open()
        fed = {name: self._rounded(value) for name, value in inputs.items()}
        return [self._rounded(each) for each in self._session.run(None, fed)]

    def _open(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        data = self._bytes
        if self._half:
            data = half_precision(data, self._inside)
            # Its passes would take the casts for superfluous.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def _rounded(self, value: np.ndarray) -> np.ndarray:
        import numpy

        if not self._half or value.dtype != numpy.float32:
            return value
        with numpy.errstate(over="ignore"):
            return value.astype(numpy.float16).astype(numpy.float32)


def half_precision(data: bytes, inside: frozenset[str]) -> bytes:
    """Rounds a network's weights and puts rounding behind each node whose result is stored.

    Args:
        data: the network; its float tensors become halves written as floats.
        inside: names of nodes whose results are not stored.
    """
    import numpy
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(data)
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            with numpy.errstate(over="ignore"):
                half = numpy_helper.to_array(weight).astype(numpy.float16)
            weight.CopyFrom(numpy_helper.from_array(half.astype(numpy.float32), weight.name))
    floats = _float_tensors(model)
    kept = {each.name for each in model.graph.output}
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    for position, node in enumerate(model.graph.node):
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        nodes.append(node)
        if (node.name or f"{node.op_type}_{position}") in inside:
            continue
        for name in node.output:
            if name in floats and name not in kept:
                half_name, rounded = f"{name}/half", f"{name}/rounded"
                nodes.append(helper.make_node("Cast", [name], [half_name], to=HALF))
                nodes.append(helper.make_node("Cast", [half_name], [rounded], to=FLOAT))
                renamed[name] = rounded
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    result: bytes = model.SerializeToString()
    return result


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of the intermediate tensors that are known to hold floats."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model)
    return {
        each.name for each in inferred.graph.value_info if each.type.tensor_type.elem_type == FLOAT
    }


@dataclass
class Inference:
    """One execution whose results may never be needed.

    Attributes:
        shapes: of the inputs, in the engine's order.
        contents: of the input buffers when it was enqueued.
    """

    calculator: Calculator
    inputs: Sequence[Tensor]
    shapes: Sequence[tuple[int, ...]]
    contents: tuple[Content, ...]
    outputs: Sequence[Tensor]
    _results: list[bytes] | None = None

    def results(self) -> list[bytes]:
        """Works out the bytes of every output, once."""
        if self._results is None:
            fed = {
                tensor.name: _array(content, tensor, shape)
                for tensor, shape, content in zip(
                    self.inputs, self.shapes, self.contents, strict=True
                )
            }
            found = self.calculator.run(fed)
            self._results = [
                value.astype(tensor.dtype).tobytes()
                for tensor, value in zip(self.outputs, found, strict=True)
            ]
        return self._results


def _array(content: Content, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    import numpy

    data = content if isinstance(content, bytes) else content.bytes()
    count = int(numpy.prod(shape))
    return numpy.frombuffer(data, tensor.dtype, count).reshape(shape).astype(tensor.onnx_dtype)


@dataclass
class Output:
    """One output of an inference, as the promise that an allocation holds."""

    inference: Inference
    index: int
    size: int = field(default=0)

    def bytes(self) -> bytes:
        """The result, filled up to the size of its buffer."""
        data = self.inference.results()[self.index]
        return data + bytes(max(0, self.size - len(data)))
