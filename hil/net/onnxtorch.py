"""An exported network run by PyTorch: the ONNX file's own graph, operator by operator.

For GPUs whose machine has neither TensorRT nor ONNX Runtime's CUDA provider. What runs is the
file that is shipped, never the module that it came from; an operator that is not in the tables
(`onnxtorch_ops`, `onnxtorch_layers`) is refused by name. Semantics are the ONNX operator
specification's (onnx.ai/onnx/operators), held against ONNX Runtime by the tests.

Input shapes are fixed when a network is loaded. Whatever follows from shapes and constants alone
is worked out then, on the CPU, so that a run is nothing but tensor arithmetic: no value goes back
to the host, and the whole can be captured as one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor

from hil.core.errors import ConfigError, ExportError
from hil.net import onnxtorch_layers, onnxtorch_ops
from hil.net.onnxtorch_node import Kernel, Node, refused

OPERATORS = {**onnxtorch_ops.OPERATORS, **onnxtorch_layers.OPERATORS}
DOMAINS = ("", "ai.onnx")
Observer = Callable[[str], None]


@dataclass(frozen=True)
class Value:
    """An input or output of a network: name, type and shape."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Step:
    """One node to run: where its operands are, where its results go, what may be let go after."""

    name: str
    kernel: Kernel
    operands: tuple[str, ...]
    results: tuple[str, ...]
    forget: tuple[str, ...]


class Network:
    """A network on a device, ready to be called.

    Args:
        data: the ONNX file.
        shapes: of inputs, by name; those that the file fixes may be left out.
        device: "cpu", "cuda", ...

    Raises:
        ExportError: an operator, or a use of one, that is not known here.
        ConfigError: the shape of an input is missing or another than the file's.
    """

    def __init__(
        self, data: bytes, shapes: Mapping[str, Sequence[int]] | None = None, device: str = "cpu"
    ) -> None:
        model = onnx.load_model_from_string(data)
        self.device = torch.device(device)
        self._opset = opset_of(model)
        refuse_unknown(model)
        graph = model.graph
        self._weights = {t.name: onnxtorch_ops.tensor(t) for t in graph.initializer}
        self.inputs = tuple(
            _input(v, shapes or {}) for v in graph.input if v.name not in self._weights
        )
        _no_strangers(shapes or {}, self.inputs)
        names = [value.name for value in graph.output]
        with torch.no_grad():
            results = self._laid_out(graph, names)
        self._names = tuple(names)
        self.outputs = tuple(
            Value(name, result.dtype, tuple(result.shape))
            for name, result in zip(names, results, strict=True)
        )

    def __call__(
        self, feeds: Mapping[str, Tensor], observe: Observer | None = None
    ) -> tuple[Tensor, ...]:
        """Compute the outputs in the file's order.

        Args:
            feeds: the inputs by name, on the device.
            observe: called with a node's name when its work has been started.
        """
        at: dict[str, Tensor] = {**self._constants, **feeds}
        with torch.no_grad():
            for step in self._steps:
                results = step.kernel(*(at[name] for name in step.operands))
                at.update(zip(step.results, results, strict=False))
                for name in step.forget:
                    del at[name]
                if observe is not None:
                    observe(step.name)
        return tuple(at[name] for name in self._names)

    def _laid_out(self, graph: onnx.GraphProto, names: Sequence[str]) -> list[Tensor]:
        """Run the graph once, keeping what is the same in every run; return the outputs."""
        static = dict(self._weights)
        at = {v.name: torch.ones(v.shape, dtype=v.dtype, device=self.device) for v in self.inputs}
        last = {name: i for i, node in enumerate(graph.node) for name in node.input}
        self._constants: dict[str, Tensor] = {}
        self._steps: list[_Step] = []
        for place, proto in enumerate(graph.node):
            used = [name for name in proto.input if name]
            if proto.op_type == "Shape":
                shape = (static | at)[proto.input[0]].shape
                static[proto.output[0]] = Node(proto, self._opset, {}).part_of(shape)
                continue
            params = OPERATORS[proto.op_type].params
            known = {i: static[n] for i, n in enumerate(proto.input) if n in static}
            kernel = OPERATORS[proto.op_type].build(Node(proto, self._opset, known))
            # Parameters are inside the kernel by now; an optional input left out is no operand.
            operands = [n for i, n in enumerate(proto.input) if n and i not in params]
            if all(name in static for name in used):
                results = kernel(*(static[name] for name in operands))
                static.update(zip(proto.output, results, strict=False))
                continue
            for name in operands:
                if name in static:
                    self._constants[name] = static[name].to(self.device)
            results = kernel(*((self._constants | at)[name] for name in operands))
            at.update(zip(proto.output, results, strict=False))
            gone = [
                n
                for n in {*used, *filter(None, proto.output)}
                if n in at and last.get(n, -1) <= place and n not in names
            ]
            for name in gone:
                del at[name]
            self._steps.append(
                _Step(
                    proto.name or proto.output[0],
                    kernel,
                    tuple(operands),
                    tuple(proto.output),
                    tuple(gone),
                )
            )
        for name in names:
            if name in static:  # an output that does not depend on any input
                self._constants[name] = static[name].to(self.device)
        return [at[name] if name in at else self._constants[name] for name in names]


def unknown(model: onnx.ModelProto) -> dict[str, str]:
    """Return the operators of a network that are not known here, each with its first node."""
    first: dict[str, str] = {}
    for node in model.graph.node:
        if node.domain not in DOMAINS:
            first.setdefault(f"{node.domain}::{node.op_type}", node.name)
        elif node.op_type not in OPERATORS and node.op_type != "Shape":
            first.setdefault(node.op_type, node.name)
    return first


def refuse_unknown(model: onnx.ModelProto) -> None:
    """Refuse a network with operators that are not known here.

    Raises:
        ExportError: naming every such operator and the first node of each.
    """
    first = unknown(model)
    if first:
        raise ExportError(
            f"PyTorch is not told how to run operator(s) {', '.join(sorted(first))}",
            why="; ".join(f"node {name or '(unnamed)'} is {op}" for op, name in first.items()),
            fix="install TensorRT or onnxruntime-gpu on this machine, or export without it",
        )


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operator set that a network asks for."""
    return max((e.version for e in model.opset_import if e.domain in DOMAINS), default=1)


def _input(value: onnx.ValueInfoProto, shapes: Mapping[str, Sequence[int]]) -> Value:
    kind = value.type.tensor_type
    # Old exporters write -1 for an open size.
    known = [d.HasField("dim_value") and d.dim_value >= 0 for d in kind.shape.dim]
    dims = [d.dim_value if k else None for d, k in zip(kind.shape.dim, known, strict=True)]
    given = shapes.get(value.name)
    if given is None and None in dims:
        raise ConfigError(
            f"the shape of input {value.name} is not fixed in the network",
            why=f"it is {dims}",
            fix=f"give it: --shape {value.name}=1x3x224x224",
        )
    shape = tuple(int(n or 0) for n in dims) if given is None else tuple(given)
    if len(shape) != len(dims) or any(d not in (None, n) for d, n in zip(dims, shape, strict=True)):
        raise ConfigError(f"input {value.name} is {dims} in the network, {shape} was asked")
    dtype = onnxtorch_ops.DTYPES.get(kind.elem_type)
    if dtype is None:
        raise refused(f"input {value.name} has a type that PyTorch lacks")
    return Value(value.name, dtype, shape)


def _no_strangers(shapes: Mapping[str, Sequence[int]], inputs: Sequence[Value]) -> None:
    strangers = sorted(set(shapes) - {value.name for value in inputs})
    if strangers:
        raise ConfigError(f"the network has no input {', '.join(strangers)}")
