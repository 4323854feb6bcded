"""What each operation does to channels, as far as it is proven.

A rule looks at one node and returns the labels of its result, or raises `UnprovenError`; then
everything that touches the node is left alone. An operation without a rule is never guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from torch import fx, nn

from hil.net.labels import IntArray
from hil.net.wiring import DimOf, SizeOf, UnprovenError, Value, Walk

Rule = Callable[[Walk, fx.Node], Value]


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
    if not walk.is_tensor(node) and all(_harmless(walk, n) for n in node.all_input_nodes):
        return None
    raise UnprovenError("its effect on channels is not proven")


def _harmless(walk: Walk, node: fx.Node) -> bool:
    value = walk.values.get(node)
    if isinstance(value, DimOf):
        return value.axis != 1
    return value is None and not walk.is_tensor(node)


def _single(walk: Walk, node: fx.Node) -> tuple[fx.Node, IntArray]:
    """The one tensor that the node reads; its other inputs may not depend on channel counts."""
    tensors = [n for n in node.all_input_nodes if walk.is_tensor(n)]
    others = [n for n in node.all_input_nodes if not walk.is_tensor(n)]
    if len(tensors) != 1:
        raise UnprovenError("it reads several tensors")
    if not all(_harmless(walk, n) for n in others):
        raise UnprovenError("it depends on a channel count")
    return tensors[0], walk.labels(tensors[0])


def keep_channels(walk: Walk, node: fx.Node) -> Value:
    """Every channel of the result comes from the same channel of the operand."""
    source, labels = _single(walk, node)
    if walk.shapes.get(node, ())[:2] != walk.shapes[source][:2]:
        raise UnprovenError("it moves the channel axis")
    return labels


def over_space(walk: Walk, node: fx.Node) -> Value:
    """A window or a resize over the axes after the channels."""
    source, _ = _single(walk, node)
    _require_spatial_axes(walk, node, source)
    return keep_channels(walk, node)


def _require_spatial_axes(walk: Walk, node: fx.Node, source: fx.Node) -> None:
    match = re.search(r"([123])d$", title(walk, node))
    axes = len(walk.shapes[source]) - 2
    if axes < 1 or (match is not None and axes != int(match.group(1))):
        raise UnprovenError("its input has no batch axis")


def pad_space(walk: Walk, node: fx.Node) -> Value:
    """`torch.nn.functional.pad` of the axes after the channels."""
    source, _ = _single(walk, node)
    pad = _argument(node, 1, "pad", ())
    if not isinstance(pad, Iterable) or len(list(pad)) > 2 * (len(walk.shapes[source]) - 2):
        raise UnprovenError("it pads the channel axis")
    return keep_channels(walk, node)


def convolve(walk: Walk, node: fx.Node) -> Value:
    """Ordinary and depthwise convolutions; other groupings tie channels in blocks: not proven."""
    module = walk.called(node)
    assert isinstance(module, nn.modules.conv._ConvNd)
    source, labels = _single(walk, node)
    _require_spatial_axes_of(module, len(walk.shapes[source]))
    if module.groups == 1:
        return walk.dense(node, labels, module.out_channels)
    if module.groups == module.in_channels == module.out_channels and not module.transposed:
        walk.kinds[node] = "depthwise"
        return walk.channelwise(node, labels)
    raise UnprovenError(f"{module.groups} groups")


def _require_spatial_axes_of(module: nn.modules.conv._ConvNd, axes: int) -> None:
    if axes != len(module.kernel_size) + 2:
        raise UnprovenError("its input has no batch axis")


def apply_linear(walk: Walk, node: fx.Node) -> Value:
    """A linear layer on (N, features)."""
    module = walk.called(node)
    assert isinstance(module, nn.Linear)
    source, labels = _single(walk, node)
    if len(walk.shapes[source]) != 2:
        raise UnprovenError("it acts on the last axis of a tensor of tokens")
    return walk.dense(node, labels, module.out_features)


def normalise(walk: Walk, node: fx.Node) -> Value:
    """A norm with statistics and parameters of its own for each channel."""
    return walk.channelwise(node, _single(walk, node)[1])


def mix_channels(_walk: Walk, _node: fx.Node) -> Value:
    """A norm over several channels: removing one changes the others."""
    raise UnprovenError("it normalises over several channels")


def apply_prelu(walk: Walk, node: fx.Node) -> Value:
    """PReLU, with one slope or one for each channel."""
    module = walk.called(node)
    assert isinstance(module, nn.PReLU)
    labels = _single(walk, node)[1]
    return labels if module.num_parameters == 1 else walk.channelwise(node, labels)


def combine(walk: Walk, node: fx.Node) -> Value:
    """Arithmetic of two tensors or of a tensor and a number: equal positions go together."""
    if not walk.is_tensor(node):
        return unknown(walk, node)
    operands = [n for n in node.all_input_nodes if walk.is_tensor(n) and not walk.is_scalar(n)]
    others = [n for n in node.all_input_nodes if not walk.is_tensor(n)]
    if not all(_harmless(walk, n) for n in others):
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
    axis = _axis(_argument(node, 1, "dim", node.kwargs.get("axis", 0)), len(walk.shapes[node]))
    if axis == 1:
        return np.concatenate(labels)
    if axis == 0:
        raise UnprovenError("it joins along the batch")
    for other in labels[1:]:
        walk.book.join(labels[0], other)
    return labels[0]


def reduce_space(walk: Walk, node: fx.Node) -> Value:
    """A mean over axes after the channels."""
    source, labels = _single(walk, node)
    rank = len(walk.shapes[source])
    dims = _argument(node, 1, "dim", None)
    dims = (dims,) if isinstance(dims, int) else dims
    if not isinstance(dims, list | tuple) or any(_axis(d, rank) < 2 for d in dims):
        raise UnprovenError("it reduces the channel axis")
    return labels


def change_axes(walk: Walk, node: fx.Node) -> Value:
    """Axes of length one inserted or removed after the channels."""
    source, labels = _single(walk, node)
    rank = max(len(walk.shapes[source]), len(walk.shapes.get(node, ())))
    if _axis(_argument(node, 1, "dim", 0), rank) < 2:
        raise UnprovenError("it moves the channel axis")
    return labels


def flatten(walk: Walk, node: fx.Node) -> Value:
    """(N, C, *S) to (N, C * prod S), or axes after the channels only."""
    source, labels = _single(walk, node)
    before, after = walk.shapes[source], walk.shapes.get(node, ())
    if after[:2] == before[:2]:
        return labels
    return _repeat(labels, before, after)


def _repeat(labels: IntArray, before: tuple[int, ...], after: tuple[int, ...]) -> IntArray:
    """(N, C, *S) laid out as (N, C * prod S): every label covers a run of prod S features."""
    area = math.prod(before[2:])
    if after != (before[0], before[1] * area):
        raise UnprovenError("it moves the channel axis")
    return np.repeat(labels, area)


def reshape(walk: Walk, node: fx.Node) -> Value:
    """A view is proven where axis 1 is written as -1 or as the channel count itself."""
    source = node.args[0]
    labels = walk.labels(source)
    assert isinstance(source, fx.Node)
    sizes = node.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], list | tuple):
        sizes = tuple(sizes[0])
    before, after = walk.shapes[source], walk.shapes.get(node, ())
    if len(sizes) < 2 or len(after) < 2 or after[0] != before[0]:
        raise UnprovenError("it moves the channel axis")
    if not all(_plain_size(walk, size) for size in (sizes[0], *sizes[2:])):
        raise UnprovenError("it depends on a channel count")
    # The axes after the channels must hold as much as before, or channels would be split.
    if after[1] == before[1] and (sizes[1] == -1 or _is_channel_count(walk, sizes[1], labels)):
        return labels
    if sizes[1] == -1:
        return _repeat(labels, before, after)
    raise UnprovenError("its sizes are written as constants")


def _plain_size(walk: Walk, size: Any) -> bool:
    return isinstance(size, int) or (isinstance(size, fx.Node) and _harmless(walk, size))


def _is_channel_count(walk: Walk, size: Any, labels: IntArray) -> bool:
    value = walk.values.get(size) if isinstance(size, fx.Node) else None
    if not isinstance(value, DimOf) or value.axis != 1:
        return False
    return walk.book.same(walk.labels(value.node), labels)


def take_size(walk: Walk, node: fx.Node) -> Value:
    """`x.size()` and `x.size(axis)`."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    axis = _argument(node, 1, "dim", None)
    if axis is None:
        return SizeOf(source)
    return DimOf(source, _axis(axis, len(walk.shapes[source])))


def take_attribute(walk: Walk, node: fx.Node) -> Value:
    """`x.shape` and other facts about a tensor."""
    source, name = node.args[0], node.args[1]
    if isinstance(source, fx.Node) and walk.is_tensor(source):
        if name == "shape":
            return SizeOf(source)
        if name in ("dtype", "device", "ndim"):
            return None
    return unknown(walk, node)


def take_item(walk: Walk, node: fx.Node) -> Value:
    """Indexing of sizes, or of axes after the channels."""
    source, index = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    value = walk.values.get(source)
    if isinstance(value, SizeOf):
        return _pick_size(walk, value, index)
    if not walk.is_tensor(source):
        return unknown(walk, node)
    whole = slice(None)
    if not isinstance(index, tuple) or index[:2] != (whole, whole):
        raise UnprovenError("it picks channels or pictures")
    if any(not isinstance(i, int | slice | type(None)) for i in index):
        raise UnprovenError("its index is computed")
    return walk.labels(source)


def _pick_size(walk: Walk, size: SizeOf, index: Any) -> Value:
    rank = len(walk.shapes[size.node])
    if isinstance(index, int):
        return DimOf(size.node, _axis(index, rank))
    if isinstance(index, slice) and 1 not in range(rank)[index]:
        return None
    raise UnprovenError("it depends on a channel count")


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def _axis(axis: Any, rank: int) -> int:
    if not isinstance(axis, int):
        raise UnprovenError("its axis is computed")
    return axis % rank
