"""ONNX operators with windows, weights and norms, as PyTorch computes them (see `onnxtorch`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hil.net.onnxtorch_node import Kernel, Node, Operator

_CONV: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX_POOL: dict[int, Callable[..., Any]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_AVERAGE_POOL: dict[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def _pads(node: Node, spatial: int) -> tuple[list[int], list[int]]:
    """Return (padding of both sides, what F.pad has to add before where sides differ)."""
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise node.refuse(f"auto_pad {node.get('auto_pad')}: pads must be written out")
    pads = node.ints("pads", [0] * (2 * spatial))
    begins, ends = pads[:spatial], pads[spatial:]
    if begins == ends:
        return begins, []
    uneven = [n for i in reversed(range(spatial)) for n in (begins[i], ends[i])]
    return [0] * spatial, uneven


def _conv(node: Node) -> Kernel:
    group = node.get("group", 1)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor]:
        spatial = weight.ndim - 2
        even, uneven = _pads(node, spatial)
        if uneven:
            x = functional.pad(x, uneven)
        strides, dilations = (node.ints(n, [1] * spatial) for n in ("strides", "dilations"))
        return (_CONV[spatial](x, weight, bias, strides, even, dilations, group),)

    return kernel


def _conv_transpose(node: Node) -> Kernel:
    if node.has("output_shape"):
        raise node.refuse("output_shape: pads must be written out")
    group = node.get("group", 1)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor]:
        spatial = weight.ndim - 2
        even, uneven = _pads(node, spatial)
        if uneven:
            raise node.refuse("pads that differ from side to side")
        more = node.ints("output_padding", [0] * spatial)
        strides, dilations = (node.ints(n, [1] * spatial) for n in ("strides", "dilations"))
        function = _CONV_TRANSPOSE[spatial]
        return (function(x, weight, bias, strides, even, more, group, dilations),)

    return kernel


def _max_pool(node: Node) -> Kernel:
    size = node.ints("kernel_shape", ())
    spatial = len(size)
    even, uneven = _pads(node, spatial)
    strides, dilations = (node.ints(n, [1] * spatial) for n in ("strides", "dilations"))
    ceil = bool(node.get("ceil_mode", 0))
    if node.outputs > 1 or (ceil and uneven):
        raise node.refuse("indices, or ceil_mode with pads that differ from side to side")
    # PyTorch takes no padding beyond half a window.
    if not uneven and any(2 * p > n for p, n in zip(even, size, strict=True)):
        uneven, even = [p for p in reversed(even) for _ in (0, 1)], [0] * spatial

    def kernel(x: Tensor) -> tuple[Tensor]:
        if uneven:
            x = functional.pad(x, uneven, "constant", -torch.inf)
        return (_MAX_POOL[spatial](x, size, strides, even, dilations, ceil),)

    return kernel


def _average_pool(node: Node) -> Kernel:
    size = node.ints("kernel_shape", ())
    spatial = len(size)
    even, uneven = _pads(node, spatial)
    strides = node.ints("strides", [1] * spatial)
    ceil, count = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    if uneven or max(node.ints("dilations", [1])) > 1:
        raise node.refuse("pads that differ from side to side, or dilations")
    return lambda x: (_AVERAGE_POOL[spatial](x, size, strides, even, ceil, count),)


def _over_space(function: Callable[..., Tensor]) -> Operator:
    def build(_: Node) -> Kernel:
        return lambda x: (function(x, list(range(2, x.ndim)), keepdim=True),)

    return Operator(build)


def _batch_norm(node: Node) -> Kernel:
    epsilon = node.get("epsilon", 1e-5)
    if node.get("training_mode", 0):
        raise node.refuse("training_mode")

    def kernel(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor]:
        return (functional.batch_norm(x, mean, var, scale, bias, False, 0.0, epsilon),)

    return kernel


def _instance_norm(node: Node) -> Kernel:
    epsilon = node.get("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> tuple[Tensor]:
        return (functional.instance_norm(x, None, None, scale, bias, True, 0.0, epsilon),)

    return kernel


def _layer_norm(node: Node) -> Kernel:
    epsilon, axis = node.get("epsilon", 1e-5), node.get("axis", -1)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor]:
        return (functional.layer_norm(x, x.shape[axis:], scale, bias, epsilon),)

    if node.outputs > 1:
        raise node.refuse("mean and deviation as outputs")
    return kernel


def _gemm(node: Node) -> Kernel:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    turn_a, turn_b = node.get("transA", 0), node.get("transB", 0)

    def kernel(a: Tensor, b: Tensor, c: Tensor | None = None) -> tuple[Tensor]:
        a, b = a.t() if turn_a else a, b.t() if turn_b else b
        if c is None:
            return (alpha * (a @ b),)
        return (torch.addmm(c, a, b, beta=beta, alpha=alpha),)

    return kernel


# (mode, coordinates) of ONNX as PyTorch calls them: (mode, align_corners).
_RESIZE = {
    ("nearest", "asymmetric"): ("nearest", None),
    ("linear", "half_pixel"): ("linear", False),
    ("linear", "pytorch_half_pixel"): ("linear", False),
    ("linear", "align_corners"): ("linear", True),
    ("cubic", "half_pixel"): ("bicubic", False),
    ("cubic", "pytorch_half_pixel"): ("bicubic", False),
    ("cubic", "align_corners"): ("bicubic", True),
}
_BY_AXES = {("linear", 2): "bilinear", ("linear", 3): "trilinear"}


def _resize(node: Node) -> Kernel:
    if node.opset < 11:
        raise node.refuse("before opset 11 it has no coordinates")
    coordinates = node.get("coordinate_transformation_mode", "half_pixel")
    mode = node.get("mode", "nearest")
    rounding = node.get("nearest_mode", "round_prefer_floor")
    known = _RESIZE.get((mode, coordinates))
    wrong = known is None or (mode == "nearest" and rounding != "floor")
    wrong = wrong or (mode == "cubic" and node.get("cubic_coeff_a", -0.75) != -0.75)
    odd = any(node.get(name, 0) for name in ("antialias", "exclude_outside", "axes"))
    if wrong or odd or known is None:
        raise node.refuse(f"{mode} with {coordinates} coordinates ({rounding}), or an option")
    scales, sizes = node.numbers(2), node.whole(3) or None
    name, corners = known

    def kernel(x: Tensor) -> tuple[Tensor]:
        kept = [1.0, 1.0] if sizes is None else list(x.shape[:2])
        if ((scales or []) if sizes is None else sizes)[:2] != kept:
            raise node.refuse("it resizes batch or channels")
        called = _BY_AXES.get((name, x.ndim - 2), name)
        return (
            functional.interpolate(
                x,
                size=None if sizes is None else sizes[2:],
                scale_factor=None if scales is None or sizes is not None else scales[2:],
                mode=called,
                align_corners=corners,
            ),
        )

    return kernel


OPERATORS = {
    "Conv": Operator(_conv),
    "ConvTranspose": Operator(_conv_transpose),
    "MaxPool": Operator(_max_pool),
    "AveragePool": Operator(_average_pool),
    "GlobalAveragePool": _over_space(torch.mean),
    "GlobalMaxPool": _over_space(torch.amax),
    "BatchNormalization": Operator(_batch_norm),
    "InstanceNormalization": Operator(_instance_norm),
    "LayerNormalization": Operator(_layer_norm),
    "Gemm": Operator(_gemm),
    "Resize": Operator(_resize, (1, 2, 3)),
}
