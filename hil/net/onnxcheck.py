"""Reading ONNX files and judging, before a board is touched, whether its TensorRT takes them.

Works on the file alone and never imports torch. The operator table is data
(`data/onnx_tensorrt_8.2_operators.csv`); restrictions that the table states in words are
functions in `onnxrules.py`.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from hil.core.errors import ConfigError
from hil.net.onnxrules import REMEDIES, RESTRICTIONS, Constants, Finding

_TABLES = {"tensorrt-8.2": ("onnx_tensorrt_8.2_operators.csv", 13)}
_STANDARD_DOMAINS = ("", "ai.onnx")
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: its name.
        dtype: ONNX element type in lower case (`float`, `float16`, `int64`).
        shape: sizes; a name where the size is open, None where nothing is said. None as a whole
            where not even the number of axes is known.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    @property
    def is_dynamic(self) -> bool:
        """Whether a size is open, so that a build needs it given."""
        return self.shape is None or any(not isinstance(size, int) for size in self.shape)


@dataclass(frozen=True)
class ModelInfo:
    """What an ONNX file says about itself.

    Attributes:
        opset: version of the standard operator set.
        ir_version: version of the file format.
        producer: the program that wrote it.
        inputs: inputs a caller must give (initializers listed as inputs are not).
        outputs: results.
        operators: how often each operator occurs, subgraphs included.
        parameters: numbers held in initializers.
    """

    opset: int
    ir_version: int
    producer: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    parameters: int

    @property
    def dynamic_inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs whose shape must be given before an engine can be built."""
        return tuple(spec for spec in self.inputs if spec.is_dynamic)


def read_model(path: Path) -> bytes:
    """The bytes of an ONNX file that is whole in itself.

    Raises:
        ConfigError: there is no such file, it is not ONNX, it is damaged, or it keeps its
            weights in other files.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read", why=error.strerror or str(error), fix="check the path"
        ) from error
    model = _parse(data, str(path))
    outside = sorted(_external_locations(model))
    if outside:
        raise ConfigError(
            f"{path} keeps weights in other files",
            why=f"it names {outside[0]}",
            fix="save it as one file: onnx.save(onnx.load('in.onnx'), 'out.onnx')",
        )
    for value in (*model.graph.input, *model.graph.output):
        # The checker wants a shape everywhere; engine builders do without.
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ConfigError(
            f"{path} is damaged ONNX",
            why=str(error).strip().splitlines()[0],
            fix="export it again",
        ) from error
    return data


def inspect(data: bytes) -> ModelInfo:
    """What the model takes, gives and is made of.

    Raises:
        ConfigError: the bytes are no ONNX model.
    """
    model = _parse(data, "the model")
    initializers = {tensor.name for tensor in model.graph.initializer}
    return ModelInfo(
        opset=_opset(model),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(_spec(v) for v in model.graph.input if v.name not in initializers),
        outputs=tuple(_spec(v) for v in model.graph.output),
        operators=dict(sorted(Counter(n.op_type for n, _ in _nodes(model.graph)).items())),
        parameters=sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
    )


def findings(data: bytes, target: str = "tensorrt-8.2") -> tuple[Finding, ...]:
    """Everything about the model that the target refuses, or needs to be told.

    Args:
        data: the model.
        target: a runtime with an operator table: `tensorrt-8.2`.

    Returns:
        Findings in graph order; an engine can be built where none is `fatal`, as far as the
        table tells.

    Raises:
        ConfigError: no ONNX model, or no table for the target.
    """
    if target not in _TABLES:
        raise ConfigError(
            f"there is no operator table for {target}", fix=f"choose among {', '.join(_TABLES)}"
        )
    model = _parse(data, "the model")
    table, most_opset = _table(target), _TABLES[target][1]
    found = list(_opset_findings(model, target, most_opset))
    for node, constants in _nodes(model.graph):
        found += _node_findings(node, constants, target, table)
    for spec in inspect(data).dynamic_inputs:
        found.append(_shape_finding(spec))
    return tuple(found)


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise _not_onnx(name, "it does not parse") from error
    # Protobuf accepts many byte strings that mean nothing; a model has at least these.
    if not model.opset_import or model.ir_version < 1:
        raise _not_onnx(name, "it names no operator set")
    if not model.graph.node or not model.graph.output:
        raise _not_onnx(name, "its graph is empty")
    return model


def _not_onnx(name: str, why: str) -> ConfigError:
    return ConfigError(f"{name} is not an ONNX model", why=why, fix="give a .onnx file")


def _opset(model: onnx.ModelProto) -> int:
    versions = [e.version for e in model.opset_import if e.domain in _STANDARD_DOMAINS]
    return int(max(versions, default=0))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape: list[int | str | None] = []
    for dim in tensor.shape.dim:
        kind = dim.WhichOneof("value")
        size = int(dim.dim_value) if kind == "dim_value" and dim.dim_value > 0 else None
        shape.append(size if size is not None else (dim.dim_param or None))
    dtype = str(onnx.TensorProto.DataType.Name(tensor.elem_type)).lower()
    return TensorSpec(value.name, dtype, tuple(shape) if tensor.HasField("shape") else None)


def _nodes(
    graph: onnx.GraphProto, outer: Constants | None = None
) -> Iterator[tuple[onnx.NodeProto, Constants]]:
    """All nodes, subgraphs included, each with the constants that it can see."""
    constants = dict(outer or {})
    constants.update({tensor.name: tensor for tensor in graph.initializer})
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = next(
                (a.t for a in node.attribute if a.name == "value"), onnx.TensorProto()
            )
        elif node.op_type in _QUANTISING and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]  # weights of a QDQ network
        yield node, constants
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner, constants)


def _external_locations(model: onnx.ModelProto) -> set[str]:
    found = set()
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            found.add(entries.get("location", "another file"))
    return found


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


@lru_cache(maxsize=4)
def _table(target: str) -> Mapping[str, str]:
    """Operator to the table's word on it (Y, N, Y with a remark)."""
    file = resources.files("hil.net") / "data" / _TABLES[target][0]
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return {row["operator"]: row["supported"] for row in rows}


def _opset_findings(model: onnx.ModelProto, target: str, most: int) -> Iterator[Finding]:
    opset = _opset(model)
    if opset > most:
        yield Finding(
            node="",
            op="",
            rule=f"{target} takes opset {most} at most; the model has {opset}",
            remedy=f"export at opset {most} (torch: opset_version={most}, dynamo=False)",
        )


def _node_findings(
    node: onnx.NodeProto, constants: Constants, target: str, table: Mapping[str, str]
) -> Iterator[Finding]:
    name = node.name or f"{node.op_type} -> {', '.join(node.output)}"
    if node.domain not in _STANDARD_DOMAINS:
        yield Finding(
            name,
            node.op_type,
            f"{target} has no operators of domain {node.domain}",
            "write it with standard ONNX operators, or give the board a plugin",
        )
        return
    if not table.get(node.op_type, "N").startswith("Y"):
        yield Finding(
            name,
            node.op_type,
            f"{target} has no operator {node.op_type}",
            REMEDIES.get(node.op_type, "replace the operation in the network"),
        )
        return
    for restriction in RESTRICTIONS.get(node.op_type, ()):
        verdict = restriction(node, constants)
        if verdict is not None:
            yield Finding(name, node.op_type, *verdict)


def _shape_finding(spec: TensorSpec) -> Finding:
    sizes = spec.shape or (None,)
    example = "x".join(str(size) if isinstance(size, int) else "1" for size in sizes)
    named = "x".join("?" if size is None else str(size) for size in sizes)
    return Finding(
        node=spec.name,
        op="",
        rule=f"input {spec.name} has open sizes: {named}",
        remedy=f"give its shape, for example --shape {spec.name}={example}",
        fatal=False,
    )
