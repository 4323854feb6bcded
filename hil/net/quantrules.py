"""What TensorRT asks of a network for INT8, told before anything is shipped.

Sources: NVIDIA's operator table (INT8 alone, zero points of 0: `onnxrules`); for INT8 constants and
INT32 biases what its parsers said of such networks: "invalid weights type of Int8" (8.2, in ONNX
Runtime issue 11535), "only activation types allowed as input to this layer" (8.4, onnx-tensorrt
issue 850), and TensorRT-RTX 1.7 of INT32.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from hil.core.boards import NO_INT8
from hil.net.onnxrules import Finding

PAIR = ("QuantizeLinear", "DequantizeLinear")
QUANTISED_OPERATORS = ("Conv", "Gemm", "MatMul")
"""Operators that hil lets compute in INT8; TensorRT fuses what follows them."""
OLDEST_OPSET = 10
"""The first with QuantizeLinear."""


def int8_findings(
    model: onnx.ModelProto, precision: str, board: str, *, has_table: bool
) -> Iterator[Finding]:
    """Findings about INT8 of a model that TensorRT shall build.

    Args:
        model: the model.
        precision: what the engine is to be built with.
        board: the board's kind.
        has_table: whether the target is TensorRT 8.2, whose rules are stricter.
    """
    quantised = [node for node in model.graph.node if node.op_type in PAIR]
    if board in NO_INT8 and (quantised or precision == "int8"):
        first = quantised[0] if quantised else None
        yield Finding(
            _name(first),
            first.op_type if first else "",
            f"{board} has no INT8 arithmetic (INT8 is for Xavier and Orin)",
            "ship the model before quantisation and ask for fp16",
        )
        return
    if quantised:
        if precision != "int8":
            yield Finding(
                _name(quantised[0]),
                quantised[0].op_type,
                f"the model is quantised, and {precision} was asked",
                "ask for int8, or ship the model before quantisation",
            )
        yield from _pairs(model, quantised, has_table=has_table)
    elif precision == "int8":
        reason = not_quantisable(model)
        if reason is None:
            yield Finding(
                "",
                "",
                "INT8 needs scales, which the model does not hold",
                "give data that is typical of the task: --calibrate FILE.npz or module:function",
                fatal=False,
            )
        else:
            yield Finding("", "", f"the model cannot be made INT8: {reason[0]}", reason[1])


def not_quantisable(model: onnx.ModelProto) -> tuple[str, str] | None:
    """Why a float model cannot be made INT8 and what to do; None where it can."""
    inner = [n for n in model.graph.node for a in n.attribute if a.HasField("g") or a.graphs]
    opset = max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=0)
    half = [t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16]
    known = {node.op_type for node in model.graph.node}
    if known & set(PAIR):
        return "it is quantised already", "ask for int8 without calibration"
    if opset < OLDEST_OPSET:
        return f"opset {opset} has no QuantizeLinear", "export it at opset 13"
    if half:
        return f"its weights are float16 ({half[0]})", "quantise the float32 model"
    if inner:
        branch = f"{inner[0].name or inner[0].op_type} ({inner[0].op_type})"
        return f"{branch} holds a subgraph", "export it without branches, or ask for fp16"
    if not known & set(QUANTISED_OPERATORS):
        return f"it has no {', '.join(QUANTISED_OPERATORS)}", "ask for fp16"
    return None


def _pairs(
    model: onnx.ModelProto, quantised: list[onnx.NodeProto], *, has_table: bool
) -> Iterator[Finding]:
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in quantised:
        point = kinds.get(node.input[2], TensorProto.INT8) if len(node.input) > 2 else None
        held = kinds.get(node.input[0])
        if point in (None, TensorProto.UINT8) and held in (None, TensorProto.FLOAT):
            yield Finding(
                _name(node),
                node.op_type,
                f"{node.op_type} must be INT8; without an INT8 zero point it is UINT8",
                "quantise symmetrically to INT8 (hil profile --precision int8 does)",
            )
        elif held == TensorProto.INT32:
            yield Finding(
                _name(node),
                node.op_type,
                f"{node.input[0]} is INT32, which TensorRT does not dequantise",
                "leave biases in float32 (ONNX Runtime: QuantizeBias=False)",
            )
        elif held == TensorProto.INT8 and has_table:
            yield Finding(
                _name(node),
                node.op_type,
                f"{node.input[0]} is an INT8 constant, which TensorRT 8.2 does not take",
                "keep weights in float32 in front of a QuantizeLinear "
                "(ONNX Runtime: AddQDQPairToWeight=True)",
            )


def _name(node: onnx.NodeProto | None) -> str:
    return "" if node is None else node.name or f"{node.op_type} -> {', '.join(node.output)}"
