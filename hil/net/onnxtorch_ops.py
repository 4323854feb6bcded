"""ONNX operators on single numbers and on shapes, as PyTorch computes them (see `onnxtorch`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor
from torch.nn import functional

from hil.net.onnxtorch_node import Kernel, Node, Operator

DTYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}


def tensor(proto: TensorProto) -> Tensor:
    """Return a constant of the file as a tensor of its own."""
    return torch.from_numpy(np.array(numpy_helper.to_array(proto)))  # a copy: theirs is read-only


def _plain(function: Callable[..., Tensor]) -> Operator:
    def build(_: Node) -> Kernel:
        return lambda *tensors: (function(*tensors),)

    return Operator(build)


def _leaky_relu(node: Node) -> Kernel:
    slope = node.get("alpha", 0.01)
    return lambda x: (functional.leaky_relu(x, slope),)


def _prelu(_: Node) -> Kernel:
    return lambda x, slope: (torch.where(x < 0, slope * x, x),)


def _hard_sigmoid(node: Node) -> Kernel:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    return lambda x: ((alpha * x + beta).clamp(0.0, 1.0),)


def _elu(node: Node) -> Kernel:
    alpha = node.get("alpha", 1.0)
    return lambda x: (functional.elu(x, alpha),)


def _gelu(node: Node) -> Kernel:
    how = node.get("approximate", "none")
    return lambda x: (functional.gelu(x, approximate=how),)


def _softmax(node: Node) -> Kernel:
    axis = node.get("axis", -1 if node.opset >= 13 else 1)
    if node.opset < 13:
        raise node.refuse("before opset 13 it flattens its input")
    function = torch.log_softmax if node.op == "LogSoftmax" else torch.softmax
    return lambda x: (function(x, axis),)


def _clip(node: Node) -> Kernel:
    low, high = node.numbers(1), node.numbers(2)
    if node.opset < 11:
        low, high = [node.get("min", -torch.inf)], [node.get("max", torch.inf)]
    least, most = (None if end is None else end[0] for end in (low, high))
    if least is None and most is None:
        return lambda x: (x,)
    return lambda x: (torch.clamp(x, least, most),)


def _cast(node: Node) -> Kernel:
    to = DTYPES.get(node.get("to"))
    if to is None:
        raise node.refuse("PyTorch lacks the type that it casts to")
    return lambda x: (x.to(to),)


def _div(_: Node) -> Kernel:
    def kernel(x: Tensor, y: Tensor) -> tuple[Tensor]:
        whole = not x.dtype.is_floating_point
        return (torch.div(x, y, rounding_mode="trunc" if whole else None),)

    return kernel


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def build(_: Node) -> Kernel:
        return lambda *tensors: (reduce(function, tensors),)

    return Operator(build)


def _constant(node: Node) -> Kernel:
    if node.has("value"):
        value = tensor(node.get("value"))
    elif node.has("value_int") or node.has("value_ints"):
        value = torch.tensor(node.get("value_int", node.get("value_ints")), dtype=torch.int64)
    elif node.has("value_float") or node.has("value_floats"):
        value = torch.tensor(node.get("value_float", node.get("value_floats")))
    else:
        raise node.refuse("its value is of a kind that is not known here")
    return lambda: (value,)


def _constant_of_shape(node: Node) -> Kernel:
    shape = node.whole(0) or []
    value = node.get("value")
    number = torch.zeros(1) if value is None else tensor(value)
    full = number.reshape(-1)[0].expand(shape).clone()
    return lambda: (full,)


def _reshape(node: Node) -> Kernel:
    asked = node.whole(1) or []
    if node.get("allowzero", 0):
        return lambda x: (x.reshape(asked),)

    def kernel(x: Tensor) -> tuple[Tensor]:
        return (x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(asked)]),)

    return kernel


def _flatten(node: Node) -> Kernel:
    axis = node.get("axis", 1)

    def kernel(x: Tensor) -> tuple[Tensor]:
        at = axis + x.ndim if axis < 0 else axis
        rows = 1
        for n in x.shape[:at]:
            rows *= n
        return (x.reshape(rows, -1),)

    return kernel


def _transpose(node: Node) -> Kernel:
    order = node.ints("perm", ())
    return lambda x: (x.permute(order or list(range(x.ndim))[::-1]),)


def _axes(node: Node, since: int) -> list[int] | None:
    """Axes that are an attribute before an opset and an input from there on."""
    if node.opset >= since:
        return node.whole(1)
    return node.ints("axes", ()) if node.has("axes") else None


def _unsqueeze(node: Node) -> Kernel:
    axes = _axes(node, 13) or []

    def kernel(x: Tensor) -> tuple[Tensor]:
        rank = x.ndim + len(axes)
        for axis in sorted(a % rank for a in axes):
            x = x.unsqueeze(axis)
        return (x,)

    return kernel


def _squeeze(node: Node) -> Kernel:
    axes = _axes(node, 13)
    return lambda x: (x.squeeze() if axes is None else x.squeeze(tuple(axes)),)


def _concat(node: Node) -> Kernel:
    axis = node.get("axis")
    return lambda *tensors: (torch.cat(tensors, axis),)


def _split(node: Node) -> Kernel:
    axis, parts = node.get("axis", 0), node.outputs
    sizes = node.whole(1) if node.opset >= 13 else (node.ints("split", ()) or None)

    def kernel(x: Tensor) -> tuple[Tensor, ...]:
        each = -(-x.shape[axis] // parts)
        return tuple(torch.split(x, each if sizes is None else sizes, axis))

    return kernel


def _slice(node: Node) -> Kernel:
    if node.opset < 10:
        raise node.refuse("before opset 10 its bounds are attributes")
    starts, ends = node.whole(1) or [], node.whole(2) or []
    axes = node.whole(3) or list(range(len(starts)))
    steps = node.whole(4) or [1] * len(starts)
    if min(steps, default=1) < 1:
        raise node.refuse("it steps backwards")

    def kernel(x: Tensor) -> tuple[Tensor]:
        cut = [slice(None)] * x.ndim
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            cut[axis] = slice(start, end, step)
        return (x[tuple(cut)],)

    return kernel


def _gather(node: Node) -> Kernel:
    axis = node.get("axis", 0)

    def kernel(x: Tensor, index: Tensor) -> tuple[Tensor]:
        at = axis % x.ndim
        positive = torch.where(index < 0, index + x.shape[at], index)
        taken = x.index_select(at, positive.reshape(-1))
        return (taken.reshape([*x.shape[:at], *index.shape, *x.shape[at + 1 :]]),)

    return kernel


def _expand(node: Node) -> Kernel:
    shape = node.whole(1) or []
    return lambda x: (x.expand(np.broadcast_shapes(tuple(x.shape), tuple(shape))),)


def _tile(node: Node) -> Kernel:
    repeats = node.whole(1) or []
    return lambda x: (x.repeat(repeats),)


def _pad(node: Node) -> Kernel:
    mode = node.get("mode", "constant")
    kinds = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    if node.opset < 11 or mode not in kinds or node.param(3) is not None:
        raise node.refuse(f"mode {mode} at opset {node.opset}, or chosen axes")
    pads, value = node.whole(1) or [], node.numbers(2)
    rank = len(pads) // 2
    # ONNX: all begins, then all ends; PyTorch: pairs from the last axis on.
    pairs = [n for axis in reversed(range(rank)) for n in (pads[axis], pads[axis + rank])]
    if mode == "constant":
        fill = 0.0 if value is None else value[0]
        return lambda x: (functional.pad(x, pairs, "constant", fill),)
    while pairs[-2:] == [0, 0]:
        pairs = pairs[:-2]
    return lambda x: (functional.pad(x, pairs, kinds[mode]),)


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor], since: int) -> Operator:
    def build(node: Node) -> Kernel:
        axes, keep = _axes(node, since), bool(node.get("keepdims", 1))
        if node.get("noop_with_empty_axes", 0):
            raise node.refuse("noop_with_empty_axes")
        return lambda x: (function(x, axes or list(range(x.ndim)), keep),)

    return Operator(build, (1,))


def _largest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.amax(x, axes, keepdim=keep)


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, axes, keepdim=keep)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.mean(x, axes, keepdim=keep)


OPERATORS = {
    "Relu": _plain(torch.relu),
    "Sigmoid": _plain(torch.sigmoid),
    "Tanh": _plain(torch.tanh),
    "HardSwish": _plain(functional.hardswish),
    "Softplus": _plain(functional.softplus),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Log": _plain(torch.log),
    "Sqrt": _plain(torch.sqrt),
    "Neg": _plain(torch.neg),
    "Abs": _plain(torch.abs),
    "Reciprocal": _plain(torch.reciprocal),
    "Identity": _plain(lambda x: x),
    "Add": _plain(torch.add),
    "Sub": _plain(torch.sub),
    "Mul": _plain(torch.mul),
    "Pow": _plain(torch.pow),
    "MatMul": _plain(torch.matmul),
    "Where": _plain(torch.where),
    "Equal": _plain(torch.eq),
    "Greater": _plain(torch.gt),
    "Less": _plain(torch.lt),
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Div": Operator(_div),
    "LeakyRelu": Operator(_leaky_relu),
    "PRelu": Operator(_prelu),
    "HardSigmoid": Operator(_hard_sigmoid),
    "Elu": Operator(_elu),
    "Gelu": Operator(_gelu),
    "Softmax": Operator(_softmax),
    "LogSoftmax": Operator(_softmax),
    "Clip": Operator(_clip, (1, 2)),
    "Cast": Operator(_cast),
    "Constant": Operator(_constant),
    "ConstantOfShape": Operator(_constant_of_shape, (0,)),
    "Reshape": Operator(_reshape, (1,)),
    "Flatten": Operator(_flatten),
    "Transpose": Operator(_transpose),
    "Unsqueeze": Operator(_unsqueeze, (1,)),
    "Squeeze": Operator(_squeeze, (1,)),
    "Concat": Operator(_concat),
    "Split": Operator(_split, (1,)),
    "Slice": Operator(_slice, (1, 2, 3, 4)),
    "Gather": Operator(_gather),
    "Expand": Operator(_expand, (1,)),
    "Tile": Operator(_tile, (1,)),
    "Pad": Operator(_pad, (1, 2, 3)),
    "ReduceMean": _reduce(_mean, 18),
    "ReduceSum": _reduce(_sum, 13),
    "ReduceMax": _reduce(_largest, 18),
}
