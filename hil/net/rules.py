"""What each operation does to channels, as far as it is proven.

A rule looks at one node and returns the labels of its result, or raises `UnprovenError`; then
everything that touches the node is left alone. An operation without a rule is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from torch import fx, nn

from hil.net.labels import IntArray
from hil.net.wiring import DimOf, UnprovenError, Value, Walk

Rule = Callable[[Walk, fx.Node], Value]
_SMALL_GROUP = 4


def title(walk: Walk, node: fx.Node) -> str:
    """How a reason names the operation: its class or function."""
    if node.op == "call_module":
        return type(walk.called(node)).__name__
    return str(getattr(node.target, "__name__", node.target))


def constant(_walk: Walk, _node: fx.Node) -> Value:
    """A parameter or buffer that is read directly."""
    raise UnprovenError("a tensor of the network's own, not sliced")


def nothing(_walk: Walk, _node: fx.Node) -> Value:
    """A value that no channel count changes."""
    return None


def unknown(walk: Walk, node: fx.Node) -> Value:
    """Numbers computed from harmless numbers are harmless; anything else is not proven."""
    if not walk.is_tensor(node) and all(harmless(walk, n) for n in node.all_input_nodes):
        return None
    raise UnprovenError("its effect on channels is not proven")


def harmless(walk: Walk, node: fx.Node) -> bool:
    """Whether a number depends on no channel count."""
    value = walk.values.get(node)
    if isinstance(value, DimOf):
        return value.axis != 1
    return value is None and not walk.is_tensor(node)


def single(walk: Walk, node: fx.Node) -> tuple[fx.Node, IntArray]:
    """The one tensor that the node reads; its other inputs may not depend on channel counts."""
    tensors = [n for n in node.all_input_nodes if walk.is_tensor(n)]
    others = [n for n in node.all_input_nodes if not walk.is_tensor(n)]
    if len(tensors) != 1:
        raise UnprovenError("it reads several tensors")
    if not all(harmless(walk, n) for n in others):
        raise UnprovenError("it depends on a channel count")
    return tensors[0], walk.labels(tensors[0])


def keep_channels(walk: Walk, node: fx.Node) -> Value:
    """Every channel of the result comes from the same channel of the operand."""
    source, labels = single(walk, node)
    if walk.shapes.get(node, ())[:2] != walk.shapes[source][:2]:
        raise UnprovenError("it moves the channel axis")
    return labels


def over_space(walk: Walk, node: fx.Node) -> Value:
    """A window or a resize over the axes after the channels."""
    source, _ = single(walk, node)
    _require_spatial_axes(walk, node, source)
    return keep_channels(walk, node)


def _require_spatial_axes(walk: Walk, node: fx.Node, source: fx.Node) -> None:
    match = re.search(r"([123])d$", title(walk, node))
    axes = len(walk.shapes[source]) - 2
    if axes < 1 or (match is not None and axes != int(match.group(1))):
        raise UnprovenError("its input has no batch axis")


def pad_space(walk: Walk, node: fx.Node) -> Value:
    """`torch.nn.functional.pad` of the axes after the channels."""
    source, _ = single(walk, node)
    pad = argument(node, 1, "pad", ())
    if not isinstance(pad, Iterable) or len(list(pad)) > 2 * (len(walk.shapes[source]) - 2):
        raise UnprovenError("it pads the channel axis")
    return keep_channels(walk, node)


def convolve(walk: Walk, node: fx.Node) -> Value:
    """Convolutions, grouped, depthwise and transposed ones too.

    Small groups stay or go as a whole; of large ones each keeps the same positions.
    """
    module = walk.called(node)
    assert isinstance(module, nn.modules.conv._ConvNd)
    source, labels = single(walk, node)
    if len(walk.shapes[source]) != len(module.kernel_size) + 2:
        raise UnprovenError("its input has no batch axis")
    groups, width = module.groups, module.in_channels // module.groups
    if groups == 1:
        return walk.dense(node, labels, module.out_channels)
    walk.kinds[node] = "depthwise" if width == 1 else "grouped"
    if width < _SMALL_GROUP:
        return walk.blocks(node, labels, module.out_channels, groups)
    return walk.tied(node, labels, module.out_channels, groups)


def apply_linear(walk: Walk, node: fx.Node) -> Value:
    """A linear layer on (N, features)."""
    module = walk.called(node)
    assert isinstance(module, nn.Linear)
    source, labels = single(walk, node)
    if len(walk.shapes[source]) != 2:
        raise UnprovenError("it acts on the last axis of a tensor of tokens")
    return walk.dense(node, labels, module.out_features)


def normalise(walk: Walk, node: fx.Node) -> Value:
    """A norm with statistics and parameters of its own for each channel."""
    return walk.channelwise(node, single(walk, node)[1])


def mix_channels(_walk: Walk, _node: fx.Node) -> Value:
    """A norm over several channels: removing one changes the others."""
    raise UnprovenError("it normalises over several channels")


def apply_prelu(walk: Walk, node: fx.Node) -> Value:
    """PReLU, with one slope or one for each channel."""
    module = walk.called(node)
    assert isinstance(module, nn.PReLU)
    labels = single(walk, node)[1]
    return labels if module.num_parameters == 1 else walk.channelwise(node, labels)


def combine(walk: Walk, node: fx.Node) -> Value:
    """Arithmetic of two tensors or of a tensor and a number: equal positions go together."""
    if not walk.is_tensor(node):
        return unknown(walk, node)
    operands = [n for n in node.all_input_nodes if walk.is_tensor(n) and not walk.is_scalar(n)]
    others = [n for n in node.all_input_nodes if not walk.is_tensor(n)]
    if not all(harmless(walk, n) for n in others):
        raise UnprovenError("it depends on a channel count")
    if len(operands) == 1:
        return walk.labels(operands[0])
    if len(operands) != 2:
        raise UnprovenError("it does not read one or two tensors")
    left, right = (walk.labels(n) for n in operands)
    if len(walk.shapes[operands[0]]) != len(walk.shapes[operands[1]]):
        raise UnprovenError("its operands have different numbers of axes")
    if len(left) == len(right):
        walk.book.join(left, right)
        return left
    small, large = sorted((left, right), key=len)
    walk.book.freeze(small, "broadcast over all channels")
    return large


def concatenate(walk: Walk, node: fx.Node) -> Value:
    """Channels one after the other, or joined where another axis is concatenated."""
    parts = node.args[0] if node.args else node.kwargs.get("tensors")
    if not isinstance(parts, list | tuple):
        raise UnprovenError("its parts are not written out")
    labels = [walk.labels(part) for part in parts]
    axis = axis_of(argument(node, 1, "dim", node.kwargs.get("axis", 0)), len(walk.shapes[node]))
    if axis == 1:
        return np.concatenate(labels)
    if axis == 0:
        raise UnprovenError("it joins along the batch")
    for other in labels[1:]:
        walk.book.join(labels[0], other)
    return labels[0]


def reduce_space(walk: Walk, node: fx.Node) -> Value:
    """A mean, sum or extreme over axes after the channels."""
    source, labels = single(walk, node)
    rank = len(walk.shapes[source])
    dims = argument(node, 1, "dim", None)
    dims = (dims,) if isinstance(dims, int) else dims
    if not isinstance(dims, list | tuple) or any(axis_of(d, rank) < 2 for d in dims):
        raise UnprovenError("it reduces the channel axis")
    return labels


def argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """An argument of a call, however it was given."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def axis_of(axis: Any, rank: int) -> int:
    """The axis counted from the front."""
    if not isinstance(axis, int):
        raise UnprovenError("its axis is computed")
    return axis % rank
