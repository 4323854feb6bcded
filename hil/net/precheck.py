"""What a target would refuse of a model, told before anything is shipped to a board.

Opset, operators and their restrictions are `onnxcheck`'s (the table of TensorRT 8.2); here are the
shapes that were asked for and the precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from hil.core.boards import NO_INT8
from hil.net.onnxcheck import ModelInfo, TensorSpec, findings, inspect
from hil.net.onnxrules import Finding
from hil.net.quantrules import int8_findings

_TABLED_OPSET = 13
_BY_PYTORCH = ("cuda", "torch", "torch-cpu")


@dataclass(frozen=True)
class Target:
    """Where a model shall run.

    Attributes:
        runtime: as in a device file.
        opset: the newest opset that it takes.
        precision: `fp16`, `fp32` or `int8`.
        board: the board's kind, for what its GPU lacks.
        offered: precisions that the device's file offers; none leaves it to the board's kind.
        shapes: sizes given for inputs that the file leaves open.
    """

    runtime: str
    opset: int
    precision: str
    board: str = ""
    offered: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def has_table(self) -> bool:
        """Whether the operators can be judged: the table at hand is that of TensorRT 8.2."""
        return self.runtime == "tensorrt" and self.opset <= _TABLED_OPSET


def precheck(data: bytes, target: Target) -> tuple[Finding, ...]:
    """Everything about a model that a target refuses, or that a person should know.

    Returns:
        Findings, those of the model as a whole first; nothing keeps an engine from being built, as
        far as can be told here, where none is `fatal`.

    Raises:
        ConfigError: the bytes are no ONNX model.
    """
    info = inspect(data)
    model = onnx.load_model_from_string(data)
    found = [*_operators(data, info, target), *_shapes(info, target)]
    found += [*_precision(model, target), *_narrowed(model, target)]
    return tuple(found)


def _operators(data: bytes, info: ModelInfo, target: Target) -> Iterator[Finding]:
    if target.has_table:
        open_inputs = {spec.name for spec in info.dynamic_inputs}
        yield from (f for f in findings(data) if f.op or f.fatal or f.node not in open_inputs)
        return
    name = {"tensorrt": "TensorRT", "onnxruntime": "ONNX Runtime"}.get(
        target.runtime, "the runtime"
    )
    if info.opset > target.opset:
        yield Finding(
            "",
            "",
            f"{name} there takes opset {target.opset} at most; the model has {info.opset}",
            f"export at opset {target.opset} (torch: opset_version={target.opset}, dynamo=False)",
        )
    if target.runtime in _BY_PYTORCH:
        yield from _unknown_to_pytorch(data, fatal=target.runtime != "cuda")
    if target.runtime == "tensorrt":
        yield Finding(
            "",
            "",
            f"the table of operators at hand is TensorRT 8.2's, not of a release with opset "
            f"{target.opset}: operators were not judged",
            "build it on the board, whose own parser names every node that it refuses",
            fatal=False,
        )


def _unknown_to_pytorch(data: bytes, *, fatal: bool) -> Iterator[Finding]:
    from hil.net.onnxtorch import unknown  # PyTorch takes seconds to import

    for op, node in unknown(onnx.load_model_from_string(data)).items():
        yield Finding(
            node,
            op,
            f"PyTorch is not told how to run {op}"
            + ("" if fatal else ", should neither TensorRT nor ONNX Runtime reach the GPU"),
            "export without it, or install TensorRT or onnxruntime-gpu",
            fatal=fatal,
        )


def _shapes(info: ModelInfo, target: Target) -> Iterator[Finding]:
    known = {spec.name: spec for spec in info.inputs}
    for name in sorted(set(target.shapes) - set(known)):
        yield Finding(
            name,
            "",
            f"the model has no input {name}",
            f"its inputs are {', '.join(sorted(known))}",
        )
    for spec in info.inputs:
        given = target.shapes.get(spec.name)
        if given is not None and not _fits(spec, given):
            yield Finding(
                spec.name,
                "",
                f"input {spec.name} is {_shown(spec)}; {'x'.join(map(str, given))} was asked",
                "give sizes that the file allows, or export it anew with open sizes",
            )
        elif given is None and spec.is_dynamic:
            example = [size if isinstance(size, int) else 1 for size in spec.shape or (1,)]
            yield Finding(
                spec.name,
                "",
                f"input {spec.name} has open sizes: {_shown(spec)}",
                f"give its shape, for example --shape {spec.name}={'x'.join(map(str, example))}",
                fatal=False,
            )


def _fits(spec: TensorSpec, given: tuple[int, ...]) -> bool:
    if spec.shape is None:
        return True
    pairs = list(zip(spec.shape, given, strict=False))
    return len(spec.shape) == len(given) and all(
        have == want for have, want in pairs if isinstance(have, int)
    )


def _shown(spec: TensorSpec) -> str:
    return "x".join("?" if size is None else str(size) for size in spec.shape or (None,))


def _precision(model: onnx.ModelProto, target: Target) -> Iterator[Finding]:
    if target.runtime == "onnxruntime" and target.precision != "fp32":
        yield Finding(
            "",
            "",
            f"ONNX Runtime runs a model in the precision it is stored in; {target.precision} was "
            "asked",
            "ask for fp32, or store the model in float16 (hil export --precision fp16)",
        )
    if target.runtime == "tensorrt":
        yield from int8_findings(model, target.precision, target.board, has_table=target.has_table)
        told = target.precision == "int8" and target.board in NO_INT8
        if target.offered and target.precision not in target.offered and not told:
            yield Finding(
                "",
                "",
                f"the device's file offers {', '.join(target.offered)}, and not {target.precision}",
                f"ask for {target.offered[0]}, or add it to `precisions` where the board has it",
            )
    if target.runtime == "tensorrt" and target.precision == "fp16":
        yield from _too_large(model)


def _too_large(model: onnx.ModelProto) -> Iterator[Finding]:
    largest = float(np.finfo(np.float16).max)
    for tensor in model.graph.initializer:
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
            continue
        values = np.abs(numpy_helper.to_array(tensor))
        most = float(np.nanmax(values, initial=0.0))
        if math.isfinite(most) and most > largest:
            node, op = _user(model, tensor.name)
            yield Finding(
                node,
                op,
                f"weight {tensor.name} reaches {most:g}; FP16 ends at {largest:g}",
                "ask for fp32, or scale the weight down: FP16 would compute with infinity",
                fatal=False,
            )


def _narrowed(model: onnx.ModelProto, target: Target) -> Iterator[Finding]:
    """What TensorRT 8.2 silently turns into 32 bits, where that changes the value."""
    if not target.has_table:
        return
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.DOUBLE:
            node, op = _user(model, tensor.name)
            yield Finding(
                node,
                op,
                f"{tensor.name} is float64; TensorRT 8.2 computes it in float32",
                "export it as float32, so that the host computes the same",
                fatal=False,
            )


def _user(model: onnx.ModelProto, name: str) -> tuple[str, str]:
    for node in model.graph.node:
        if name in node.input:
            return node.name or f"{node.op_type} -> {', '.join(node.output)}", node.op_type
    return name, ""
